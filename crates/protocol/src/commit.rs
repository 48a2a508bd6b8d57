//! What a commit says: which ranges of which partitions it moves, and what became of their records.
//!
//! The message is persisted in the lake's catalog (`ducklake_snapshot_changes.commit_extra_info`)
//! and read there by the triggers of `catalog/*.sql`. Its shape must stay stable:
//!
//! ```json
//! {"ducktide":1,"kind":"ingest","progress":[{"source":1,"partition":0,"epoch":0,"from":100,"to":200,"rows":97,"tombstones":3}],"schema_ids":{"1":[7,8]}}
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::dead_letter::Resolution;
use crate::lake::TableVersion;
use crate::position::{Epoch, Offset, OffsetRange, Partition, Position, SnapshotId, SourceId};
use crate::staged_file::StagedFile;
use crate::table::TableName;

/// The version of the message; a trigger refuses any other.
pub const MESSAGE_VERSION: u8 = 1;

/// Who moves progress, and so which rules the catalog applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitKind {
    /// A partition's first position.
    Start,
    /// A worker's everyday progress.
    Ingest,
    /// An operator's step backwards, which takes the rows behind it out. Begins an epoch.
    Replay,
    /// Records that an operator gives up. Begins an epoch.
    Skip,
    /// A dead letter that became a row. Progress stays where it is.
    Retry,
    /// A dead letter that an operator gives up. Progress stays where it is.
    Discard,
}

impl CommitKind {
    /// Whether progress after it is of a new epoch, so that whatever was read before is fenced.
    #[must_use]
    pub const fn begins_epoch(self) -> bool {
        matches!(self, Self::Replay | Self::Skip)
    }

    /// Whether it decides over a dead letter below the next offset, and moves nothing.
    #[must_use]
    pub const fn resolves_dead_letter(self) -> bool {
        matches!(self, Self::Retry | Self::Discard)
    }
}

/// What became of the records of a range. Their sum is the length of the range, always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records that are rows of the table now.
    #[serde(skip_serializing_if = "is_zero")]
    pub rows: i64,
    /// Records in the dead-letter table, not yet resolved.
    #[serde(skip_serializing_if = "is_zero")]
    pub dead: i64,
    /// Records dropped because their key had been written before.
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicates: i64,
    /// Records without a value.
    #[serde(skip_serializing_if = "is_zero")]
    pub tombstones: i64,
    /// Offsets that hold no record: transaction markers, aborted or compacted records.
    #[serde(skip_serializing_if = "is_zero")]
    pub gaps: i64,
    /// Records that an operator decided to give up.
    #[serde(skip_serializing_if = "is_zero")]
    pub given_up: i64,
}

// serde's `skip_serializing_if` hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
const fn is_zero(count: &i64) -> bool {
    *count == 0
}

impl Counts {
    /// All counted offsets; equals the length of the range.
    #[must_use]
    pub const fn total(&self) -> i64 {
        self.rows + self.dead + self.duplicates + self.tombstones + self.gaps + self.given_up
    }

    /// Both together.
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

    /// Whether the range brings data into the lake, and so needs a snapshot of it.
    #[must_use]
    pub const fn needs_snapshot(&self) -> bool {
        self.rows != 0 || self.dead != 0
    }
}

/// One partition's step: the compare-and-swap that the catalog applies or refuses.
///
/// | progress in the lake       | the step `(epoch, from → to)`                              |
/// |----------------------------|------------------------------------------------------------|
/// | `(epoch, from)`            | applied; progress is `(epoch, to)`                         |
/// | `(epoch, anything else)`   | refused: another worker moved it, or this step came before |
/// | `(another epoch, …)`       | refused: an operator moved it by replay or skip            |
/// | unknown partition          | refused: it needs a `start` first                          |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProgressDelta {
    /// The table and topic that the range belongs to.
    pub source: SourceId,
    /// Kafka's partition number.
    pub partition: Partition,
    /// The epoch that the worker read together with its start offset.
    pub epoch: Epoch,
    /// The half-open range.
    #[serde(flatten)]
    pub range: OffsetRange,
    /// What became of its records.
    #[serde(flatten)]
    pub counts: Counts,
}

impl ProgressDelta {
    /// The step that says what became of a dead letter: it moves nothing.
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

    /// Where progress must stand for this step to be applied.
    #[must_use]
    pub const fn before(&self) -> Position {
        Position { epoch: self.epoch, next_offset: self.range.from }
    }

