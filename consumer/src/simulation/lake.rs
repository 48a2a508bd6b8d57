//! Simulated lake, shared by all processes.
//!
//! It applies commits as the catalog's triggers do, and keeps the ledger and the rows. The answer to a worker
//! after a commit without an answer follows [`commit_state`], as in the real lake.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ducktide_protocol::commit::{
    Commit, CommitKind, CommitOutcome, Counts, OutcomeCheck, ProgressDelta,
};
use ducktide_protocol::commit_state::{CommitState, commit_state};
use ducktide_protocol::dead_letter::dead_letter_table;
use ducktide_protocol::dedupe::{EventId, RecentRow, RecentRows};
use ducktide_protocol::invariants::{LedgerEntry, PartitionKey, Progress};
use ducktide_protocol::position::{
    Epoch, Offset, OffsetRange, Partition, Position, SnapshotId, SourceId,
};
use ducktide_protocol::table::{Column, Partitioning, TableName, TableShape, diff};
use ducktide_protocol::{
    FieldIds, Lake, LakeError, LakeFault, Result, Source, SourceSpec, Table, TableVersion,
};

use super::contract::Contract;
use super::disk::{Disk, StoredRow};
use super::group::Partitions;
use super::violation::Violation;
use crate::source::topic_partition::TopicPartition;

/// Fault of the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitFault {
    /// The commit is not received.
    RequestLost,
    /// The commit is applied, and its answer is lost.
    AnswerLost,
    /// As [`Self::AnswerLost`], and the check of the outcome is not answered either.
    AnswerAndCheckLost,
    /// The commit is applied after this time; the worker receives an error.
    Late(Duration),
    /// The staged files cannot be made durable.
    FilesUnusable,
}

#[derive(Debug, Default)]
pub(super) struct LakeState {
    now: Duration,
    tables: BTreeMap<TableName, Table>,
    sources: Vec<Source>,
    pub(super) progress: Progress,
    pub(super) ledger: BTreeMap<PartitionKey, Vec<LedgerEntry>>,
    pub(super) rows: BTreeMap<PartitionKey, Vec<StoredRow>>,
    pub(super) dead_letters: BTreeMap<PartitionKey, Vec<StoredRow>>,
    /// Ranges that an operator skipped.
    pub(super) skipped: BTreeMap<PartitionKey, Vec<OffsetRange>>,
    pub(super) registered: Vec<PathBuf>,
    /// Steps of the last commits, which are not checked yet.
    pub(super) unchecked: Vec<LedgerEntry>,
    resolved: BTreeSet<(SourceId, Partition, Offset)>,
    snapshots: i64,
    pub(super) commits: u64,
    unavailable_until: Duration,
    faults: VecDeque<CommitFault>,
    late: Vec<(Duration, Commit)>,
    /// Violation of the contract by a process.
    pub(super) violation: Option<Violation>,
}

/// Result of the compare-and-swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    Yes(Option<SnapshotId>),
    NotMatching,
    OtherVersion,
}

impl LakeState {
    /// Sets the time, and applies late commits that are due.
    pub(super) fn advance(&mut self, now: Duration, disk: &Disk) {
        self.now = now;
        while let Some(index) = self.late.iter().position(|(at, _)| *at <= now) {
            let (_, commit) = self.late.swap_remove(index);
            self.apply(&commit, disk);
        }
    }

    /// Returns the time of the next late commit.
    pub(super) fn next_late(&self) -> Option<Duration> {
        self.late.iter().map(|(at, _)| *at).min()
    }

    pub(super) fn fail_next_commit(&mut self, fault: CommitFault) {
        self.faults.push_back(fault);
    }

    pub(super) fn set_unavailable_until(&mut self, until: Duration) {
        self.unavailable_until = self.unavailable_until.max(until);
    }

    /// Ends all faults. Commits on their way arrive.
    pub(super) fn heal(&mut self) {
        self.faults.clear();
        self.unavailable_until = Duration::ZERO;
    }

    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    pub(super) fn table(&self, name: &TableName) -> Option<&Table> {
        self.tables.get(name)
    }

