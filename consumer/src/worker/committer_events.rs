//! Reactions of the worker to events of the committer: batches that are committed or dropped, and positions
//! from which partitions start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ducktide_protocol::StagedFile;
use ducktide_protocol::commit::Commit;
use ducktide_protocol::dedupe::RecentRow;
use ducktide_protocol::position::{Partition, Position, SnapshotId, SourceId};

use super::Worker;
use super::batcher_events::FailedTable;
use super::effect::{ClusterQuery, Effect, join_names};
use crate::batch::batcher::BatcherCommand;
use crate::batch::dead_letter::DeadLetterCounts;
use crate::batch::partial_batch::CommitStats;
use crate::batch::topic_route::TopicRoute;
use crate::commit::event::{CommitterEvent, DropReason};
use crate::commit::request::RecentRowsByPartition;
use crate::error::ConsumerError;
use crate::source::assignment::Generation;
use crate::source::{PartitionStart, SourceCommand, TopicPartition};

impl Worker {
    pub(super) fn handle_committer(&mut self, event: CommitterEvent) {
        match event {
            CommitterEvent::Committed { commit, snapshot_id, elapsed } => {
                let stats = self.batches.end_commit();
                self.blockers.lake_answered();
                for delta in commit.progress() {
                    let topic = self.partition_of(delta.source, delta.partition).topic;
                    if self.blockers.end_topic_refusal(&topic) {
                        self.refusal_lifted();
                    }
                    if self.topics.held.committed(&topic) {
                        self.metrics.batching.held(self.topics.held.len());
                        tracing::info!(topic = &*topic, "files can be written again");
                    }
                }
                self.committed(&commit, stats, snapshot_id, elapsed);
                self.adapt_batchers();
            }
            CommitterEvent::Dropped { reason, unusable } => {
                self.batches.end_commit();
                self.metrics.committing.dropped(reason);
                let trace_id = self.traces.id();
                tracing::warn!(
                    trace_id,
                    reason = reason.as_str(),
                    "batch dropped, reading it again"
                );
                self.traces.dropped(reason.as_str(), self.now);
                if !(mutated!(NoResetAfterFence) && reason == DropReason::Fenced) {
                    self.reset();
                }
                match reason {
                    DropReason::FilesUnusable => {
                        let failed = unusable.iter().map(|table| FailedTable {
                            table,
                            error: "staged files are missing or cannot be made durable".to_owned(),
                            is_fault: false,
                        });
                        self.files_failed(failed.collect());
                    }
                    DropReason::TableChanged => self.tables_changed(),
                    DropReason::Fenced | DropReason::Abandoned => self.load_all(),
                }
            }
            CommitterEvent::Loaded { source, positions, recent, resets } => {
                self.blockers.lake_answered();
                self.queries.positions.answered();
                // An earlier answer may have been read before a commit that was sent before the reset.
                // Another load follows it.
                if resets == self.resets || mutated!(OutdatedLoadAccepted) {
                    self.loaded(source, &positions, recent);
                }
            }
            CommitterEvent::Altered(tables) => {
                self.blockers.lake_answered();
                self.altered(tables);
            }
            CommitterEvent::OutcomeChecked(found) => {
                self.metrics.committing.outcome_checked(found);
            }
            CommitterEvent::Retrying { cause, error } => {
                self.metrics.batching.retried(cause);
                self.blockers.lake_failed(error);
            }
            CommitterEvent::Failed(error) => {
                if self.batches.is_committing() {
                    self.metrics.committing.failed();
                }
                self.batches.end_commit();
                self.traces.dropped("failed", self.now);
                self.reset();
                self.fail(ConsumerError::Lake(error));
            }
        }
    }

    fn committed(
        &mut self,
        commit: &Commit,
        stats: CommitStats,
        snapshot_id: Option<SnapshotId>,
        elapsed: Duration,
    ) {
        self.metrics.committing.committed(commit, elapsed);
        let CommitStats { dead_letters, newest, .. } = stats;
        self.report_dead_letters(commit, &dead_letters);
        let mut mirrored = Vec::new();
        for delta in commit.progress() {
            let partition = self.partition_of(delta.source, delta.partition);
            let newest = newest.get(&(delta.source, delta.partition)).copied();
            self.metrics.lag.record_progress(&partition, delta.range.to, newest);
            self.partitions.set_position(&partition, delta.after());
            // Kafka accepts offsets only from the owner of a partition. A static member that was paused and
            // commits for partitions that it has lost would be fenced permanently.
            if self.partitions.is_owned(&partition) {
                mirrored.push((partition, delta.range.to));
            }
        }
        tracing::info!(
            trace_id = self.traces.id(),
            snapshot_id = snapshot_id.map(|id| id.0),
            rows = commit.rows(),
            files = commit.files().len(),
            partitions = commit.progress().len(),
            elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "batch committed"
        );
        self.traces.committed(commit, snapshot_id, self.now);
        self.send(Effect::Source(SourceCommand::MirrorOffsets(mirrored)));
    }

