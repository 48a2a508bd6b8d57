//! Does what is due, one operation at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ducktide_lake::health::Thresholds;
use ducktide_lake::maintenance::{MAINTENANCE_TIMEOUT, Maintained, MergeTotals, Operation as Kind};
use ducktide_lake::units;
use ducktide_lake::{Access, DuckLake, ErrorKind, LakeError};
use jiff::Timestamp;

use crate::config::Config;
use crate::metrics::{Metrics, Outcome};
use crate::pace::{Commits, Pace};
use crate::planner::{self, Due, Operation};
use crate::schedule::Chore;
use crate::worker::Stop;

/// How often the plan is made anew within one pass. Each round merges what the one before left, and
/// what came meanwhile; a few are enough, and a flood of small files must not keep chores waiting.
const ROUNDS: usize = 8;

/// A compactor's hold on its lake.
pub(crate) struct Pass {
    pub(crate) lake: DuckLake,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    stop: Stop,
    pace: Pace,
    tally: Tally,
}

/// How the operations of a pass ended.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    done: usize,
    postponed: usize,
    failed: usize,
    /// Why the first of those that failed did.
    reason: Option<String>,
}

impl Tally {
    fn failed(&mut self, what: &str, error: &LakeError) {
        self.failed += 1;
        self.reason.get_or_insert_with(|| format!("{what}: {}", error.chain()));
    }

    /// Why somebody should be told: something failed, or all that was due has to wait for another
    /// operation or a replay.
    pub(crate) fn undone(self) -> Option<String> {
        let Self { done, postponed, failed, reason } = self;
        if failed == 0 && (postponed == 0 || done > 0) {
            return None;
        }
        let reason = reason.unwrap_or_else(|| {
            "another operation or a replay is under way; it holds the maintenance lock".to_owned()
        });
        Some(format!("{reason}: done=`{done}` failed=`{failed}` postponed=`{postponed}`"))
    }
}

impl Pass {
    /// Opens the lake, with what DuckDB may use.
    pub(crate) fn open(
        config: &Arc<Config>,
        metrics: &Arc<Metrics>,
        stop: &Stop,
    ) -> Result<Self, LakeError> {
        let mut lake = DuckLake::open(&config.lake, Access::Operate)?;
        lake.limit_resources(config.resources.clone())?;
        Ok(Self {
            lake,
            pace: Pace::new(config.share),
            config: Arc::clone(config),
            metrics: Arc::clone(metrics),
            stop: stop.clone(),
            tally: Tally::default(),
        })
    }

    /// How the operations so far ended.
    pub(crate) fn into_tally(self) -> Tally {
        self.tally
    }

