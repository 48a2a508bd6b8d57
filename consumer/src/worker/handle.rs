//! Reactions of the worker to events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ducktide_protocol::StagedFile;
use ducktide_protocol::commit::Commit;
use ducktide_protocol::dedupe::RecentRow;
use ducktide_protocol::position::{Offset, Partition, Position, SourceId};
use ducktide_protocol::table::TableName;
use jiff::Timestamp;

use super::{IdentityCheck, Revocation, Worker, join_names};
use crate::batch::batcher::BatcherCommand;
use crate::batch::dead_letter::DeadLetterCounts;
use crate::batch::event::BatcherEvent;
use crate::batch::partial_batch::{self, CommitStats};
use crate::batch::topic_route::TopicRoute;
use crate::commit::event::{CommitterEvent, DropReason};
use crate::commit::request::{CommitterRequest, RecentRowsByPartition};
use crate::error::ConsumerError;
use crate::event::Event;
use crate::metrics::{Rebalance, RetryCause};
use crate::source::ClusterAnswer;
use crate::source::assignment::Generation;
use crate::source::inspect::{Identity, Watermarks};
use crate::source::{SourceCommand, SourceEvent, TopicPartition};

/// A table whose files cannot be written or synced.
struct FailedTable<'a> {
    table: &'a TableName,
    error: String,
    /// True if waiting does not resolve the error.
    is_fault: bool,
}

