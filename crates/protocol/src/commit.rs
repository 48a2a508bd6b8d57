//! Content of a commit: offset ranges by partition, and the outcome of their records.
//!
//! The message is stored in the lake's catalog (`ducklake_snapshot_changes.commit_extra_info`)
//! and read there by the triggers of `catalog/*.sql`. Its shape must stay stable:
//!
//! ```json
//! {"ducktide":1,"kind":"ingest","progress":[{"source":1,"partition":0,"epoch":0,"from":100,"to":200,"rows":97,"tombstones":3}],"schema_ids":{"1":[7,8]}}
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::dead_letter::Resolution;
use crate::lake_table::TableVersion;
use crate::position::{Epoch, Offset, OffsetRange, Partition, Position, SnapshotId, SourceId};
use crate::staged_file::StagedFile;
use crate::table::TableName;

/// Version of the message; a trigger rejects any other.
pub const MESSAGE_VERSION: u8 = 1;

/// Origin of a commit, which selects the rules that the catalog applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitKind {
    /// A partition's first position.
    Start,
    /// Progress of a worker.
    Ingest,
    /// An operator's step backwards, which removes the rows from there on. Begins an epoch.
    Replay,
    /// Records that an operator skips. Begins an epoch.
    Skip,
    /// A dead letter that became a row. Does not move progress.
    Retry,
    /// A dead letter that an operator discards. Does not move progress.
    Discard,
}

impl CommitKind {
    /// Returns true if the commit begins a new epoch, which fences everything read before.
    #[must_use]
    pub const fn begins_epoch(self) -> bool {
        matches!(self, Self::Replay | Self::Skip)
    }

    /// Returns true if the commit resolves dead letters below the next offset and moves nothing.
    #[must_use]
    pub const fn resolves_dead_letter(self) -> bool {
        matches!(self, Self::Retry | Self::Discard)
    }
}

/// Outcomes of the records of a range, counted. Their sum is always the length of the range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records that became rows of the table.
    #[serde(skip_serializing_if = "is_zero")]
    pub rows: i64,
    /// Records in the dead-letter table, not yet resolved.
    #[serde(skip_serializing_if = "is_zero")]
    pub dead: i64,
    /// Records dropped as duplicates.
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicates: i64,
    /// Records without a value.
    #[serde(skip_serializing_if = "is_zero")]
    pub tombstones: i64,
    /// Offsets that hold no record: transaction markers, aborted or compacted records.
    #[serde(skip_serializing_if = "is_zero")]
    pub gaps: i64,
    /// Records that an operator skipped or discarded.
    #[serde(skip_serializing_if = "is_zero")]
    pub given_up: i64,
}

// serde's `skip_serializing_if` hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_zero(count: &i64) -> bool {
    *count == 0
}

impl Counts {
    /// Returns the number of counted offsets, which equals the length of the range.
    #[must_use]
    pub const fn total(&self) -> i64 {
        self.rows + self.dead + self.duplicates + self.tombstones + self.gaps + self.given_up
    }

    /// Returns the sum of both counts.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            dead: self.dead + other.dead,
            duplicates: self.duplicates + other.duplicates,
            tombstones: self.tombstones + other.tombstones,
            gaps: self.gaps + other.gaps,
            given_up: self.given_up + other.given_up,
        }
    }

    /// Returns true if the range adds rows to the lake, which needs a snapshot.
    #[must_use]
    pub const fn needs_snapshot(&self) -> bool {
        self.rows != 0 || self.dead != 0
    }
}

/// One partition's step: the compare-and-swap that the catalog applies or rejects.
///
/// | progress in the lake       | the step `(epoch, from → to)`                              |
/// |----------------------------|------------------------------------------------------------|
/// | `(epoch, from)`            | applied; progress is `(epoch, to)`                         |
/// | `(epoch, another offset)`  | rejected: another worker moved it, or a repeated step      |
/// | `(another epoch, …)`       | rejected: an operator moved it by replay or skip           |
/// | unknown partition          | rejected: it needs a `start` first                         |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProgressDelta {
    /// Table and topic of the range.
    pub source: SourceId,
    /// Kafka's partition number.
    pub partition: Partition,
    /// Epoch that the worker read together with its start offset.
    pub epoch: Epoch,
    /// Half-open range of offsets.
    #[serde(flatten)]
    pub range: OffsetRange,
    /// Outcomes of its records.
    #[serde(flatten)]
    pub counts: Counts,
}

