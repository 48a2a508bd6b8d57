//! Transaction of a replay, retried until it is applied or refused.
//!
//! As with a commit, the outcome is read from the catalog and never from an error's text: the ledger has the
//! replay's own row, at its epoch, or it does not.

use std::thread;
use std::time::Duration;

use ducktide_lake::catalog;
use ducktide_lake::catalog::intent::{self, Intent, IntentKind};
use ducktide_lake::catalog::ledger::{self, Applied};
use ducktide_lake::catalog::lock::CommitLock;
use ducktide_lake::duckdb_error;
use ducktide_lake::register_files;
use ducktide_lake::session::{LAKE, Session, quote};
use ducktide_lake::storage;
use ducktide_protocol::commit::{CommitKind, CommitMessage, ProgressDelta};
use ducktide_protocol::error::{ErrorKind, LakeError, Result};
use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::{Offset, OffsetRange, Partition, Position, SnapshotId};
use jiff::Timestamp;

use super::files::{AffectedFile, HidingColumn, ReplayTarget};
use super::history::{DividedRows, History};
use super::missing::{AUTHOR, MissingFiles};
use super::plan::ReplayStep;
use super::request::{ReplayRequest, ReplaySummary};
use super::retained::RetainedRows;
use super::snapshot;

/// Pause between two attempts: other clients have just committed.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Maximum number of reads of the outcome after a COMMIT whose answer was lost.
const OUTCOME_ATTEMPTS: u32 = 60;

/// One replay, under its locks.
pub(super) struct Replay<'a> {
    session: &'a Session,
    request: &'a ReplayRequest,
    targets: Vec<ReplayTarget>,
    /// Missing files, all of whose rows this replay takes back.
    missing: MissingFiles,
    retained: RetainedRows,
}

/// Changes of one transaction.
struct ReplayPlan {
    steps: Vec<ProgressDelta>,
    /// Files with removed rows, of each target.
    affected: Vec<Vec<AffectedFile>>,
    /// Column of each target that hides the file of a row.
    hiding: Vec<Option<HidingColumn>>,
    summary: ReplaySummary,
}

impl<'a> Replay<'a> {
    pub(super) fn new(
        session: &'a Session,
        request: &'a ReplayRequest,
        targets: Vec<ReplayTarget>,
        missing: MissingFiles,
    ) -> Self {
        Self { session, request, targets, missing, retained: RetainedRows::default() }
    }

    /// Returns the effect of the replay on the present snapshot.
    pub(super) fn plan(&self) -> Result<ReplaySummary> {
        self.read_consistently().map(|plan| plan.summary)
    }

    /// Returns the effect by the ledger, where missing files prevent reading the tables.
    pub(super) fn plan_by_ledger(&self) -> Result<ReplaySummary> {
        let steps = self.retry_while_moving(&|steps| self.deltas(steps))?;
        let mut summary = summary(&steps, &[]);
        let removed = summary.removed();
        summary.rows = removed.rows.unsigned_abs();
        summary.dead_letter_rows = removed.dead.unsigned_abs();
        self.add_missing(&mut summary);
        Ok(summary)
    }