    /// Alters a table, as another client could: adds a column, or only creates another version.
    pub(super) fn alter(&mut self, name: &TableName, column: Option<Column>) {
        let Some(table) = self.tables.get_mut(name) else { return };
        table.version.changed_at.0 += 1;
        if let Some(column) = column.filter(|column| !table.shape.has_path(&column.name)) {
            table.shape.columns.push(column);
        }
    }

    /// Removes the rows from an offset on and begins an epoch, as an operator's replay does.
    pub(super) fn replay(&mut self, key: PartitionKey, to: Offset) {
        let Some(position) = self.progress.get(&key).copied() else { return };
        if to >= position.next_offset {
            return;
        }
        let count = |rows: &[StoredRow]| {
            let removed = rows.iter().filter(|row| row.offset >= to.0).count();
            i64::try_from(removed).expect("a lake has few rows")
        };
        let range = OffsetRange { from: position.next_offset, to };
        let rows = -count(self.rows.get(&key).map_or(&[], Vec::as_slice));
        let dead = -count(self.dead_letters.get(&key).map_or(&[], Vec::as_slice));
        let gaps = range.len() - rows - dead;
        let counts = Counts { rows, dead, gaps, ..Counts::default() };
        let remove = |rows: Option<&mut Vec<StoredRow>>| {
            if let Some(rows) = rows {
                rows.retain(|row| row.offset < to.0);
            }
        };
        remove(self.rows.get_mut(&key));
        remove(self.dead_letters.get_mut(&key));
        for skipped in self.skipped.entry(key).or_default() {
            (skipped.from, skipped.to) = (skipped.from.min(to), skipped.to.min(to));
        }
        self.move_by_operator(CommitKind::Replay, key, position, range, counts);
    }

    /// Skips the records before an offset and begins an epoch.
    pub(super) fn skip(&mut self, key: PartitionKey, to: Offset) {
        let Some(position) = self.progress.get(&key).copied() else { return };
        if to <= position.next_offset {
            return;
        }
        let range = OffsetRange { from: position.next_offset, to };
        let counts = Counts { given_up: range.len(), ..Counts::default() };
        self.skipped.entry(key).or_default().push(range);
        self.move_by_operator(CommitKind::Skip, key, position, range, counts);
    }

    fn move_by_operator(
        &mut self,
        kind: CommitKind,
        key: PartitionKey,
        before: Position,
        range: OffsetRange,
        counts: Counts,
    ) {
        let (source, partition) = key;
        let step = ProgressDelta { source, partition, epoch: before.epoch, range, counts };
        let after = Position { epoch: Epoch(before.epoch.0 + 1), next_offset: range.to };
        self.progress.insert(key, after);
        self.record(LedgerEntry { kind, step });
    }

    fn record(&mut self, entry: LedgerEntry) {
        let key = (entry.step.source, entry.step.partition);
        self.ledger.entry(key).or_default().push(entry);
        self.unchecked.push(entry);
    }

    fn start(&mut self, source: SourceId, starts: &[(Partition, Offset)]) {
        for &(partition, next_offset) in starts {
            if self.progress.contains_key(&(source, partition)) {
                continue;
            }
            let first = Position { epoch: Epoch(0), next_offset };
            self.progress.insert((source, partition), first);
            let range = OffsetRange { from: next_offset, to: next_offset };
            let counts = Counts::default();
            let step = ProgressDelta { source, partition, epoch: Epoch(0), range, counts };
            self.record(LedgerEntry { kind: CommitKind::Start, step });
        }
    }

    fn is_current(&self, version: &TableVersion) -> bool {
        self.tables.get(&version.table).is_some_and(|table| table.version == *version)
    }

