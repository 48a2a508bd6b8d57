//! Runs the operations that are due, one at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ducktide_health::Thresholds;
use ducktide_lake::{Access, DuckLake};
use ducktide_maintenance::{
    MAINTENANCE_TIMEOUT, MaintenanceOutcome, MergeTotals, Operation as Kind,
};
use ducktide_protocol::{ErrorKind, LakeError, LakeFault};
use ducktide_service::traces::Traces;
use ducktide_service::units;
use jiff::Timestamp;

use crate::config::Config;
use crate::metrics::{Metrics, OperationOutcome};
use crate::planner::{self, DueTiers, MergeOperation};
use crate::schedule::Task;
use crate::throttle::{Commits, Throttle};
use crate::worker::StopRequest;

/// Number of times that merges are planned in one pass. Each round merges the results of the
/// previous one and new files. A few rounds suffice, and many small files must not delay the other
/// tasks.
const ROUNDS: usize = 8;

/// A pass over an open lake.
pub(crate) struct Pass {
    pub(crate) lake: DuckLake,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    traces: Arc<Traces>,
    stop: StopRequest,
    throttle: Throttle,
    result: PassResult,
}

/// Counts of the operations of a pass, by outcome.
#[derive(Debug, Default)]
pub(crate) struct PassResult {
    done: usize,
    postponed: usize,
    failed: usize,
    /// Error of the first operation that failed.
    reason: Option<String>,
}

impl PassResult {
    fn failed(&mut self, what: &str, error: &LakeError) {
        self.failed += 1;
        self.reason.get_or_insert_with(|| format!("{what}: {}", error.chain()));
    }

    /// Returns the reason if a pass is incomplete: an operation failed, or all due operations were
    /// postponed because of another operation or a replay.
    pub(crate) fn incomplete_reason(self) -> Option<String> {
        let Self { done, postponed, failed, reason } = self;
        if failed == 0 && (postponed == 0 || done > 0) {
            return None;
        }
        let reason = reason.unwrap_or_else(|| {
            "another operation or a replay holds the maintenance lock; run it again later"
                .to_owned()
        });
        Some(format!("{reason}: done=`{done}` failed=`{failed}` postponed=`{postponed}`"))
    }
}

impl Pass {
    /// Opens the lake with the resource limits of the configuration.
    pub(crate) fn open(
        config: &Arc<Config>,
        metrics: &Arc<Metrics>,
        traces: &Arc<Traces>,
        stop: &StopRequest,
    ) -> Result<Self, LakeError> {
        let mut lake = DuckLake::open(&config.lake, Access::Operate)?;
        lake.limit_resources(config.resources.clone())?;
        Ok(Self {
            lake,
            throttle: Throttle::new(config.share),
            config: Arc::clone(config),
            metrics: Arc::clone(metrics),
            traces: Arc::clone(traces),
            stop: stop.clone(),
            result: PassResult::default(),
        })
    }

    /// Returns the counts of the operations so far.
    pub(crate) fn into_result(self) -> PassResult {
        self.result
    }