    /// Ends the missing files, so that the tables can be read.
    pub(super) fn end_missing(&self, intent: &mut Intent, lock: &mut CommitLock) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        self.renew(intent, IntentKind::Replay)?;
        let guard = lock.acquire(self.session)?;
        self.missing.end(self.session)?;
        drop(guard);
        failpoint::reached(Failpoint::MissingFilesEnded);
        tracing::warn!(
            files = self.missing.files,
            rows = self.missing.rows,
            "missing data files ended, their rows are read from Kafka again"
        );
        Ok(())
    }

    fn add_missing(&self, summary: &mut ReplaySummary) {
        summary.files_missing = self.missing.files;
        summary.rows_missing = self.missing.rows;
    }

    /// Writes the retained rows of straddling files, before any worker waits for the replay.
    pub(super) fn prepare(&mut self, intent: &mut Intent) -> Result<()> {
        // The intent is renewed outside of the reading transaction: inside, it would be rolled back with
        // it, hold the write lock of a SQLite catalog while files are written, and abort the transaction
        // when the catalog is busy. If another client changes a file meanwhile, the attempt notices and
        // writes its retained rows again.
        let plan = self.read_consistently()?;
        self.write_retained(&plan, &mut |replay| replay.renew(intent, IntentKind::Prepare))
    }

    /// Runs the transaction, each attempt on the present state of the lake.
    pub(super) fn run(
        &mut self,
        intent: &mut Intent,
        lock: &mut CommitLock,
    ) -> Result<ReplaySummary> {
        let mut last: Option<LakeError> = None;
        for attempt in 0..self.request.attempts {
            if attempt > 0 {
                thread::sleep(RETRY_PAUSE);
            }
            // From here on workers wait, also those that did not get the commit lock.
            self.renew(intent, IntentKind::Replay)?;
            let guard = lock.acquire(self.session)?;
            failpoint::reached(Failpoint::LockTaken);
            let outcome = self.attempt();
            drop(guard);
            match outcome? {
                AttemptOutcome::Done(mut summary) => {
                    summary.retries = attempt;
                    self.add_missing(&mut summary);
                    return Ok(summary);
                }
                AttemptOutcome::Refused(error) => {
                    let is_new = last.as_ref().is_none_or(|last| last.chain() != error.chain());
                    // A refusal that is recognized by its text alone is final when it is repeated.
                    if error.kind() == ErrorKind::Invalid && !(is_new && error.is_refusal()) {
                        return Err(error);
                    }
                    let error = last.insert(error);
                    if is_new {
                        tracing::warn!(error = error.chain(), attempt, "replay refused, retrying");
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| LakeError::invalid("a replay needs at least one attempt")))
    }

    /// Runs one attempt. Progress is read before the transaction first reads a table: a commit in between
    /// makes the compare-and-swap refuse, and is never missed.
    fn attempt(&mut self) -> Result<AttemptOutcome> {
        let steps = self.steps()?;
        self.session.execute("BEGIN").map_err(failed("begin"))?;
        failpoint::reached(Failpoint::TransactionBegun);
        let plan = self.read_tables(&steps).and_then(|plan| {
            let is_renamed = plan.hides_files();
            if is_renamed {
                // A column was renamed for reading. A commit in between changes the number of deleted
                // rows, and then nothing is committed.
                self.end_reading();
            }
            self.write_retained(&plan, &mut |_| Ok(()))?;
            if is_renamed {
                self.session.execute("BEGIN").map_err(failed("begin"))?;
            }
            Ok(plan)
        });
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                self.end_reading();
                return self.if_moved(&steps, error).map(AttemptOutcome::Refused);
            }
        };
        if plan.steps.is_empty() {
            self.end_reading();
            return Ok(AttemptOutcome::Done(plan.summary));
        }
        let sent = self.send(&plan);
        if sent.is_err() {
            // A failed COMMIT has ended the transaction already; then there is nothing to roll back.
            self.end_reading();
        }
        self.outcome(plan, sent.err())
    }

    fn send(&self, plan: &ReplayPlan) -> Result<()> {
        let message = CommitMessage::new(CommitKind::Replay, plan.steps.clone());
        if plan.affected.iter().all(Vec::is_empty) {
            if !plan.summary.removed().needs_snapshot() {
                // DuckLake creates no snapshot for a transaction that changes no data (measured).
                self.end_reading();
                return catalog::post(self.session, &message).map_err(failed("replay"));
            }
            snapshot::require(self.session, &self.targets[0].table)
                .map_err(failed("create a snapshot without removed rows"))?;
        }
        for index in 0..self.targets.len() {
            self.end_files(plan, index)?;
        }
        let files: Vec<_> = self.retained.files().cloned().collect();
        let text = format!(
            "CALL {LAKE}.set_commit_message('{AUTHOR}', 'replay', extra_info => {})",
            quote(&message.to_json())
        );
        register_files(self.session, &files).map_err(failed("add the retained rows"))?;
        failpoint::reached(Failpoint::FilesAdded);
        self.session.execute(&text).map_err(failed("set the commit message"))?;
        failpoint::reached(Failpoint::MessageSet);
        self.session.execute("COMMIT").map_err(failed("replay"))?;
        if failpoint::reached(Failpoint::CommitAnswered) {
            return Err(LakeError::unavailable("a failpoint says that the answer was lost"));
        }
        Ok(())
    }

    /// Ends the files of a target, and checks that no row of them stays: otherwise DuckLake would write a
    /// delete file.
    fn end_files(&self, plan: &ReplayPlan, index: usize) -> Result<()> {
        let (target, files) = (&self.targets[index], &plan.affected[index]);
        if files.is_empty() {
            return Ok(());
        }
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        let deleted = if plan.hiding[index].is_some() {
            let retained = self.retained.files().filter(|file| file.table == target.table);
            let retained: Vec<_> = retained.collect();
            let condition = self.condition(target, plan);
            target.end_files_by_offsets(self.session, &condition, &retained)
        } else {
            target.end_files(self.session, files)
        };
        let deleted = deleted.map_err(failed("end files"))?;
        if deleted == rows {
            return Ok(());
        }
        Err(LakeError::unavailable(format!(
            "another client changed the files: table=`{}` rows=`{rows}` deleted=`{deleted}`",
            target.table
        )))
    }

    /// Returns the condition of the rows that a plan removes from a target.
    fn condition(&self, target: &ReplayTarget, plan: &ReplayPlan) -> String {
        let offsets: Vec<_> =
            plan.steps.iter().map(|step| (step.partition, step.range.to)).collect();
        target.condition(&self.request.source.spec.topic, &offsets)
    }

    /// Reads the positions and ledgers of the requested partitions.
    fn steps(&self) -> Result<Vec<ReplayStep>> {
        let source = self.request.source.id;
        let progress = catalog::progress(self.session, source)?;
        let position = |wanted: Partition| -> Option<Position> {
            progress.iter().find(|now| now.partition == wanted).map(|now| now.position)
        };
        let mut steps = Vec::new();
        for (&partition, &to) in &self.request.offsets {
            let history = History::of(&ledger::entries(self.session, source, partition)?);
            steps.extend(ReplayStep::new(partition, position(partition), to, history)?);
        }
        failpoint::reached(Failpoint::ProgressRead);
        Ok(steps)
    }

    /// Reads the tables in a transaction of its own, until the ledger does not change meanwhile.
    fn read_consistently(&self) -> Result<ReplayPlan> {
        self.retry_while_moving(&|steps| self.read_tables(steps))
    }

    fn retry_while_moving<T>(&self, look: &dyn Fn(&[ReplayStep]) -> Result<T>) -> Result<T> {
        let mut tries = self.request.attempts;
        loop {
            let steps = self.steps()?;
            match self.reading(|| look(&steps)) {
                Err(error) if tries > 0 => {
                    let error = self.if_moved(&steps, error)?;
                    tracing::debug!(
                        error = error.chain(),
                        "ledger changed while it was read, retrying"
                    );
                    tries -= 1;
                }
                looked => return looked,
            }
        }
    }

    /// Returns an error that may be due to a concurrent commit as a value, and fails with it when the ledger
    /// has not changed. Progress and ledger are read before the tables: a replay or a retry of dead
    /// letters in between makes them disagree.
    fn if_moved(&self, steps: &[ReplayStep], error: LakeError) -> Result<LakeError> {
        let has_moved = self.steps()? != steps;
        if has_moved { Ok(error) } else { Err(error) }
    }

    /// Reads the tables, inside a transaction.
    fn read_tables(&self, steps: &[ReplayStep]) -> Result<ReplayPlan> {
        let topic = &self.request.source.spec.topic;
        let offsets = offsets(steps);
        let deltas = self.deltas(steps)?;
        let (mut affected, mut hiding) = (Vec::new(), Vec::new());
        if !offsets.is_empty() {
            for target in &self.targets {
                let condition = target.condition(topic, &offsets);
                hiding.push(target.reveal_file_names(self.session)?);
                affected.push(target.affected(self.session, &condition)?);
            }
        }
        Ok(ReplayPlan { summary: summary(&deltas, &affected), steps: deltas, affected, hiding })
    }

    /// Returns the counts of the steps, from the ledger; rows of ranges that a step divides are counted in the
    /// tables.
    fn deltas(&self, steps: &[ReplayStep]) -> Result<Vec<ProgressDelta>> {
        let delta = |step: &ReplayStep| {
            let found = self.cut_rows(step)?;
            let delta = step.delta(self.request.source.id, found);
            delta.map_err(|error| LakeError::invalid(error.to_string()))
        };
        steps.iter().map(delta).collect()
    }

    fn cut_rows(&self, step: &ReplayStep) -> Result<DividedRows> {
        if let (false, Some((left, counts))) = (self.missing.is_empty(), step.left()) {
            // Missing files hold rows of the part that is cut off, and none of the other part.
            let stay = self.count_rows(step.partition, left)?;
            return Ok(DividedRows {
                rows: counts.rows - stay.rows,
                dead: counts.dead - stay.dead,
            });
        }
        step.cut().map_or(Ok(DividedRows::default()), |cut| self.count_rows(step.partition, cut))
    }

    fn count_rows(&self, partition: Partition, range: OffsetRange) -> Result<DividedRows> {
        let topic = &self.request.source.spec.topic;
        let rows = self.targets[0].rows_in(self.session, topic, partition, range);
        let dead = match self.targets.get(1) {
            Some(target) => target.open_dead_letters_in(self.session, topic, partition, range),
            None => Ok(0),
        };
        let counted = rows.and_then(|rows| Ok(DividedRows { rows, dead: dead? }));
        counted.map_err(failed("count the rows of the divided range"))
    }

    /// Writes the retained rows that are not written yet, and makes them durable.
    fn write_retained(
        &mut self,
        plan: &ReplayPlan,
        before_each: &mut dyn FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        let targets = self.targets.clone();
        for ((target, files), hiding) in targets.iter().zip(&plan.affected).zip(&plan.hiding) {
            let condition = self.condition(target, plan);
            let straddling = files.iter().filter(|file| !file.is_whole()).cloned().collect();
            self.retained.drop_outdated(&target.table, &straddling);
            for group in self.retained.unwritten(&straddling) {
                before_each(self)?;
                let session = self.session;
                let file = target.write_retained(session, &group, &condition, hiding.as_ref())?;
                failpoint::reached(Failpoint::FileWritten);
                storage::make_durable(std::slice::from_ref(&file)).map_err(|error| {
                    LakeError::unavailable("make a file durable").because(error)
                })?;
                failpoint::reached(Failpoint::FileSynced);
                self.retained.add(group, file);
            }
        }
        Ok(())
    }

    /// Returns the outcome of a transaction, by the ledger.
    fn outcome(&self, plan: ReplayPlan, error: Option<LakeError>) -> Result<AttemptOutcome> {
        let applied = self.applied(&plan.steps, error.is_some())?;
        match (applied, error) {
            (Some(Applied { snapshot }), error) => {
                if let Some(error) = error {
                    let error = error.chain();
                    tracing::info!(error, "replay applied, its answer was lost");
                }
                let mut summary = plan.summary;
                summary.snapshot = snapshot;
                summary.shows_old_state = snapshot.map(|id| SnapshotId(id.0 - 1));
                Ok(AttemptOutcome::Done(summary))
            }
            (None, Some(error)) => Ok(AttemptOutcome::Refused(error)),
            (None, None) => Err(LakeError::invalid(
                "COMMIT succeeded but progress did not move: the lake's triggers are missing; \
                 stop all workers and run `ducktide verify`",
            )),
        }
    }

    /// Returns the snapshot of the replay if the ledger has its row for each step.
    fn applied(&self, steps: &[ProgressDelta], is_unknown: bool) -> Result<Option<Applied>> {
        let mut tries = if is_unknown { OUTCOME_ATTEMPTS } else { 1 };
        loop {
            tries -= 1;
            match ledger::applied(self.session, CommitKind::Replay, steps) {
                Ok(applied) => return Ok(applied),
                Err(error) if tries == 0 => {
                    return Err(LakeError::unavailable(
                        "the catalog is unavailable, so it is not known whether the replay was applied; \
                         run `ducktide status` once it is available again",
                    )
                    .because(error.chain()));
                }
                Err(_) => thread::sleep(RETRY_PAUSE),
            }
        }
    }

    /// Extends the intent's expiry, and updates its kind.
    fn renew(&self, intent: &mut Intent, kind: IntentKind) -> Result<()> {
        intent.kind = kind;
        intent.expires_at = Timestamp::now() + self.request.max_transaction;
        intent::renew(self.session, intent)
    }

    fn reading<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        self.session.execute("BEGIN").map_err(failed("begin"))?;
        let read = read();
        self.end_reading();
        read
    }

    /// Rolls back a transaction that has changed nothing, or must not.
    fn end_reading(&self) {
        let _ = self.session.execute("ROLLBACK");
    }
}

/// Outcome of one attempt.
enum AttemptOutcome {
    Done(ReplaySummary),
    /// Nothing was changed.
    Refused(LakeError),
}

impl ReplayPlan {
    fn hides_files(&self) -> bool {
        self.hiding.iter().any(Option::is_some)
    }
}

fn offsets(steps: &[ReplayStep]) -> Vec<(Partition, Offset)> {
    steps.iter().map(|step| (step.partition, step.to)).collect()
}

fn summary(steps: &[ProgressDelta], affected: &[Vec<AffectedFile>]) -> ReplaySummary {
    let removed = |files: Option<&Vec<AffectedFile>>| {
        files.into_iter().flatten().map(|file| file.removed).sum::<u64>()
    };
    let count = |whole: bool| affected.iter().flatten().filter(|f| f.is_whole() == whole).count();
    ReplaySummary {
        steps: steps.to_vec(),
        rows: removed(affected.first()),
        dead_letter_rows: removed(affected.get(1)),
        files_ended: count(true) as u64,
        files_rewritten: count(false) as u64,
        ..ReplaySummary::default()
    }
}

fn failed(what: &'static str) -> impl Fn(duckdb::Error) -> LakeError {
    move |error| duckdb_error::refused_or_failed(what, error)
}