    /// Logs the number of undecodable records, once for each batch.
    fn report_dead_letters(&self, commit: &Commit, dead_letters: &DeadLetterCounts) {
        if dead_letters.is_empty() {
            return;
        }
        self.metrics.committing.dead_letters_committed(dead_letters);
        let is_dead_letter_file = |file: &&StagedFile| {
            let mut tables =
                self.topics.routes.values().filter_map(|route| route.dead_letters.as_ref());
            tables.any(|table| table.version.table == file.table)
        };
        let files = commit.files().iter().filter(is_dead_letter_file);
        let tables: BTreeSet<_> = files.map(|file| file.table.to_string()).collect();
        let classes: Vec<_> =
            dead_letters.iter().map(|(class, n)| format!("{class}={n}")).collect();
        tracing::warn!(
            trace_id = self.traces.id(),
            tables = tables.into_iter().collect::<Vec<_>>().join(" "),
            records = dead_letters.values().sum::<u64>(),
            classes = classes.join(" "),
            "undecodable records written to the dead letters; see `ducktide dead-letters`"
        );
    }

    fn partition_of(&self, source: SourceId, partition: Partition) -> TopicPartition {
        let route = self.topics.routes.values().find(|route| route.source.id == source);
        let topic = Arc::clone(&route.expect("commits are of our own routes").topic);
        TopicPartition { topic, partition }
    }

    /// Starts the partitions whose positions were loaded.
    fn loaded(
        &mut self,
        source: SourceId,
        positions: &[(Partition, Position)],
        mut recent: RecentRowsByPartition,
    ) {
        let Some(route) = self.topics.routes.values().find(|route| route.source.id == source)
        else {
            return;
        };
        let route = Arc::clone(route);
        let positions: BTreeMap<Partition, Position> = positions.iter().copied().collect();
        let moved = self.partitions.moved_by_operator(&route.topic, &positions);
        self.partitions.record_positions(&route.topic, &positions);
        if !moved.is_empty() && !self.is_ending() {
            tracing::info!(
                partitions = join_names(&moved),
                "partitions replayed or skipped, reading from their new positions"
            );
            self.reset();
            // A commit may be in progress, so the positions are loaded again after it.
            self.load_all();
            return;
        }
        if self.is_ending() || self.topics.held.is_waiting(&route.topic) {
            return;
        }
        let is_prepared = |p: Partition| route.dedupe.is_none() || recent.contains_key(&p);
        let (ready, unknown) = self.partitions.take_loading(&route.topic, &positions, is_prepared);
        if !unknown.is_empty() {
            let topic = Arc::clone(&route.topic);
            self.send(Effect::Query(ClusterQuery::Beginnings { topic, partitions: unknown }));
        }
        let starts: Vec<_> = ready
            .into_iter()
            .map(|(partition, generation, position)| {
                let recent = recent.remove(&partition.partition).unwrap_or_default();
                let batcher = self.begin(&route, &partition, generation, position, recent);
                PartitionStart { partition, generation, offset: position.next_offset, batcher }
            })
            .collect();
        if !starts.is_empty() {
            self.send(Effect::Source(SourceCommand::Start(starts)));
        }
    }

    /// Announces a partition to its batcher. Returns the index of the batcher.
    fn begin(
        &mut self,
        route: &Arc<TopicRoute>,
        partition: &TopicPartition,
        generation: Generation,
        position: Position,
        recent: Vec<RecentRow>,
    ) -> usize {
        tracing::info!(%partition, epoch = position.epoch.0, offset = position.next_offset.0, "partition started");
        self.metrics.lag.start_partition(partition, position.next_offset);
        let index = self.spread.assign(partition);
        let command = BatcherCommand::Begin {
            partition: partition.clone(),
            generation,
            position,
            route: Arc::clone(route),
            recent,
            goal: self.settings.goals.as_ref().and_then(|goals| goals.get(partition).copied()),
        };
        self.send(Effect::Batcher(index, command));
        index
    }
}
