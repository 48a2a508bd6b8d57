//! The transaction of a replay, tried until it is in the lake or cannot be.
//!
//! As with a commit, what happened is read from the catalog and never from an error's text: the
//! ledger has the replay's own row, at its epoch, or it does not.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use ducktide_lake::catalog;
use ducktide_lake::catalog::intent::{self, Intent, IntentKind};
use ducktide_lake::catalog::ledger::{self, Applied};
use ducktide_lake::catalog::lock::CommitLock;
use ducktide_lake::duckdb_error;
use ducktide_lake::session::{LAKE, Session, quote};
use ducktide_lake::storage;
use ducktide_lake::transaction::register_files;
use ducktide_protocol::StagedFile;
use ducktide_protocol::commit::{CommitKind, CommitMessage, ProgressDelta};
use ducktide_protocol::error::{ErrorKind, LakeError, Result};
use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::{Offset, OffsetRange, Partition, Position, SnapshotId};
use jiff::Timestamp;

use super::files::{Affected, HidingColumn, Target};
use super::history::{DividedRows, History};
use super::missing::{AUTHOR, MissingFiles};
use super::plan::Step;
use super::request::{ReplayRequest, ReplaySummary};
use super::snapshot;

/// Between two tries: others have just committed, and do so again soon.
const PAUSE: Duration = Duration::from_millis(200);

/// How long the catalog may be out of reach after a COMMIT whose answer was lost.
const OUTCOME_TRIES: u32 = 60;

/// One replay, under its locks.
pub(super) struct Replay<'a> {
    session: &'a Session,
    request: &'a ReplayRequest,
    targets: Vec<Target>,
    /// Files that cannot be read, all of whose rows this replay takes back.
    missing: MissingFiles,
    /// What straddling files keep, by the path of the file that it came from.
    survivors: BTreeMap<String, Survivors>,
}

struct Survivors {
    of: Affected,
    file: StagedFile,
}

/// All that one transaction does.
struct Plan {
    steps: Vec<ProgressDelta>,
    /// For each target, in their order.
    affected: Vec<Vec<Affected>>,
    /// Columns that hide which file a row is in, for each target.
    hiding: Vec<Option<HidingColumn>>,
    summary: ReplaySummary,
}

impl<'a> Replay<'a> {
    pub(super) const fn new(
        session: &'a Session,
        request: &'a ReplayRequest,
        targets: Vec<Target>,
        missing: MissingFiles,
    ) -> Self {
        Self { session, request, targets, missing, survivors: BTreeMap::new() }
    }

    /// What there is to do, of one snapshot.
    pub(super) fn plan(&self) -> Result<ReplaySummary> {
        self.look_at_rest().map(|plan| plan.summary)
    }