    /// Where progress stands once it is applied.
    #[must_use]
    pub const fn after(&self) -> Position {
        Position { epoch: self.epoch, next_offset: self.range.to }
    }
}

/// For each source, the registry's ids of the schemas that its rows were written with.
pub type SchemaIds = BTreeMap<SourceId, BTreeSet<u32>>;

/// The JSON that the catalog's triggers read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitMessage {
    ducktide: u8,
    /// Which rules apply.
    pub kind: CommitKind,
    /// The steps; all are applied, or none.
    pub progress: Vec<ProgressDelta>,
    /// For people and their queries; the triggers do not look at it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schema_ids: SchemaIds,
}

impl CommitMessage {
    /// A message of the version that this program speaks.
    #[must_use]
    pub const fn new(kind: CommitKind, progress: Vec<ProgressDelta>) -> Self {
        Self { ducktide: MESSAGE_VERSION, kind, progress, schema_ids: SchemaIds::new() }
    }

    /// The first positions of partitions that the lake does not know yet.
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

    /// The text that goes into the catalog.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and fixed names always serialize")
    }
}

/// Rows and progress that enter the lake together, or not at all.
#[derive(Clone, Debug)]
pub struct Commit {
    kind: CommitKind,
    progress: Vec<ProgressDelta>,
    files: Vec<StagedFile>,
    table_versions: Vec<TableVersion>,
    schema_ids: SchemaIds,
}

impl Commit {
    /// An ingest of `files`, written for `table_versions`, that moves `progress`.
    ///
    /// # Panics
    /// When the counts do not add up, a range is empty or backwards, or the files hold another
    /// number of rows than the ranges claim: the batch is not what it says, and must not be sent.
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

    /// Has the message say which schemas the rows were written with.
    #[must_use]
    pub fn of_schemas(mut self, schema_ids: SchemaIds) -> Self {
        self.schema_ids = schema_ids;
        self
    }

    /// Says what became of dead letters, one step for each ([`ProgressDelta::resolving`]). The files
    /// hold a row of the dead-letter table for each and, where they are retried, a row of the table.
    ///
    /// # Panics
    /// When there is no step, a step moves progress or is of another kind, or the files hold another
    /// number of rows.
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
            assert!(*step == expected, "a step resolves one letter: step=`{step:?}`");
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

    /// Which rules apply.
    #[must_use]
    pub const fn kind(&self) -> CommitKind {
        self.kind
    }

    /// The steps of this commit.
    #[must_use]
    pub fn progress(&self) -> &[ProgressDelta] {
        &self.progress
    }

    /// The files of this commit: none when it only moves progress.
    #[must_use]
    pub fn files(&self) -> &[StagedFile] {
        &self.files
    }

    /// The shapes that the files were written for.
    #[must_use]
    pub fn table_versions(&self) -> &[TableVersion] {
        &self.table_versions
    }

    /// How many rows enter the lake.
    #[must_use]
    pub fn rows(&self) -> u64 {
        rows_of(&self.files)
    }

    /// The message for the catalog.
    #[must_use]
    pub fn message(&self) -> CommitMessage {
        let message = CommitMessage::new(self.kind, self.progress.clone());
        CommitMessage { schema_ids: self.schema_ids.clone(), ..message }
    }
}

fn rows_of(files: &[StagedFile]) -> u64 {
    files.iter().map(|file| file.rows).sum()
}

/// What the catalog said after a commit that did not end with an ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inquiry {
    /// It was applied, only its answer was lost.
    Applied,
    /// Nothing has changed so far.
    NotApplied,
    /// Progress is somewhere else.
    Moved,
    /// The catalog does not answer: the outcome is unknown, and is asked for again.
    Unanswered,
}

impl Inquiry {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Applied, Self::NotApplied, Self::Moved, Self::Unanswered];

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotApplied => "not_applied",
            Self::Moved => "moved",
            Self::Unanswered => "unanswered",
        }
    }
}

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Rows and progress are in the lake. No snapshot belongs to progress without rows.
    Committed(Option<SnapshotId>),
    /// The lake's progress is neither where the commit starts nor where it ends with our files:
    /// drop the batch, reload progress, seek. For a resolution: a letter is resolved already, or was
    /// taken out by a replay; look at the letters again.
    Fenced,
    /// The table was altered after the files were written: drop the batch, reload the shape, seek.
    TableChanged,
    /// Staged files of these tables are gone or could not be made durable: drop the batch, seek, write
    /// it again.
    FilesUnusable(BTreeSet<TableName>),
}