    /// Merges what is due, until nothing is left or it is time to stop. What passes is logged, and tried
    /// again when it is due again; what is refused for one table is returned when the others are merged.
    pub(crate) fn merge(&mut self, due: &Due) -> Result<(), LakeError> {
        for _ in 0..ROUNDS {
            let Some(operations) = self.plan(due)? else { return Ok(()) };
            if operations.is_empty() || !self.merge_all(&operations)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What is to be merged; None when the catalog cannot be read for the time being.
    fn plan(&mut self, due: &Due) -> Result<Option<Vec<Operation>>, LakeError> {
        let policy = &self.config.policy;
        let found = self.lake.files_to_merge(policy.target);
        let Some(tables) = passing(found, "look at the files", &mut self.tally)? else {
            return Ok(None);
        };
        let operations = planner::plan(&tables, policy, due, Timestamp::now());
        self.note_backlog(&operations);
        Ok(Some(operations))
    }

    fn note_backlog(&self, operations: &[Operation]) {
        let files = operations.iter().map(Operation::files).sum();
        self.metrics.backlog(files, operations.iter().map(Operation::bytes).sum());
    }

    /// Whether all of it was done.
    fn merge_all(&mut self, operations: &[Operation]) -> Result<bool, LakeError> {
        let (mut complete, mut refused) = (true, Ok(()));
        for (index, operation) in operations.iter().enumerate() {
            if self.stop.is_set() {
                return Ok(false);
            }
            let commits_before = self.committed_ranges()?;
            let started = Instant::now();
            match self.merge_one(operation, operations.len() - index - 1) {
                Ok(done) => complete &= done,
                Err(error) if is_of_one_table(&error) => {
                    let table = &operation.table;
                    tracing::error!(%table, error = error.chain(), "merge refused, operator action required");
                    refused = Err(error);
                }
                Err(error) => return Err(error),
            }
            self.note_backlog(&operations[index + 1..]);
            self.rest(commits_before, started.elapsed())?;
        }
        refused.map(|()| complete)
    }

    /// Whether it was done.
    fn merge_one(&mut self, operation: &Operation, left: usize) -> Result<bool, LakeError> {
        let table = &operation.table;
        let merges: Vec<_> = operation.merges.iter().map(|merge| merge.files.clone()).collect();
        tracing::info!(
            %table,
            files = operation.files(),
            bytes = operation.bytes(),
            partitions = operation.merges.len(),
            operations_left = left,
            "merging"
        );
        let started = Instant::now();
        let mut totals = MergeTotals::default();
        let done =
            self.lake.merge_files(table, &merges, MAINTENANCE_TIMEOUT).map(|(done, merged)| {
                totals = merged;
                done
            });
        self.metrics.merged(totals);
        let done = self.ended(Kind::MergeAdjacentFiles, done, started.elapsed())?;
        if done.is_some() {
            log_merged(operation, totals, started.elapsed());
        }
        Ok(done.is_some())
    }

    /// Leaves the time to consumers that is theirs.
    fn rest(&mut self, commits_before: Option<i64>, within: Duration) -> Result<(), LakeError> {
        let Some(during) = self.commits_since(commits_before, within)? else { return Ok(()) };
        let rest = self.pace.rest_after(during);
        self.metrics.rested(rest, self.pace.gives_way());
        if self.pace.gives_way() {
            tracing::info!(
                rest_ms = units::milliseconds(rest),
                "consumers committed less often during the last operation, giving way"
            );
        }
        if rest.is_zero() || self.stop.is_set() {
            return Ok(());
        }
        let before = self.committed_ranges()?;
        self.stop.wait(rest);
        if let Some(commits) = self.commits_since(before, rest)? {
            self.pace.rested(commits);
        }
        Ok(())
    }

    fn committed_ranges(&mut self) -> Result<Option<i64>, LakeError> {
        // How fast consumers are is a courtesy: nothing is left undone where it is not known.
        passing(self.lake.newest_ledger_id(), "look at the ledger", &mut Tally::default())
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

    /// One of the other things. Errors when it is refused: somebody must look.
    pub(crate) fn chore(&mut self, chore: Chore) -> Result<(), LakeError> {
        let started = Instant::now();
        let (kind, done) = self.do_chore(chore);
        let elapsed_ms = units::milliseconds(started.elapsed());
        match self.ended(kind, done, started.elapsed())? {
            Some(0) => tracing::debug!(elapsed_ms, "{}: nothing to do", kind.as_str()),
            Some(count) => tracing::info!(count, elapsed_ms, "{}: done", kind.as_str()),
            None => {}
        }
        Ok(())
    }

    fn do_chore(&mut self, chore: Chore) -> (Kind, Result<Maintained, LakeError>) {
        let retention = &self.config.retention;
        let (lake, timeout) = (&mut self.lake, MAINTENANCE_TIMEOUT);
        match chore {
            Chore::ExpireSnapshots => {
                (Kind::ExpireSnapshots, lake.expire_snapshots(&retention.of_snapshots(), timeout))
            }
            Chore::CoalesceLedger => {
                let older_than = retention.of_snapshots().older_than;
                (Kind::CoalesceLedger, lake.coalesce_ledger(older_than, timeout))
            }
            Chore::CleanupOldFiles => {
                let older_than = Timestamp::now() - retention.delete_older_than;
                (Kind::CleanupOldFiles, lake.cleanup_old_files(older_than, timeout))
            }
            Chore::RemoveOrphans => {
                (Kind::RemoveOrphans, lake.remove_orphans(&retention.of_orphans(), timeout))
            }
        }
    }

    /// Looks at the lake's health, for the metrics.
    pub(crate) fn look(&mut self) -> Result<(), LakeError> {
        let target = self.config.policy.target;
        let thresholds = Thresholds { default_target_bytes: target, ..Thresholds::default() };
        let health = self.lake.health(&thresholds);
        if let Some(health) = passing(health, "look at the lake's health", &mut self.tally)? {
            self.metrics.lake(&health);
        }
        Ok(())
    }

    /// Counts how an operation ended; what it did, if it did.
    fn ended(
        &mut self,
        kind: Kind,
        done: Result<Maintained, LakeError>,
        took: Duration,
    ) -> Result<Option<u64>, LakeError> {
        let (outcome, count) = match &done {
            Ok(Maintained::Done(count)) => {
                self.tally.done += 1;
                (Outcome::Done, *count)
            }
            Ok(_) => {
                self.tally.postponed += 1;
                (Outcome::Postponed, 0)
            }
            Err(_) => (Outcome::Failed, 0),
        };
        self.metrics.ended(kind, outcome, took, count);
        match passing(done, kind.as_str(), &mut self.tally)? {
            Some(Maintained::Done(count)) => return Ok(Some(count)),
            Some(Maintained::LockNotFree) => {
                tracing::info!(
                    "{}: another operation or a replay is under way, later",
                    kind.as_str()
                );
            }
            Some(Maintained::ReplayAnnounced(intent)) => {
                let table = intent.table;
                tracing::info!(table, holder = intent.holder, "a replay is announced, later");
            }
            None => self.lake.check_leadership()?,
        }
        Ok(None)
    }
}

fn log_merged(operation: &Operation, totals: MergeTotals, took: Duration) {
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
        "merged"
    );
}

/// Whether others can be merged all the same.
pub(crate) fn is_of_one_table(error: &LakeError) -> bool {
    error.kind() != ErrorKind::Unavailable && !error.is_unknown_format()
}

/// None for what passes by itself, which is logged and counted.
fn passing<T>(
    result: Result<T, LakeError>,
    what: &str,
    tally: &mut Tally,
) -> Result<Option<T>, LakeError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            tracing::warn!(error = error.chain(), "{what}: not possible now, later");
            tally.failed(what, &error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_done_is_told_and_what_was_not_due_is_not() {
        assert_eq!(Tally::default().undone(), None);
        assert_eq!(Tally { done: 3, ..Tally::default() }.undone(), None);
        assert_eq!(Tally { done: 3, postponed: 1, ..Tally::default() }.undone(), None);
        let waits = Tally { postponed: 2, ..Tally::default() }.undone().unwrap();
        assert!(waits.contains("maintenance lock") && waits.contains("postponed=`2`"), "{waits}");
        let mut tally = Tally { done: 3, ..Tally::default() };
        for reason in ["read-only", "later"] {
            tally.failed("merge", &LakeError::unavailable(reason));
        }
        assert_eq!(tally.undone().unwrap(), "merge: read-only: done=`3` failed=`2` postponed=`0`");
    }
}