    fn apply(&mut self, commit: &Commit, disk: &Disk) -> Applied {
        if !commit.table_versions().iter().all(|version| self.is_current(version)) {
            return Applied::OtherVersion;
        }
        if commit.kind().resolves_dead_letter() {
            return self.resolve(commit, disk);
        }
        let mut moved: Progress = Progress::new();
        for delta in commit.progress() {
            let key = (delta.source, delta.partition);
            let now = moved.get(&key).or_else(|| self.progress.get(&key));
            if now != Some(&delta.before()) {
                return Applied::NotMatching;
            }
            moved.insert(key, delta.after());
        }
        self.progress.extend(moved);
        self.add(commit, disk)
    }

    /// Resolves dead letters that are open and below the next offset: all of them, or none.
    fn resolve(&mut self, commit: &Commit, disk: &Disk) -> Applied {
        let mut resolved = self.resolved.clone();
        for step in commit.progress() {
            let position = self.progress.get(&(step.source, step.partition));
            let is_behind = position
                .is_some_and(|now| now.epoch == step.epoch && now.next_offset > step.range.from);
            if !is_behind || !resolved.insert((step.source, step.partition, step.range.from)) {
                return Applied::NotMatching;
            }
        }
        self.resolved = resolved;
        self.add(commit, disk)
    }

    fn add(&mut self, commit: &Commit, disk: &Disk) -> Applied {
        self.commits += 1;
        for step in commit.progress() {
            self.record(LedgerEntry { kind: commit.kind(), step: *step });
        }
        for file in commit.files() {
            self.registered.push(file.path.clone());
            let disk = disk.state();
            let rows = disk.rows(&file.path).expect("the files of a commit exist");
            for row in rows {
                let of = |source: &&Source| {
                    source.spec.table == file.table
                        || dead_letter_table(&source.spec.table) == file.table
                };
                let source = self.sources.iter().find(of).expect("files are of known tables");
                let key = (source.id, Partition(row.partition));
                let is_row = source.spec.table == file.table;
                let to = if is_row { &mut self.rows } else { &mut self.dead_letters };
                to.entry(key).or_default().push(*row);
            }
        }
        if commit.files().is_empty() {
            return Applied::Yes(None);
        }
        self.snapshots += 1;
        Applied::Yes(Some(SnapshotId(self.snapshots)))
    }

    /// Reads progress after a commit without an answer.
    fn check(&self, commit: &Commit) -> CommitState {
        let is_registered = commit.files().iter().all(|file| self.registered.contains(&file.path));
        if commit.kind().resolves_dead_letter() {
            return if is_registered { CommitState::Applied } else { CommitState::Superseded };
        }
        let at = |step: &ProgressDelta| self.progress.get(&(step.source, step.partition)).copied();
        let found: Vec<_> = commit.progress().iter().map(at).collect();
        match commit_state(commit.progress(), &found) {
            CommitState::Applied if !is_registered => CommitState::Superseded,
            state => state,
        }
    }
}

/// Handle to the lake; all processes have the same.
#[derive(Clone, Debug, Default)]
pub(super) struct SimulatedLake {
    state: Arc<Mutex<LakeState>>,
    disk: Disk,
    outcome_check: Option<OutcomeCheck>,
    /// Contract of the process that has this handle.
    contract: Contract,
    /// Partitions that the process owns; None in tests without a group.
    pub(super) owned: Option<Partitions>,
}