impl Worker {
    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Source(event) => self.handle_source(event),
            Event::Batcher(event) => self.handle_batcher(event),
            Event::Committer(event) => self.handle_committer(event),
            Event::Cluster(event) => self.handle_cluster_answer(event),
            Event::TopicOpened(opened) => self.opened(*opened),
        }
    }

    fn handle_source(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned(partitions) => {
                tracing::info!(partitions = join_names(&partitions), "partitions assigned");
                let mut topics = partitions.iter().map(|partition| &partition.topic);
                if self.blockers.end_group_refusal()
                    || topics.any(|topic| self.blockers.end_topic_refusal(topic))
                {
                    self.refusal_lifted();
                }
                self.partitions.assigned(&partitions);
                self.deps.metrics.reading.assigned(self.partitions.len());
                self.deps.metrics.reading.rebalanced(Rebalance::Assigned);
                if let Some(check) = &mut self.owner_check {
                    check.assigned(Instant::now());
                }
                self.identify(self.partitions.topics_loading());
                self.open_new_topics();
            }
            SourceEvent::Revoking { partitions, lost, done } => {
                tracing::info!(partitions = join_names(&partitions), lost, "partitions revoked");
                let event = if lost { Rebalance::Lost } else { Rebalance::Revoked };
                self.deps.metrics.reading.rebalanced(event);
                self.revoke(partitions, lost, done);
            }
            SourceEvent::OutOfRange(partition, error) => {
                tracing::debug!(%partition, error, "offset out of range, querying the offsets of the partition");
                self.partitions.stop(&partition);
                // A topic that was created again usually has fewer records.
                self.identify([Arc::clone(&partition.topic)].into());
                self.deps.queries.find_range(partition);
            }
            SourceEvent::NameTaken => {
                let name = self.deps.config.source.group_instance_id.clone();
                self.fail(ConsumerError::NameTaken(name.unwrap_or_default()));
            }
            SourceEvent::NameHeld => {
                let group_instance_id = self.deps.config.source.group_instance_id.as_deref();
                tracing::warn!(
                    group_instance_id,
                    "another member of the group has this worker's --group-instance-id; waiting until it \
                     leaves or its session ends"
                );
                self.blockers.set_name_held(true);
            }
            SourceEvent::NameReleased => {
                tracing::info!("the group has released this worker's --group-instance-id");
                self.blockers.set_name_held(false);
            }
            SourceEvent::Refused { topic, refusal } => self.refused(topic, refusal),
            SourceEvent::Fatal(text) => self.fail(ConsumerError::Kafka(text)),
            SourceEvent::Closed => unreachable!("the loop ends at this event"),
        }
    }

    /// Records a refusal of Kafka. It is reported at each attempt and logged once.
    fn refused(&mut self, topic: Option<Arc<str>>, refusal: String) {
        self.deps.metrics.batching.retried(RetryCause::Kafka);
        self.deps.metrics.reading.refused(true);
        if self.blockers.is_new_refusal(&refusal) {
            tracing::error!(error = refusal, "Kafka refuses a request, retrying");
        }
        self.blockers.refused(topic, refusal, Instant::now());
    }

    fn refusal_lifted(&self) {
        self.deps.metrics.reading.refused(false);
        tracing::info!("Kafka no longer refuses the request");
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>, lost: bool, done: mpsc::SyncSender<()>) {
        if self.shutdown.as_ref().is_some_and(|shutdown| shutdown.closing) {
            // All records are committed or dropped.
            drop(done);
            return;
        }
        let now = Instant::now();
        // Commits for lost partitions would be rejected, and would delay their next owner.
        let wait = if lost { Duration::ZERO } else { self.deps.config.process.revocation_timeout };
        self.revocation = Some(Revocation { partitions, done, deadline: now + wait, cut: false });
        self.flush.request_flush();
    }

    fn handle_batcher(&mut self, event: BatcherEvent) {
        match event {
            BatcherEvent::Opened => self.flush.batch_opened(Instant::now()),
            BatcherEvent::Full => self.flush.batch_full(),
            BatcherEvent::GoalReached(partition) => {
                self.partitions.goal_reached(partition);
                if self.goals.as_ref().is_some_and(|goals| self.partitions.has_read_to(goals)) {
                    self.flush.request_flush();
                }
            }
            BatcherEvent::PartialBatch(number, part) => {
                if let Some(parts) = self.flush.add_partial_batch(number, part)
                    && let Some((commit, commit_stats)) = partial_batch::merge(parts)
                {
                    self.flush.commit_sent();
                    self.blockers.commit_started(Instant::now());
                    self.commit_stats = commit_stats;
                    self.identify_and_commit(commit);
                }
            }
            BatcherEvent::StagingFailed(failed) => {
                self.reset();
                let failed = failed.iter().map(|(table, error)| FailedTable {
                    table,
                    error: chain(error),
                    is_fault: error.is_fault(),
                });
                self.files_failed(failed.collect());
            }
            BatcherEvent::Registry { batcher, waits_for } => {
                if waits_for.is_some() {
                    self.deps.metrics.batching.retried(RetryCause::Registry);
                }
                self.blockers.set_registry_error(batcher, waits_for);
            }
            BatcherEvent::ColumnsMissing { table, columns } => {
                self.columns_missing(&table, columns);
            }
            BatcherEvent::BadRecord { partition, offset, failure } => {
                self.end(Err(ConsumerError::of_record(partition, offset, failure)));
            }
            BatcherEvent::TooManyBadRecords { partition, offset, failure, ratio } => {
                // Dropped rather than committed, so that a worker that is restarted repeatedly does not
                // write a whole topic to the dead letters, batch by batch.
                self.reset();
                let limit = self.deps.config.bad_records.max_dead_letter_ratio;
                self.fail(ConsumerError::TooManyBadRecords {
                    partition,
                    offset,
                    failure,
                    ratio,
                    limit,
                });
            }
            BatcherEvent::Exhausted => {
                tracing::info!("--max-rows reached");
                self.end(Ok(()));
            }
        }
    }

    fn handle_committer(&mut self, event: CommitterEvent) {
        match event {
            CommitterEvent::Committed { commit, snapshot_id, elapsed } => {
                self.commit_ended();
                self.blockers.lake_answered();
                for delta in commit.progress() {
                    let topic = self.partition_of(delta.source, delta.partition).topic;
                    if self.blockers.end_topic_refusal(&topic) {
                        self.refusal_lifted();
                    }
                    if self.held_topics.committed(&topic) {
                        self.deps.metrics.batching.held(self.held_topics.len());
                        tracing::info!(topic = &*topic, "files can be written again");
                    }
                }
                self.committed(&commit, snapshot_id.map(|id| id.0), elapsed);
            }
            CommitterEvent::Dropped { reason, unusable } => {
                self.commit_ended();
                self.deps.metrics.committing.dropped(reason);
                tracing::warn!(reason = reason.as_str(), "batch dropped, reading it again");
                self.reset();
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
            CommitterEvent::Loaded { source, positions, recent } => {
                self.blockers.lake_answered();
                self.loaded(source, &positions, recent);
            }
            CommitterEvent::Altered(tables) => {
                self.blockers.lake_answered();
                self.altered(tables);
            }
            CommitterEvent::OutcomeChecked(found) => {
                self.deps.metrics.committing.outcome_checked(found);
            }
            CommitterEvent::Retrying { cause, error } => {
                self.deps.metrics.batching.retried(cause);
                self.blockers.lake_failed(error);
            }
            CommitterEvent::Failed(error) => {
                if self.flush.is_committing() {
                    self.deps.metrics.committing.failed();
                }
                self.commit_ended();
                self.reset();
                self.fail(ConsumerError::Lake(error));
            }
        }
    }

    /// Holds the topics of tables whose files cannot be written, and reads the others again. Ends the
    /// worker if waiting resolves the error of none of its topics.
    fn files_failed(&mut self, failed: Vec<FailedTable<'_>>) {
        let now = Instant::now();
        self.deps.metrics.batching.retried(RetryCause::Files);
        for FailedTable { table, error, is_fault } in failed {
            let error = format!("{error}: table=`{table}`");
            for route in self.routes.values().filter(|route| route.fills(table)) {
                let topic = &route.topic;
                if self.held_topics.hold(topic, &error, is_fault, now) {
                    tracing::error!(
                        topic = &**topic,
                        error,
                        "files cannot be written, topic held and retried; other topics continue"
                    );
                }
            }
        }
        let topics = self.partitions.topics();
        self.held_topics.shorten_if_all(&topics, now);
        self.deps.metrics.batching.held(self.held_topics.len());
        let faults = topics.iter().map(|topic| self.held_topics.fault(topic));
        let faults = faults.collect::<Option<Vec<_>>>();
        if let Some(fault) = faults.as_ref().and_then(|faults| faults.first()) {
            self.fail(ConsumerError::Files((*fault).to_owned()));
        }
        self.load_all();
    }

    pub(super) fn commit_ended(&mut self) {
        self.flush.commit_ended();
        self.blockers.commit_ended();
    }

    fn handle_cluster_answer(&mut self, event: ClusterAnswer) {
        let error = match &event {
            ClusterAnswer::Unanswered(error) => Some(error),
            _ => None,
        };
        // A group that is not described does not indicate an outage.
        if !matches!(event, ClusterAnswer::Readers { .. } | ClusterAnswer::Unowned { .. }) {
            self.blockers.set_kafka_error(error, Instant::now());
        }
        match event {
            ClusterAnswer::Readers { partitions, members } => {
                self.found_readers(&partitions, members.as_deref());
            }
            ClusterAnswer::Unowned { question, partitions } => {
                self.found_unowned(question, partitions);
            }
            ClusterAnswer::Unanswered(_) => {
                self.is_finding_ends = false;
                self.deps.metrics.batching.retried(RetryCause::Kafka);
            }
            ClusterAnswer::Ends(ends) => {
                self.is_finding_ends = false;
                self.deps.metrics.lag.record_ends(&ends, now_ms());
            }
            ClusterAnswer::Identity { topic, identity, question } => {
                self.identified(&topic, identity, question);
            }
            ClusterAnswer::Beginnings { topic, starts } => self.load(&topic, starts),
            ClusterAnswer::Range { partition, watermarks } => {
                let offset = self.partitions.next_offset(&partition);
                let route = self.routes.get(&partition.topic).cloned();
                tracing::error!(
                    topic = %partition.topic, partition = partition.partition.0,
                    offset = offset.map(|offset| offset.0),
                    low_watermark = watermarks.low, high_watermark = watermarks.high,
                    resolve_with = remedy_commands(route.as_deref(), &partition, offset, watermarks),
                    "Kafka does not have the lake's offset, partition stopped; others continue"
                );
            }
        }
    }

    /// Queries the ids of topics. Returns the number of the query.
    pub(super) fn identify(&mut self, topics: BTreeSet<Arc<str>>) -> u64 {
        self.question += 1;
        for topic in topics {
            self.deps.queries.identify(topic, self.question);
        }
        self.question
    }

    fn identify_and_commit(&mut self, commit: Commit) {
        let sources: BTreeSet<_> = commit.progress().iter().map(|delta| delta.source).collect();
        let routes = self.routes.values().filter(|route| sources.contains(&route.source.id));
        let topics: BTreeSet<_> = routes.map(|route| Arc::clone(&route.topic)).collect();
        let question = self.identify(topics.clone());
        self.identity_check = Some(IdentityCheck { commit, question, topics });
    }

    fn identified(&mut self, topic: &Arc<str>, identity: Identity, question: u64) {
        let Some(route) = self.routes.get(topic) else { return };
        let mut seen = route.source.spec.clone();
        (seen.cluster_id, seen.topic_id) = (identity.cluster_id, identity.topic_id);
        if let Err(error) = route.source.check_identity(&seen) {
            self.reset();
            self.fail(ConsumerError::Identity(error));
            return;
        }
        if self.partitions.topics_loading().contains(topic) {
            self.load(topic, Vec::new());
        }
        // An answer to an earlier query does not cover records that were read since.
        if let Some(waiting) = self.identity_check.as_mut().filter(|w| w.question == question) {
            waiting.topics.remove(topic);
        }
        if let Some(ready) = self.identity_check.take_if(|waiting| waiting.topics.is_empty()) {
            self.committer.send(CommitterRequest::Commit(ready.commit));
        }
    }

    fn committed(&mut self, commit: &Commit, snapshot_id: Option<i64>, elapsed: Duration) {
        self.deps.metrics.committing.committed(commit, elapsed);
        let CommitStats { dead_letters, newest } = std::mem::take(&mut self.commit_stats);
        self.report_dead_letters(commit, &dead_letters);
        let mut mirrored = Vec::new();
        for delta in commit.progress() {
            let partition = self.partition_of(delta.source, delta.partition);
            let newest = newest.get(&(delta.source, delta.partition)).copied();
            self.deps.metrics.lag.record_progress(&partition, delta.range.to, newest);
            self.partitions.set_position(&partition, delta.after());
            // Kafka accepts offsets only from the owner of a partition. A static member that was paused and
            // commits for partitions that it has lost would be fenced permanently.
            if self.partitions.is_owned(&partition) {
                mirrored.push((partition, delta.range.to));
            }
        }
        tracing::info!(
            snapshot_id,
            rows = commit.rows(),
            files = commit.files().len(),
            partitions = commit.progress().len(),
            elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            "batch committed"
        );
        self.source.send(SourceCommand::MirrorOffsets(mirrored));
    }

    /// Logs the number of undecodable records, once for each batch.
    fn report_dead_letters(&self, commit: &Commit, dead_letters: &DeadLetterCounts) {
        if dead_letters.is_empty() {
            return;
        }
        self.deps.metrics.committing.dead_letters_committed(dead_letters);
        let is_dead_letter_file = |file: &&StagedFile| {
            let mut tables = self.routes.values().filter_map(|route| route.dead_letters.as_ref());
            tables.any(|table| table.version.table == file.table)
        };
        let files = commit.files().iter().filter(is_dead_letter_file);
        let tables: BTreeSet<_> = files.map(|file| file.table.to_string()).collect();
        let classes: Vec<_> =
            dead_letters.iter().map(|(class, n)| format!("{class}={n}")).collect();
        tracing::warn!(
            tables = tables.into_iter().collect::<Vec<_>>().join(" "),
            records = dead_letters.values().sum::<u64>(),
            classes = classes.join(" "),
            "undecodable records written to the dead letters; see `ducktide dead-letters`"
        );
    }

    fn partition_of(&self, source: SourceId, partition: Partition) -> TopicPartition {
        let route = self.routes.values().find(|route| route.source.id == source);
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
        let Some(route) = self.routes.values().find(|route| route.source.id == source) else {
            return;
        };
        let route = Arc::clone(route);
        self.is_refreshing = false;
        let positions: BTreeMap<Partition, Position> = positions.iter().copied().collect();
        let moved = self.partitions.moved_by_operator(&route.topic, &positions);
        self.partitions.record_positions(&route.topic, &positions);
        if !moved.is_empty() && self.shutdown.is_none() {
            tracing::info!(
                partitions = join_names(&moved),
                "partitions replayed or skipped, reading from their new positions"
            );
            self.reset();
            // A commit may be in progress, so the positions are loaded again after it.
            self.load_all();
            return;
        }
        if self.shutdown.is_some() || self.held_topics.is_waiting(&route.topic) {
            return;
        }
        let is_prepared = |p: Partition| route.dedupe.is_none() || recent.contains_key(&p);
        let (ready, unknown) = self.partitions.take_loading(&route.topic, &positions, is_prepared);
        if !unknown.is_empty() {
            self.deps.queries.find_beginnings(Arc::clone(&route.topic), unknown);
        }
        let starts: Vec<_> = ready
            .into_iter()
            .map(|(partition, generation, position)| {
                let recent = recent.remove(&partition.partition).unwrap_or_default();
                self.begin(&route, &partition, generation, position, recent);
                (partition, generation, position.next_offset)
            })
            .collect();
        if !starts.is_empty() {
            self.source.send(SourceCommand::Start(starts));
        }
    }

    /// Announces a partition to its batcher, which is chosen as in the poll thread.
    fn begin(
        &self,
        route: &Arc<TopicRoute>,
        partition: &TopicPartition,
        generation: Generation,
        position: Position,
        recent: Vec<RecentRow>,
    ) {
        tracing::info!(%partition, epoch = position.epoch.0, offset = position.next_offset.0, "partition started");
        self.deps.metrics.lag.start_partition(partition, position.next_offset, now_ms());
        let index = crate::source::batcher_of(partition, self.batchers.len());
        self.batchers[index].send(BatcherCommand::Begin {
            partition: partition.clone(),
            generation,
            position,
            route: Arc::clone(route),
            recent,
            goal: self.goals.as_ref().and_then(|goals| goals.get(partition).copied()),
        });
    }
}

/// Returns the command that resolves a stopped partition: skip the records that Kafka no longer has, or
/// replay those that it has.
fn remedy_commands(
    route: Option<&TopicRoute>,
    partition: &TopicPartition,
    offset: Option<Offset>,
    watermarks: Watermarks,
) -> String {
    let table = route.map(|s| format!(" --table {}", s.source.spec.table)).unwrap_or_default();
    let (topic, number) = (&partition.topic, partition.partition);
    let place = format!("--topic {topic} --partition {number}{table}");
    let Watermarks { low, high } = watermarks;
    if offset.is_some_and(|offset| offset.0 < low) {
        format!("ducktide skip {place} --to-offset {low}")
    } else {
        format!("ducktide replay {place} --from-offset {high}")
    }
}

/// Returns the current time in milliseconds since 1970.
fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Returns an error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