    /// The same by the ledger, where missing files keep the tables from being read.
    pub(super) fn plan_by_ledger(&self) -> Result<ReplaySummary> {
        let steps = self.reading_at_rest(&|steps| self.deltas(steps))?;
        let mut summary = summary(&steps, &[]);
        let removed = summary.removed();
        summary.rows = removed.rows.unsigned_abs();
        summary.letter_rows = removed.dead.unsigned_abs();
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
            "missing data files ended; their rows come back from Kafka"
        );
        Ok(())
    }

    fn add_missing(&self, summary: &mut ReplaySummary) {
        summary.files_missing = self.missing.files;
        summary.rows_missing = self.missing.rows;
    }

    /// Writes what straddling files keep, before anybody has to wait for it.
    pub(super) fn prepare(&mut self, intent: &mut Intent) -> Result<()> {
        // The intent is renewed outside of the transaction that looks: inside, it would be undone with
        // it, hold the write lock of a SQLite catalog while files are written, and end the
        // transaction when the catalog is busy. A file that others change meanwhile does not look
        // the same at the attempt, which writes its survivors again.
        let plan = self.look_at_rest()?;
        self.write_survivors(&plan, &mut |replay| replay.renew(intent, IntentKind::Prepare))
    }

    /// Tries the transaction, each time from where the lake then stands.
    pub(super) fn run(
        &mut self,
        intent: &mut Intent,
        lock: &mut CommitLock,
    ) -> Result<ReplaySummary> {
        let mut last: Option<LakeError> = None;
        for attempt in 0..self.request.attempts {
            if attempt > 0 {
                thread::sleep(PAUSE);
            }
            // From here on workers stay away, also those that did not get the commit lock.
            self.renew(intent, IntentKind::Replay)?;
            let guard = lock.acquire(self.session)?;
            failpoint::reached(Failpoint::LockTaken);
            let tried = self.attempt();
            drop(guard);
            match tried? {
                Tried::Done(mut summary) => {
                    summary.retries = attempt;
                    self.add_missing(&mut summary);
                    return Ok(summary);
                }
                Tried::Refused(error) => {
                    let is_new = last.as_ref().is_none_or(|last| last.chain() != error.chain());
                    // A refusal that is known by its text alone counts when it is repeated.
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

    /// Progress is read before the transaction's first look at a table: what is committed in
    /// between makes the compare-and-swap refuse, and never passes unseen.
    fn attempt(&mut self) -> Result<Tried> {
        let steps = self.steps()?;
        self.session.execute("BEGIN").map_err(failed("begin"))?;
        failpoint::reached(Failpoint::TransactionBegun);
        let plan = self.look(&steps).and_then(|plan| {
            let is_renamed = plan.hides_files();
            if is_renamed {
                // The look has renamed a column. What is committed in between changes the number of rows
                // that are deleted, and nothing is sent.
                self.end_reading();
            }
            self.write_survivors(&plan, &mut |_| Ok(()))?;
            if is_renamed {
                self.session.execute("BEGIN").map_err(failed("begin"))?;
            }
            Ok(plan)
        });
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                self.end_reading();
                return self.unless_at_rest(&steps, error).map(Tried::Refused);
            }
        };
        if plan.steps.is_empty() {
            self.end_reading();
            return Ok(Tried::Done(plan.summary));
        }
        let sent = self.send(&plan);
        if sent.is_err() {
            // A failed COMMIT has ended the transaction already; then there is nothing to roll back.
            self.end_reading();
        }
        self.outcome(plan, sent.err())
    }

    fn send(&self, plan: &Plan) -> Result<()> {
        let message = CommitMessage::new(CommitKind::Replay, plan.steps.clone());
        if plan.affected.iter().all(Vec::is_empty) {
            if !plan.summary.removed().needs_snapshot() {
                // DuckLake makes no snapshot for a transaction that changes no data (measured).
                self.end_reading();
                return catalog::post(self.session, &message).map_err(failed("replay"));
            }
            snapshot::require(self.session, &self.targets[0].table)
                .map_err(failed("make a snapshot without a row to remove"))?;
        }
        for index in 0..self.targets.len() {
            self.end_files(plan, index)?;
        }
        let files: Vec<_> = plan.survivors(self).map(|kept| kept.file.clone()).collect();
        let text = format!(
            "CALL {LAKE}.set_commit_message('{AUTHOR}', 'replay', extra_info => {})",
            quote(&message.to_json())
        );
        register_files(self.session, &files).map_err(failed("add what files keep"))?;
        failpoint::reached(Failpoint::FilesAdded);
        self.session.execute(&text).map_err(failed("set the message"))?;
        failpoint::reached(Failpoint::MessageSet);
        self.session.execute("COMMIT").map_err(failed("replay"))?;
        if failpoint::reached(Failpoint::CommitAnswered) {
            return Err(LakeError::unavailable("a failpoint says that the answer was lost"));
        }
        Ok(())
    }

    /// Ends the files of a target, and makes sure that not one of their rows stays: a delete file would
    /// be written.
    fn end_files(&self, plan: &Plan, index: usize) -> Result<()> {
        let (target, files) = (&self.targets[index], &plan.affected[index]);
        if files.is_empty() {
            return Ok(());
        }
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        let deleted = if plan.hiding[index].is_some() {
            let survivors: Vec<_> = plan.survivors_of(index, self).map(|kept| &kept.file).collect();
            let condition = self.condition(target, plan);
            target.end_files_by_offsets(self.session, &condition, &survivors)
        } else {
            target.end_files(self.session, files)
        };
        let deleted = deleted.map_err(failed("end files"))?;
        if deleted == rows {
            return Ok(());
        }
        Err(LakeError::unavailable(format!(
            "files have other rows than before: table=`{}` rows=`{rows}` deleted=`{deleted}`",
            target.table
        )))
    }

    /// What a plan removes from a target.
    fn condition(&self, target: &Target, plan: &Plan) -> String {
        let offsets: Vec<_> =
            plan.steps.iter().map(|step| (step.partition, step.range.to)).collect();
        target.condition(&self.request.source.spec.topic, &offsets)
    }

    /// Where the requested partitions stand, and their ledgers.
    fn steps(&self) -> Result<Vec<Step>> {
        let source = self.request.source.id;
        let progress = catalog::progress(self.session, source)?;
        let position = |wanted: Partition| -> Option<Position> {
            progress.iter().find(|now| now.partition == wanted).map(|now| now.position)
        };
        let mut steps = Vec::new();
        for (&partition, &to) in &self.request.offsets {
            let history = History::of(&ledger::entries(self.session, source, partition)?);
            steps.extend(Step::new(partition, position(partition), to, history)?);
        }
        failpoint::reached(Failpoint::ProgressRead);
        Ok(steps)
    }

    /// Looks at the tables in a transaction of its own.
    fn look_at_rest(&self) -> Result<Plan> {
        self.reading_at_rest(&|steps| self.look(steps))
    }

    fn reading_at_rest<T>(&self, look: &dyn Fn(&[Step]) -> Result<T>) -> Result<T> {
        let mut tries = self.request.attempts;
        loop {
            let steps = self.steps()?;
            match self.reading(|| look(&steps)) {
                Err(error) if tries > 0 => {
                    let error = self.unless_at_rest(&steps, error)?;
                    tracing::debug!(error = error.chain(), "the ledger moved, looking again");
                    tries -= 1;
                }
                looked => return looked,
            }
        }
    }

    /// Progress and ledger are read before the tables: what another replay, or a retry of letters,
    /// commits in between makes them disagree. Gives back an error that may be due to that, and ends
    /// with it when the ledger is as it was.
    fn unless_at_rest(&self, steps: &[Step], error: LakeError) -> Result<LakeError> {
        let has_moved = self.steps()? != steps;
        if has_moved { Ok(error) } else { Err(error) }
    }

    /// Looks at the tables, inside a transaction.
    fn look(&self, steps: &[Step]) -> Result<Plan> {
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
        Ok(Plan { summary: summary(&deltas, &affected), steps: deltas, affected, hiding })
    }

    /// What the ledger counts of the steps; the tables are asked about ranges that a step cuts.
    fn deltas(&self, steps: &[Step]) -> Result<Vec<ProgressDelta>> {
        let delta = |step: &Step| {
            let found = self.cut_rows(step)?;
            let delta = step.delta(self.request.source.id, found);
            delta.map_err(|error| LakeError::invalid(error.to_string()))
        };
        steps.iter().map(delta).collect()
    }

    fn cut_rows(&self, step: &Step) -> Result<DividedRows> {
        if let (false, Some((left, counts))) = (self.missing.is_empty(), step.left()) {
            // Missing files hold rows of what is cut off, and none of what is left.
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
            Some(letters) => letters.open_letters_in(self.session, topic, partition, range),
            None => Ok(0),
        };
        let counted = rows.and_then(|rows| Ok(DividedRows { rows, dead: dead? }));
        counted.map_err(failed("count the rows of the range that is cut"))
    }

    /// Writes the survivors that are not written yet, and makes them durable.
    fn write_survivors(
        &mut self,
        plan: &Plan,
        before_each: &mut dyn FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        let targets = self.targets.clone();
        for ((target, files), hiding) in targets.iter().zip(&plan.affected).zip(&plan.hiding) {
            let condition = self.condition(target, plan);
            for of in files.iter().filter(|file| !file.is_whole()) {
                if self.survivors.get(&of.path).is_some_and(|kept| kept.of == *of) {
                    continue;
                }
                before_each(self)?;
                let file = target.write_survivors(self.session, of, &condition, hiding.as_ref())?;
                failpoint::reached(Failpoint::FileWritten);
                storage::make_durable(std::slice::from_ref(&file)).map_err(|error| {
                    LakeError::unavailable("make a file durable").because(error)
                })?;
                failpoint::reached(Failpoint::FileSynced);
                self.survivors.insert(of.path.clone(), Survivors { of: of.clone(), file });
            }
        }
        Ok(())
    }

    /// How a transaction ended, by what the ledger says.
    fn outcome(&self, plan: Plan, error: Option<LakeError>) -> Result<Tried> {
        let applied = self.applied(&plan.steps, error.is_some())?;
        match (applied, error) {
            (Some(Applied { snapshot }), error) => {
                if let Some(error) = error {
                    let error = error.chain();
                    tracing::info!(error, "the replay was applied, only its answer was lost");
                }
                let mut summary = plan.summary;
                summary.snapshot = snapshot;
                summary.shows_old_state = snapshot.map(|id| SnapshotId(id.0 - 1));
                Ok(Tried::Done(summary))
            }
            (None, Some(error)) => Ok(Tried::Refused(error)),
            (None, None) => Err(LakeError::invalid(
                "COMMIT said ok but progress did not move: the lake's triggers are gone; \
                 stop all workers and run `ducktide verify`",
            )),
        }
    }

    /// Whether the ledger has this replay's row, of each step; its snapshot.
    fn applied(&self, steps: &[ProgressDelta], is_unknown: bool) -> Result<Option<Applied>> {
        let mut tries = if is_unknown { OUTCOME_TRIES } else { 1 };
        loop {
            tries -= 1;
            match ledger::applied(self.session, CommitKind::Replay, steps) {
                Ok(applied) => return Ok(applied),
                Err(error) if tries == 0 => {
                    return Err(LakeError::unavailable(
                        "the catalog does not answer, so whether the replay was applied is not known \
                         yet; `ducktide status` tells once it does",
                    )
                    .because(error.chain()));
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Moves the intent's expiry, and says how far the replay is.
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

    /// Ends a transaction that has changed nothing, or must not.
    fn end_reading(&self) {
        let _ = self.session.execute("ROLLBACK");
    }
}

/// How one attempt ended.
enum Tried {
    Done(ReplaySummary),
    /// Nothing was changed.
    Refused(LakeError),
}

impl Plan {
    /// What the straddling files of this plan keep.
    fn survivors<'r>(&'r self, replay: &'r Replay<'_>) -> impl Iterator<Item = &'r Survivors> {
        (0..self.affected.len()).flat_map(move |target| self.survivors_of(target, replay))
    }

    /// What the straddling files of one target keep.
    fn survivors_of<'r>(
        &'r self,
        target: usize,
        replay: &'r Replay<'_>,
    ) -> impl Iterator<Item = &'r Survivors> {
        let straddling = self.affected[target].iter().filter(|file| !file.is_whole());
        straddling.map(|file| {
            replay.survivors.get(&file.path).expect("every straddling file was written anew")
        })
    }

    fn hides_files(&self) -> bool {
        self.hiding.iter().any(Option::is_some)
    }
}

fn offsets(steps: &[Step]) -> Vec<(Partition, Offset)> {
    steps.iter().map(|step| (step.partition, step.to)).collect()
}

fn summary(steps: &[ProgressDelta], affected: &[Vec<Affected>]) -> ReplaySummary {
    let removed = |files: Option<&Vec<Affected>>| {
        files.into_iter().flatten().map(|file| file.removed).sum::<u64>()
    };
    let count = |whole: bool| affected.iter().flatten().filter(|f| f.is_whole() == whole).count();
    ReplaySummary {
        steps: steps.to_vec(),
        rows: removed(affected.first()),
        letter_rows: removed(affected.get(1)),
        files_ended: count(true) as u64,
        files_rewritten: count(false) as u64,
        ..ReplaySummary::default()
    }
}

fn failed(what: &'static str) -> impl Fn(duckdb::Error) -> LakeError {
    move |error| duckdb_error::refused_or_failed(what, error)
}