impl SimulatedLake {
    pub(super) fn new(disk: Disk) -> Self {
        Self { disk, ..Self::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, LakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn available(&self) -> Result<MutexGuard<'_, LakeState>> {
        let state = self.state();
        if state.now < state.unavailable_until {
            return Err(LakeError::unavailable("connection refused"));
        }
        Ok(state)
    }

    /// Answers a commit whose COMMIT failed.
    fn inquire(&mut self, commit: &Commit) -> Result<CommitOutcome> {
        let (found, answer) = match self.state().check(commit) {
            CommitState::Applied => (OutcomeCheck::Applied, Ok(CommitOutcome::Committed(None))),
            CommitState::Superseded => (OutcomeCheck::Superseded, Ok(CommitOutcome::Fenced)),
            CommitState::NotApplied => {
                (OutcomeCheck::NotApplied, Err(LakeError::unavailable("commit failed")))
            }
        };
        self.outcome_check = Some(found);
        answer
    }
}

impl Lake for SimulatedLake {
    fn ensure_table(&mut self, table: &TableName, wanted: &TableShape) -> Result<Table> {
        let mut state = self.available()?;
        let found = state.tables.entry(table.clone()).or_insert_with(|| Table {
            version: TableVersion { table: table.clone(), changed_at: SnapshotId(1) },
            shape: wanted.clone(),
            field_ids: FieldIds::default(),
            directory: PathBuf::from("/simulated").join(table.to_string()),
            partitioning: Partitioning::default(),
            claim: None,
        });
        let difference = diff(&found.shape, wanted);
        if difference.fits() {
            return Ok(found.clone());
        }
        Err(LakeError::from_fault(LakeFault::TableMismatch { table: table.clone(), difference }))
    }

    fn add_columns(&mut self, table: &TableName, columns: &[Column]) -> Result<Table> {
        let mut state = self.available()?;
        for column in columns {
            if state.tables.get(table).is_some_and(|found| !found.shape.has_path(&column.name)) {
                state.alter(table, Some(column.clone()));
            }
        }
        let found = state.tables.get(table).cloned();
        found.ok_or_else(|| LakeError::invalid(format!("the table was dropped: table=`{table}`")))
    }

    fn register_source(
        &mut self,
        spec: &SourceSpec,
        starts: &[(Partition, Offset)],
    ) -> Result<Source> {
        let mut state = self.available()?;
        let same = |s: &&Source| s.spec.table == spec.table && s.spec.topic == spec.topic;
        if let Some(found) = state.sources.iter().find(same) {
            return Ok(found.clone());
        }
        let number = i32::try_from(state.sources.len() + 1).expect("a lake has few sources");
        let source = Source { id: SourceId(number), spec: spec.clone() };
        state.sources.push(source.clone());
        state.start(source.id, starts);
        Ok(source)
    }

    fn start_partitions(&mut self, source: SourceId, starts: &[(Partition, Offset)]) -> Result<()> {
        self.available()?.start(source, starts);
        Ok(())
    }

    fn positions(&mut self, source: SourceId) -> Result<Vec<(Partition, Position)>> {
        let state = self.available()?;
        let of_source = state.progress.iter().filter(|((of, _), _)| *of == source);
        let positions: Vec<_> =
            of_source.map(|((_, partition), position)| (*partition, *position)).collect();
        drop(state);
        self.contract.loaded(source, &positions);
        Ok(positions)
    }

    fn recent_rows(
        &mut self,
        wanted: &RecentRows,
        below: &[(Partition, Offset)],
    ) -> Result<Vec<RecentRow>> {
        let state = self.available()?;
        let source = state.sources.iter().find(|source| source.spec.table == wanted.table);
        let source = source.expect("rows are of a known table").id;
        let mut recent = Vec::new();
        for (partition, end) in below {
            let rows = state.rows.get(&(source, *partition)).map_or(&[][..], Vec::as_slice);
            let before = || rows.iter().filter(|row| row.offset < end.0);
            let newest = before().map(|row| row.timestamp_micros).max().unwrap_or(0);
            let oldest = newest.saturating_sub(wanted.span_micros);
            recent.extend(before().filter(|row| row.timestamp_micros >= oldest).map(|row| {
                RecentRow {
                    partition: *partition,
                    offset: Offset(row.offset),
                    timestamp_micros: row.timestamp_micros,
                    id: EventId::Number(row.event),
                }
            }));
        }
        recent.sort_by_key(|row| (row.partition, row.offset));
        Ok(recent)
    }

    fn commit(&mut self, commit: &Commit) -> Result<CommitOutcome> {
        let checked = self.check_owned(commit).and_then(|()| self.contract.check(commit));
        if let Err(violation) = checked {
            self.state().violation.get_or_insert(violation);
        }
        let answer = self.send(commit);
        self.contract.answered(commit, &answer);
        answer
    }