impl ProgressDelta {
    /// Creates the step that resolves a dead letter; it moves nothing.
    #[must_use]
    pub fn resolving(
        source: SourceId,
        partition: Partition,
        epoch: Epoch,
        offset: Offset,
        resolution: Resolution,
    ) -> Self {
        let counts = match resolution {
            Resolution::Retried => Counts { rows: 1, dead: -1, ..Counts::default() },
            Resolution::Discarded => Counts { given_up: 1, dead: -1, ..Counts::default() },
        };
        let range = OffsetRange { from: offset, to: offset };
        Self { source, partition, epoch, range, counts }
    }

    /// Returns the position that progress must have for this step to be applied.
    #[must_use]
    pub const fn before(&self) -> Position {
        Position { epoch: self.epoch, next_offset: self.range.from }
    }

    /// Returns the position of progress after this step.
    #[must_use]
    pub const fn after(&self) -> Position {
        Position { epoch: self.epoch, next_offset: self.range.to }
    }
}

/// Registry ids of the schemas of the rows, by source.
pub type SchemaIds = BTreeMap<SourceId, BTreeSet<u32>>;

/// Message that the catalog's triggers read as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitMessage {
    ducktide: u8,
    /// Rules that apply.
    pub kind: CommitKind,
    /// Steps; all are applied, or none.
    pub progress: Vec<ProgressDelta>,
    /// Information for operators and their queries; the triggers ignore it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schema_ids: SchemaIds,
}

impl CommitMessage {
    /// Creates a message of this program's version.
    #[must_use]
    pub const fn new(kind: CommitKind, progress: Vec<ProgressDelta>) -> Self {
        Self { ducktide: MESSAGE_VERSION, kind, progress, schema_ids: SchemaIds::new() }
    }

    /// Creates the message with the first positions of new partitions.
    #[must_use]
    pub fn start(source: SourceId, positions: &[(Partition, Offset)]) -> Self {
        let delta = |&(partition, offset)| ProgressDelta {
            source,
            partition,
            epoch: Epoch(0),
            range: OffsetRange { from: offset, to: offset },
            counts: Counts::default(),
        };
        Self::new(CommitKind::Start, positions.iter().map(delta).collect())
    }

    /// Returns the text for the catalog.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and fixed names always serialize")
    }
}

/// Rows and progress that are committed to the lake in one transaction.
#[derive(Clone, Debug)]
pub struct Commit {
    kind: CommitKind,
    progress: Vec<ProgressDelta>,
    files: Vec<StagedFile>,
    table_versions: Vec<TableVersion>,
    schema_ids: SchemaIds,
}

impl Commit {
    /// Creates an ingest of `files`, written for `table_versions`, that moves `progress`.
    ///
    /// # Panics
    /// If counts do not add up, a range is empty or goes backwards, or the files hold another number of
    /// rows than the ranges claim: such a batch must not be sent.
    #[must_use]
    pub fn ingest(
        progress: Vec<ProgressDelta>,
        files: Vec<StagedFile>,
        table_versions: Vec<TableVersion>,
    ) -> Self {
        assert!(!progress.is_empty(), "a commit moves at least one partition");
        for delta in &progress {
            let (length, counted) = (delta.range.len(), delta.counts.total());
            assert!(length > 0, "a range goes forward: range={}", delta.range);
            assert!(length == counted, "counts add up: length={length} counted={counted}");
        }
        let claimed: i64 = progress.iter().map(|d| d.counts.rows + d.counts.dead).sum();
        let written = rows_of(&files);
        assert!(
            u64::try_from(claimed) == Ok(written),
            "files hold the rows that the ranges claim: claimed={claimed} written={written}"
        );
        let schema_ids = SchemaIds::new();
        Self { kind: CommitKind::Ingest, progress, files, table_versions, schema_ids }
    }

