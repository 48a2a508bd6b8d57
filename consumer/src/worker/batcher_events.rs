//! Reactions of the worker to events of the batchers.

use ducktide_protocol::table::TableName;

use super::Worker;
use crate::batch::event::BatcherEvent;
use crate::error::ConsumerError;
use crate::metrics::RetryCause;

/// A table whose files cannot be written or synced.
pub(super) struct FailedTable<'a> {
    pub(super) table: &'a TableName,
    pub(super) error: String,
    /// True if waiting does not resolve the error.
    pub(super) is_fault: bool,
}

impl Worker {
    pub(super) fn handle_batcher(&mut self, event: BatcherEvent) {
        match event {
            BatcherEvent::Opened => {
                self.batches.batch_opened(self.now);
                self.traces.batch_opened(self.now);
            }
            BatcherEvent::Full => self.batches.batch_full(),
            BatcherEvent::GoalReached(partition) => {
                self.partitions.goal_reached(partition);
                let goals = self.settings.goals.as_ref();
                if goals.is_some_and(|goals| self.partitions.has_read_to(goals)) {
                    self.batches.request_flush();
                }
            }
            BatcherEvent::PartialBatch(number, part) => {
                if let Some(batch) = self.batches.add_partial_batch(number, part) {
                    self.record_load(batch.1.worked);
                    self.traces.written(self.now);
                    self.identify_and_commit(batch);
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
                    self.metrics.batching.retried(RetryCause::Registry);
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
                let limit = self.settings.config.bad_records.max_dead_letter_ratio;
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

    /// Holds the topics of tables whose files cannot be written, and reads the others again. Ends the
    /// worker if waiting resolves the error of none of its topics.
    pub(super) fn files_failed(&mut self, failed: Vec<FailedTable<'_>>) {
        let now = self.now;
        self.metrics.batching.retried(RetryCause::Files);
        for FailedTable { table, error, is_fault } in failed {
            let error = format!("{error}: table=`{table}`");
            for route in self.topics.routes.values().filter(|route| route.fills(table)) {
                let topic = &route.topic;
                if self.topics.held.hold(topic, &error, is_fault, now) {
                    tracing::error!(
                        topic = &**topic,
                        error,
                        "files cannot be written, topic held and retried; other topics continue"
                    );
                }
            }
        }
        let topics = self.partitions.topics();
        self.topics.held.shorten_if_all(&topics, now);
        self.metrics.batching.held(self.topics.held.len());
        let faults = topics.iter().map(|topic| self.topics.held.fault(topic));
        let faults = faults.collect::<Option<Vec<_>>>();
        if let Some(fault) = faults.as_ref().and_then(|faults| faults.first()) {
            let fault = (*fault).to_owned();
            self.fail(ConsumerError::Files(fault));
        }
        self.load_all();
    }
}

/// Returns an error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
