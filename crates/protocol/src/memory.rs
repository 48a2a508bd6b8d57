//! Lake in memory, for tests of code that uses a lake.
//!
//! It passes the same conformance suite as `DuckLake`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::commit::{Commit, CommitOutcome};
use crate::dedupe::{RecentRow, RecentRows};
use crate::error::{LakeError, LakeFault, Result};
use crate::field_ids::FieldIds;
use crate::lake::Lake;
use crate::lake_table::{Table, TableVersion};
use crate::position::{Epoch, Offset, Partition, Position, SnapshotId, SourceId};
use crate::source::{Source, SourceSpec};
use crate::table::{Column, Partitioning, TableName, TableShape, diff};

/// Handle to a lake in memory; clones share the lake, as workers do.
#[derive(Clone, Debug)]
pub struct MemoryLake {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    directory: PathBuf,
    tables: BTreeMap<TableName, Table>,
    sources: Vec<Source>,
    progress: BTreeMap<(SourceId, Partition), Position>,
    commits: Vec<Commit>,
    /// Dead letters that have a resolution.
    resolved: BTreeSet<(SourceId, Partition, Offset)>,
}

impl MemoryLake {
    /// Creates an empty lake whose tables have their directories under `directory`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let state = State {
            directory: directory.into(),
            tables: BTreeMap::new(),
            sources: Vec::new(),
            progress: BTreeMap::new(),
            commits: Vec::new(),
            resolved: BTreeSet::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Returns all commits, in order.
    #[must_use]
    pub fn commits(&self) -> Vec<Commit> {
        self.lock().commits.clone()
    }

    /// Moves a partition as an operator's replay does: a new epoch begins.
    pub fn replay(&self, source: SourceId, partition: Partition, to: Offset) {
        let mut state = self.lock();
        let position = state.progress.get_mut(&(source, partition));
        let position = position.expect("only a partition that was started can be replayed");
        *position = Position { epoch: Epoch(position.epoch.0 + 1), next_offset: to };
        let is_kept = |dead_letter: &(SourceId, Partition, Offset)| {
            (dead_letter.0, dead_letter.1) != (source, partition) || dead_letter.2 < to
        };
        state.resolved.retain(is_kept);
    }

    /// Alters a table, as another client could.
    pub fn alter_table(&self, table: &TableName) {
        let mut state = self.lock();
        let table = state.tables.get_mut(table).expect("only a table that exists can be altered");
        table.version.changed_at.0 += 1;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lake for MemoryLake {
    fn ensure_table(&mut self, table: &TableName, wanted: &TableShape) -> Result<Table> {
        let mut state = self.lock();
        let directory = state.directory.join(&table.schema).join(&table.table);
        let found = state.tables.entry(table.clone()).or_insert_with(|| Table {
            version: TableVersion { table: table.clone(), changed_at: SnapshotId(1) },
            shape: wanted.clone(),
            field_ids: FieldIds::default(),
            directory,
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
        let mut state = self.lock();
        let found = state
            .tables
            .get_mut(table)
            .ok_or_else(|| LakeError::invalid(format!("the table was dropped: table=`{table}`")))?;
        for column in columns {
            // Fields of a STRUCT are not supported here.
            if !found.shape.has_path(&column.name) {
                found.shape.columns.push(column.clone());
                found.version.changed_at.0 += 1;
            }
        }
        Ok(found.clone())
    }

    fn register_source(
        &mut self,
        spec: &SourceSpec,
        starts: &[(Partition, Offset)],
    ) -> Result<Source> {
        let mut state = self.lock();
        let same = |s: &&Source| s.spec.table == spec.table && s.spec.topic == spec.topic;
        if let Some(found) = state.sources.iter().find(same) {
            return Ok(found.clone());
        }
        let number = i32::try_from(state.sources.len() + 1).expect("a test has few sources");
        let source = Source { id: SourceId(number), spec: spec.clone() };
        state.sources.push(source.clone());
        state.start(source.id, starts);
        Ok(source)
    }

    fn start_partitions(&mut self, source: SourceId, starts: &[(Partition, Offset)]) -> Result<()> {
        self.lock().start(source, starts);
        Ok(())
    }

    fn positions(&mut self, source: SourceId) -> Result<Vec<(Partition, Position)>> {
        let state = self.lock();
        let of_source = state.progress.iter().filter(|((of, _), _)| *of == source);
        Ok(of_source.map(|((_, partition), position)| (*partition, *position)).collect())
    }

    /// Returns no rows: this lake does not read the content of files.
    fn recent_rows(&mut self, _: &RecentRows, _: &[(Partition, Offset)]) -> Result<Vec<RecentRow>> {
        Ok(Vec::new())
    }

    fn commit(&mut self, commit: &Commit) -> Result<CommitOutcome> {
        let mut state = self.lock();
        let current = |version: &TableVersion| {
            state.tables.get(&version.table).is_some_and(|table| table.version == *version)
        };
        if !commit.table_versions().iter().all(current) {
            return Ok(CommitOutcome::TableChanged);
        }
        Ok(state.apply(commit))
    }
}

impl State {
    fn start(&mut self, source: SourceId, starts: &[(Partition, Offset)]) {
        for &(partition, next_offset) in starts {
            let first = Position { epoch: Epoch(0), next_offset };
            self.progress.entry((source, partition)).or_insert(first);
        }
    }

    /// Applies the compare-and-swap of the triggers: all steps in order, or none.
    fn apply(&mut self, commit: &Commit) -> CommitOutcome {
        if commit.kind().resolves_dead_letter() {
            return self.resolve(commit);
        }
        let mut moved = self.progress.clone();
        for delta in commit.progress() {
            match moved.get_mut(&(delta.source, delta.partition)) {
                Some(position) if *position == delta.before() => *position = delta.after(),
                _ => return self.recognize_or_fence(commit),
            }
        }
        self.progress = moved;
        self.record(commit)
    }

    /// Resolves dead letters that are open and below the next offset: all of them, or none.
    fn resolve(&mut self, commit: &Commit) -> CommitOutcome {
        let mut resolved = self.resolved.clone();
        for step in commit.progress() {
            let position = self.progress.get(&(step.source, step.partition));
            let is_behind = position
                .is_some_and(|now| now.epoch == step.epoch && now.next_offset > step.range.from);
            if !is_behind || !resolved.insert((step.source, step.partition, step.range.from)) {
                let again = self.commits.iter().any(|earlier| earlier.files() == commit.files());
                return if again { CommitOutcome::Committed(None) } else { CommitOutcome::Fenced };
            }
        }
        self.resolved = resolved;
        self.record(commit)
    }

    fn record(&mut self, commit: &Commit) -> CommitOutcome {
        self.commits.push(commit.clone());
        let snapshots = self.commits.iter().filter(|commit| !commit.files().is_empty()).count();
        let snapshot = i64::try_from(snapshots).expect("a test makes few commits");
        let with_rows = !commit.files().is_empty();
        CommitOutcome::Committed(with_rows.then_some(SnapshotId(snapshot)))
    }

    /// Returns `Committed` for a commit that was applied before, `Fenced` for any other.
    fn recognize_or_fence(&self, commit: &Commit) -> CommitOutcome {
        let again = self.commits.iter().any(|earlier| {
            earlier.progress() == commit.progress() && earlier.files() == commit.files()
        });
        let still_there = commit.progress().iter().all(|delta| {
            self.progress.get(&(delta.source, delta.partition)) == Some(&delta.after())
        });
        if again && still_there { CommitOutcome::Committed(None) } else { CommitOutcome::Fenced }
    }
}