    /// Adds the schemas of the rows to the message.
    #[must_use]
    pub fn of_schemas(mut self, schema_ids: SchemaIds) -> Self {
        self.schema_ids = schema_ids;
        self
    }

    /// Creates a commit that resolves dead letters, one step for each ([`ProgressDelta::resolving`]).
    /// The files hold a row of the dead-letter table for each and, if they are retried, a row of the table.
    ///
    /// # Panics
    /// If there is no step, a step moves progress or is of another kind, or the files hold another number
    /// of rows.
    #[must_use]
    pub fn resolve(
        resolution: Resolution,
        steps: Vec<ProgressDelta>,
        files: Vec<StagedFile>,
        table_versions: Vec<TableVersion>,
    ) -> Self {
        assert!(!steps.is_empty(), "a commit resolves at least one dead letter");
        for step in &steps {
            let ProgressDelta { source, partition, epoch, range, .. } = *step;
            let expected =
                ProgressDelta::resolving(source, partition, epoch, range.from, resolution);
            assert!(*step == expected, "a step resolves one dead letter: step=`{step:?}`");
        }
        let rows_each = if resolution == Resolution::Retried { 2 } else { 1 };
        let (claimed, written) = (steps.len() as u64 * rows_each, rows_of(&files));
        assert!(
            claimed == written,
            "files hold the rows that the steps claim: claimed={claimed} written={written}"
        );
        let (kind, schema_ids) = (resolution.commit_kind(), SchemaIds::new());
        Self { kind, progress: steps, files, table_versions, schema_ids }
    }

    /// Returns the rules that apply.
    #[must_use]
    pub const fn kind(&self) -> CommitKind {
        self.kind
    }

    /// Returns the steps of this commit.
    #[must_use]
    pub fn progress(&self) -> &[ProgressDelta] {
        &self.progress
    }

    /// Returns the files of this commit; none if it only moves progress.
    #[must_use]
    pub fn files(&self) -> &[StagedFile] {
        &self.files
    }

    /// Returns the versions of the tables that the files were written for.
    #[must_use]
    pub fn table_versions(&self) -> &[TableVersion] {
        &self.table_versions
    }

    /// Returns the number of rows that enter the lake.
    #[must_use]
    pub fn rows(&self) -> u64 {
        rows_of(&self.files)
    }

    /// Returns the message for the catalog.
    #[must_use]
    pub fn message(&self) -> CommitMessage {
        let message = CommitMessage::new(self.kind, self.progress.clone());
        CommitMessage { schema_ids: self.schema_ids.clone(), ..message }
    }
}

fn rows_of(files: &[StagedFile]) -> u64 {
    files.iter().map(|file| file.rows).sum()
}

/// Result of the check of progress after a COMMIT whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutcomeCheck {
    /// The commit was applied; only its answer was lost.
    Applied,
    /// The commit was not applied so far.
    NotApplied,
    /// Another worker or an operator moved progress.
    Superseded,
    /// The catalog does not answer: the outcome stays unknown, and the check is repeated.
    Unanswered,
}

impl OutcomeCheck {
    /// All results, for metrics.
    pub const ALL: [Self; 4] =
        [Self::Applied, Self::NotApplied, Self::Superseded, Self::Unanswered];

    /// Returns the name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotApplied => "not_applied",
            Self::Superseded => "moved",
            Self::Unanswered => "unanswered",
        }
    }
}

/// Outcome of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Rows and progress are in the lake. Progress without rows has no snapshot.
    Committed(Option<SnapshotId>),
    /// Progress is neither at the start of the commit nor, with its files, at the end: drop the batch,
    /// reload progress, seek. Of a resolution: a dead letter is already resolved, or was removed by a
    /// replay; read the dead letters again.
    Fenced,
    /// The table was altered after the files were written: drop the batch, reload the shape, seek.
    TableChanged,
    /// Staged files of these tables are missing or could not be made durable: drop the batch, seek,
    /// rewrite it.
    FilesUnusable(BTreeSet<TableName>),
}