    fn take_outcome_check(&mut self) -> Option<OutcomeCheck> {
        self.outcome_check.take()
    }
}

impl SimulatedLake {
    /// Checks that a process commits only records of partitions that it did not give up.
    fn check_owned(&self, commit: &Commit) -> std::result::Result<(), Violation> {
        let (Some(owned), state) = (&self.owned, self.state()) else { return Ok(()) };
        for step in commit.progress() {
            let partition = partition_of(&state, (step.source, step.partition));
            if !owned.contains(&partition) {
                return Err(format!("a commit of a partition that was given up: {partition}"));
            }
        }
        Ok(())
    }

    fn send(&mut self, commit: &Commit) -> Result<CommitOutcome> {
        let disk = self.disk.clone();
        let mut state = self.available()?;
        for file in commit.files() {
            disk.state().attempt(file);
        }
        let fault = state.faults.pop_front();
        match fault {
            Some(CommitFault::FilesUnusable) => {
                let tables: BTreeSet<_> =
                    commit.files().iter().map(|file| file.table.clone()).collect();
                if !tables.is_empty() {
                    return Ok(CommitOutcome::FilesUnusable(tables));
                }
            }
            Some(CommitFault::RequestLost) => {
                drop(state);
                return self.inquire(commit);
            }
            Some(CommitFault::Late(after)) => {
                let at = state.now + after;
                state.late.push((at, commit.clone()));
                drop(state);
                return self.inquire(commit);
            }
            None | Some(CommitFault::AnswerLost | CommitFault::AnswerAndCheckLost) => {}
        }
        let applied = state.apply(commit, &disk);
        drop(state);
        match (applied, fault) {
            (_, Some(CommitFault::AnswerAndCheckLost)) => {
                self.outcome_check = Some(OutcomeCheck::Unanswered);
                Err(LakeError::unavailable("connection lost"))
            }
            (Applied::Yes(snapshot), None) => Ok(CommitOutcome::Committed(snapshot)),
            (Applied::OtherVersion, _) => Ok(CommitOutcome::TableChanged),
            (Applied::Yes(_) | Applied::NotMatching, _) => self.inquire(commit),
        }
    }
}

/// Returns the partition of a key.
pub(super) fn partition_of(lake: &LakeState, (source, partition): PartitionKey) -> TopicPartition {
    let topic = &source_of(lake, source).spec.topic;
    TopicPartition { topic: topic.as_str().into(), partition }
}

fn source_of(lake: &LakeState, id: SourceId) -> &ducktide_protocol::Source {
    lake.sources().iter().find(|source| source.id == id).expect("a registered source")
}

#[cfg(test)]
mod tests {
    use ducktide_protocol::StagedFile;
    use ducktide_protocol::conformance::{self, Harness};

    use super::*;

    struct SimulatedHarness {
        lake: SimulatedLake,
        disk: Disk,
    }

    impl Harness for SimulatedHarness {
        fn open(&mut self) -> Box<dyn Lake> {
            Box::new(self.lake.clone())
        }

        fn stage(&mut self, table: &Table, partition: Partition, range: OffsetRange) -> StagedFile {
            let row = |offset| StoredRow {
                partition: partition.0,
                offset,
                id: offset,
                event: offset,
                timestamp_micros: offset,
            };
            let rows = (range.from.0..range.to.0).map(row).collect();
            self.disk.state().create(&table.version.table, rows)
        }

        fn count(&mut self, table: &TableName) -> u64 {
            let (state, disk) = (self.lake.state(), self.disk.state());
            let rows = state.registered.iter().map(|path| {
                let is_of_table = path.starts_with(format!("/simulated/{table}"));
                if is_of_table { disk.rows(path).expect("a file").len() } else { 0 }
            });
            rows.sum::<usize>() as u64
        }
    }

    #[test]
    fn the_simulated_lake_conforms() {
        let disk = Disk::default();
        let lake = SimulatedLake::new(disk.clone());
        conformance::run(&mut SimulatedHarness { lake, disk });
    }
}