    /// Merges the due tiers until nothing is left or a stop is requested. An outage is logged, and
    /// the merge is retried when it is due again. An error of a single table is returned after the
    /// other tables are merged.
    pub(crate) fn merge(&mut self, due: &DueTiers) -> Result<(), LakeError> {
        for _ in 0..ROUNDS {
            let Some(operations) = self.plan(due)? else { return Ok(()) };
            if operations.is_empty() || !self.merge_all(&operations)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Plans the due merges; returns None if the catalog is unavailable.
    fn plan(&mut self, due: &DueTiers) -> Result<Option<Vec<MergeOperation>>, LakeError> {
        let policy = &self.config.policy;
        let found = ducktide_maintenance::files_to_merge(&mut self.lake, policy.target);
        let Some(tables) = none_if_unavailable(found, "list the files to merge", &mut self.result)?
        else {
            return Ok(None);
        };
        let operations = planner::plan(&tables, policy, due, Timestamp::now());
        self.update_backlog(&operations);
        Ok(Some(operations))
    }

    fn update_backlog(&self, operations: &[MergeOperation]) {
        let files = operations.iter().map(MergeOperation::files).sum();
        self.metrics.set_backlog(files, operations.iter().map(MergeOperation::bytes).sum());
    }

    /// Runs the operations; returns true if all were done.
    fn merge_all(&mut self, operations: &[MergeOperation]) -> Result<bool, LakeError> {
        let (mut complete, mut failed_table) = (true, Ok(()));
        for (index, operation) in operations.iter().enumerate() {
            if self.stop.is_set() {
                return Ok(false);
            }
            let commits_before = self.committed_ranges()?;
            let started = Instant::now();
            match self.merge_one(operation, operations.len() - index - 1) {
                Ok(done) => complete &= done,
                Err(error) if concerns_one_table(&error) => {
                    let table = &operation.table;
                    tracing::error!(
                        %table,
                        error = error.chain(),
                        "merge failed, operator action required"
                    );
                    failed_table = Err(error);
                }
                Err(error) => return Err(error),
            }
            self.update_backlog(&operations[index + 1..]);
            self.rest(commits_before, started.elapsed())?;
        }
        failed_table.map(|()| complete)
    }

    /// Runs one operation; returns true if it was done.
    fn merge_one(&mut self, operation: &MergeOperation, left: usize) -> Result<bool, LakeError> {
        let table = &operation.table;
        let merges: Vec<_> = operation.merges.iter().map(|merge| merge.files.clone()).collect();
        tracing::info!(
            %table,
            files = operation.files(),
            bytes = operation.bytes(),
            partitions = operation.merges.len(),
            operations_left = left,
            "merge started"
        );
        let started = Instant::now();
        let mut totals = MergeTotals::default();
        let done =
            ducktide_maintenance::merge_files(&mut self.lake, table, &merges, MAINTENANCE_TIMEOUT)
                .map(|(done, merged)| {
                    totals = merged;
                    done
                });
        self.metrics.record_merge(totals);
        let done = self.ended(Kind::MergeAdjacentFiles, done, started.elapsed())?;
        if done.is_some() {
            log_merged(operation, totals, started.elapsed());
        }
        Ok(done.is_some())
    }

    /// Rests, so that consumers get their share of the time.
    fn rest(&mut self, commits_before: Option<i64>, within: Duration) -> Result<(), LakeError> {
        let Some(during) = self.commits_since(commits_before, within)? else { return Ok(()) };
        let rest = self.throttle.rest_after(during);
        self.metrics.record_rest(rest, self.throttle.is_slowing_consumers());
        if self.throttle.is_slowing_consumers() {
            tracing::info!(
                rest_ms = units::milliseconds(rest),
                "consumers committed less often during the last operation, resting longer"
            );
        }
        if rest.is_zero() || self.stop.is_set() {
            return Ok(());
        }
        let before = self.committed_ranges()?;
        self.stop.wait(rest);
        if let Some(commits) = self.commits_since(before, rest)? {
            self.throttle.record_rest(commits);
        }
        Ok(())
    }

    fn committed_ranges(&mut self) -> Result<Option<i64>, LakeError> {
        // The rate of commits only determines the rest; an unknown rate does not stop the
        // operations.
        none_if_unavailable(
            self.lake.newest_ledger_id(),
            "read the ledger",
            &mut PassResult::default(),
        )
    }

    fn commits_since(
        &mut self,
        before: Option<i64>,
        within: Duration,
    ) -> Result<Option<Commits>, LakeError> {
        let after = self.committed_ranges()?;
        let count = before.zip(after).map(|(before, after)| (after - before).unsigned_abs());
        Ok(count.map(|count| Commits { count, within }))
    }

    /// Runs a task other than a merge. Returns an error if it fails in a way that needs operator
    /// action.
    pub(crate) fn run_task(&mut self, task: Task) -> Result<(), LakeError> {
        let started = Instant::now();
        let (kind, done) = self.execute_task(task);
        let elapsed_ms = units::milliseconds(started.elapsed());
        match self.ended(kind, done, started.elapsed())? {
            Some(0) => tracing::debug!(elapsed_ms, "{}: nothing to do", kind.as_str()),
            Some(count) => tracing::info!(count, elapsed_ms, "{}: done", kind.as_str()),
            None => {}
        }
        Ok(())
    }

    fn execute_task(&mut self, task: Task) -> (Kind, Result<MaintenanceOutcome, LakeError>) {
        let retention = &self.config.retention;
        let (lake, timeout) = (&mut self.lake, MAINTENANCE_TIMEOUT);
        match task {
            Task::ExpireSnapshots => (
                Kind::ExpireSnapshots,
                ducktide_maintenance::expire_snapshots(
                    lake,
                    &retention.snapshot_retention(),
                    timeout,
                ),
            ),
            Task::CoalesceLedger => {
                let older_than = retention.snapshot_retention().older_than;
                (
                    Kind::CoalesceLedger,
                    ducktide_maintenance::coalesce_ledger(lake, older_than, timeout),
                )
            }
            Task::CleanupOldFiles => {
                let older_than = Timestamp::now() - retention.delete_older_than;
                (
                    Kind::CleanupOldFiles,
                    ducktide_maintenance::cleanup_old_files(lake, older_than, timeout),
                )
            }
            Task::RemoveOrphans => (
                Kind::RemoveOrphans,
                ducktide_maintenance::remove_orphans(lake, &retention.orphan_policy(), timeout),
            ),
        }
    }

    /// Measures the lake's health for the metrics.
    pub(crate) fn refresh_health(&mut self) -> Result<(), LakeError> {
        let target = self.config.policy.target;
        let thresholds = Thresholds { default_target_bytes: target, ..Thresholds::default() };
        let health = ducktide_health::read(&mut self.lake, &thresholds);
        if let Some(health) =
            none_if_unavailable(health, "measure the lake's health", &mut self.result)?
        {
            self.metrics.set_health(&health);
        }
        Ok(())
    }

    /// Counts and traces the outcome of an operation; returns the number of items if it was done.
    fn ended(
        &mut self,
        kind: Kind,
        done: Result<MaintenanceOutcome, LakeError>,
        took: Duration,
    ) -> Result<Option<u64>, LakeError> {
        let (outcome, count) = match &done {
            Ok(MaintenanceOutcome::Done(count)) => {
                self.result.done += 1;
                (OperationOutcome::Done, *count)
            }
            Ok(_) => {
                self.result.postponed += 1;
                (OperationOutcome::Postponed, 0)
            }
            Err(_) => (OperationOutcome::Failed, 0),
        };
        self.metrics.record_operation(kind, outcome, took, count);
        let now = Instant::now();
        let trace = self.traces.start(kind.as_str(), now.checked_sub(took).unwrap_or(now));
        trace.set("count", i64::try_from(count).unwrap_or(i64::MAX));
        trace.end(now, done.as_ref().err().map(LakeError::chain).as_deref());
        match none_if_unavailable(done, kind.as_str(), &mut self.result)? {
            Some(MaintenanceOutcome::Done(count)) => return Ok(Some(count)),
            Some(MaintenanceOutcome::LockNotFree) => {
                tracing::info!(
                    "{}: maintenance lock held by another operation or replay, postponed",
                    kind.as_str()
                );
            }
            Some(MaintenanceOutcome::ReplayAnnounced(intent)) => {
                let table = intent.table;
                tracing::info!(table, holder = intent.holder, "replay announced, postponed");
            }
            None => self.lake.check_leadership()?,
        }
        Ok(None)
    }
}

fn log_merged(operation: &MergeOperation, totals: MergeTotals, took: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a speed")]
    let speed = totals.bytes_read as f64 / took.as_secs_f64() / 1e6;
    tracing::info!(
        table = %operation.table,
        files_read = totals.files_read,
        files_written = totals.files_written,
        bytes_read = totals.bytes_read,
        bytes_written = totals.bytes_written,
        elapsed_ms = units::milliseconds(took),
        megabytes_per_second = format_args!("{speed:.0}"),
        "files merged"
    );
}

/// Reports that other tables may still be merged after this error.
pub(crate) fn concerns_one_table(error: &LakeError) -> bool {
    error.kind() != ErrorKind::Unavailable
        && !error.fault().is_some_and(LakeFault::concerns_whole_lake)
}

/// Converts an outage into None; logs and counts it.
fn none_if_unavailable<T>(
    result: Result<T, LakeError>,
    what: &str,
    pass_result: &mut PassResult,
) -> Result<Option<T>, LakeError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            tracing::warn!(error = error.chain(), "{what}: lake unavailable, postponed");
            pass_result.failed(what, &error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_reports_operations_that_could_not_be_done() {
        assert_eq!(PassResult::default().incomplete_reason(), None);
        assert_eq!(PassResult { done: 3, ..PassResult::default() }.incomplete_reason(), None);
        assert_eq!(
            PassResult { done: 3, postponed: 1, ..PassResult::default() }.incomplete_reason(),
            None
        );
        let waits =
            PassResult { postponed: 2, ..PassResult::default() }.incomplete_reason().unwrap();
        assert!(waits.contains("maintenance lock") && waits.contains("postponed=`2`"), "{waits}");
        let mut result = PassResult { done: 3, ..PassResult::default() };
        for reason in ["read-only", "later"] {
            result.failed("merge", &LakeError::unavailable(reason));
        }
        assert_eq!(
            result.incomplete_reason().unwrap(),
            "merge: read-only: done=`3` failed=`2` postponed=`0`"
        );
    }

    #[test]
    fn a_fault_of_the_whole_lake_or_an_outage_ends_the_pass() {
        let triggers = LakeFault::TriggersMissing { found: 3, needed: 4 };

        assert!(!concerns_one_table(&LakeError::from_fault(triggers)));
        assert!(!concerns_one_table(&LakeError::from_fault(LakeFault::NotInstalled)));
        assert!(!concerns_one_table(&LakeError::unavailable("later")));
        assert!(concerns_one_table(&LakeError::invalid("the table has two files of one name")));
    }
}
