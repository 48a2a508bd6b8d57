//! The ledger: one row for each committed range, one SELECT for all readers.
//!
//! [`ducktide_protocol::ledger`] follows the rows of a partition.

use std::collections::{BTreeMap, BTreeSet};

use ducktide_protocol::commit::{CommitKind, Counts, ProgressDelta};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::invariants::LedgerEntry;
use ducktide_protocol::position::{Offset, OffsetRange, Partition, SnapshotId, SourceId};
use jiff::Timestamp;

use super::client::CatalogClient;
use crate::rows::{FromRow, Row};
use crate::session::Session;
use crate::sql_text::quote;

/// Name of the table.
const TABLE: &str = "ducktide_ledger";

/// Columns that [`LedgerRow`] reads.
const COLUMNS: &str = "l.ledger_id, l.source_id, l.partition, l.epoch, l.from_offset, l.to_offset, \
                       l.snapshot_id, l.kind, l.rows, l.dead, l.duplicates, l.tombstones, l.gaps, \
                       l.given_up, l.committed_at";

/// A row of `ducktide_ledger`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// Number of the row; grows in the order of the commits.
    pub ledger_id: i64,
    /// Kind of the commit; None for one that this version does not know.
    pub kind: Option<CommitKind>,
    /// Source, partition, epoch, range and counts.
    pub step: ProgressDelta,
    /// Snapshot of the commit; None for progress without rows.
    pub snapshot: Option<SnapshotId>,
    /// Time of the commit.
    pub committed_at: Timestamp,
}

impl LedgerRow {
    /// Returns the entry for the pure functions; an error for an unknown kind.
    pub fn entry(&self) -> Result<LedgerEntry> {
        match self.kind {
            Some(kind) => Ok(LedgerEntry { kind, step: self.step }),
            None => Err(LakeError::invalid(format!(
                "the ledger has a kind that this program does not know: ledger_id=`{}`",
                self.ledger_id
            ))),
        }
    }

    /// Returns the partition that the row belongs to.
    #[must_use]
    pub const fn key(&self) -> (SourceId, Partition) {
        (self.step.source, self.step.partition)
    }
}

impl FromRow for LedgerRow {
    fn from_row(row: &Row) -> Result<Self> {
        fn get<T: crate::rows::FromValue>(row: &Row, column: &str) -> Result<T> {
            row.get_of(Some(TABLE), column)
        }
        let ledger_id = get(row, "ledger_id")?;
        let (source, partition) = (get(row, "source_id")?, get(row, "partition")?);
        let epoch = get(row, "epoch")?;
        let range = OffsetRange { from: get(row, "from_offset")?, to: get(row, "to_offset")? };
        let snapshot = get(row, "snapshot_id")?;
        let kind = CommitKind::of_name(&get::<String>(row, "kind")?);
        let counts = Counts {
            rows: get(row, "rows")?,
            dead: get(row, "dead")?,
            duplicates: get(row, "duplicates")?,
            tombstones: get(row, "tombstones")?,
            gaps: get(row, "gaps")?,
            given_up: get(row, "given_up")?,
        };
        let step = ProgressDelta { source, partition, epoch, range, counts };
        Ok(Self { ledger_id, kind, step, snapshot, committed_at: get(row, "committed_at")? })
    }
}

/// A SELECT of ledger rows, in the order of their commits.
///
/// ```
/// # use ducktide_lake::catalog::ledger::LedgerQuery;
/// # use ducktide_protocol::position::{Partition, SourceId};
/// let rows = LedgerQuery::all().of_partition(SourceId(1), Partition(0)).up_to(700);
/// let page = LedgerQuery::all().after(700).limit(10_000);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct LedgerQuery {
    conditions: Vec<String>,
    limit: Option<usize>,
}

impl LedgerQuery {
    /// Selects all rows.
    pub fn all() -> Self {
        Self::default()
    }

    /// Selects rows of a source.
    pub fn of_source(self, source: SourceId) -> Self {
        self.filter(format!("l.source_id = {source}"))
    }

    /// Selects rows of a partition.
    pub fn of_partition(self, source: SourceId, partition: Partition) -> Self {
        self.of_source(source).filter(format!("l.partition = {partition}"))
    }

    /// Selects rows of a kind.
    pub fn of_kind(self, kind: CommitKind) -> Self {
        self.filter(format!("l.kind = {}", quote(kind.as_str())))
    }

    /// Selects rows of a step: its partition, epoch and range.
    pub fn of_step(self, step: &ProgressDelta) -> Self {
        let ProgressDelta { source, partition, epoch, range, .. } = step;
        self.of_partition(*source, *partition).filter(format!(
            "l.epoch = {epoch} AND l.from_offset = {} AND l.to_offset = {}",
            range.from, range.to
        ))
    }

    /// Selects rows after the one with this ID.
    pub fn after(self, ledger_id: i64) -> Self {
        self.filter(format!("l.ledger_id > {ledger_id}"))
    }

    /// Selects rows up to the one with this ID, inclusive.
    pub fn up_to(self, ledger_id: i64) -> Self {
        self.filter(format!("l.ledger_id <= {ledger_id}"))
    }

    /// Selects rows that fulfil a condition in SQL, of the table's alias `l`.
    pub fn filter(mut self, condition: String) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Selects at most this number of rows, the oldest ones.
    pub fn limit(mut self, rows: usize) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Returns the query in the catalog database's dialect.
    #[must_use]
    pub fn sql(&self, catalog: &impl CatalogClient) -> String {
        let table = catalog.native_table(TABLE);
        let conditions = self.conditions.join(" AND ");
        let filter =
            if conditions.is_empty() { conditions } else { format!(" WHERE {conditions}") };
        let limit = self.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        format!("SELECT {COLUMNS} FROM {table} l{filter} ORDER BY l.ledger_id{limit}")
    }

    /// Reads the rows in a transaction of its own.
    pub fn read(&self, catalog: &impl CatalogClient) -> Result<Vec<LedgerRow>> {
        catalog.catalog_query(&self.sql(catalog))
    }
}

/// Returns all ranges of a partition, in the order of their commits.
pub fn entries(
    session: &Session,
    source: SourceId,
    partition: Partition,
) -> Result<Vec<LedgerEntry>> {
    let rows = LedgerQuery::all().of_partition(source, partition).read(session)?;
    rows.iter().map(LedgerRow::entry).collect()
}

/// Result of [`applied`] if the ledger has all steps.
pub struct Applied {
    /// Snapshot of the commit; None for progress without rows.
    pub snapshot: Option<SnapshotId>,
}

/// Checks that the ledger has a row of this kind for each of the steps; None if one is missing.
///
/// Only one replay or skip leaves a given pair of epoch and offset, so the row is the caller's own, or
/// that of a program with exactly the same change.
pub fn applied(
    session: &Session,
    kind: CommitKind,
    steps: &[ProgressDelta],
) -> Result<Option<Applied>> {
    let mut snapshot = None;
    for step in steps {
        let found = LedgerQuery::all().of_step(step).of_kind(kind).read(session)?;
        let Some(row) = found.first() else { return Ok(None) };
        snapshot = snapshot.or(row.snapshot);
    }
    Ok(Some(Applied { snapshot }))
}

/// Returns the lowest start offset of each partition of a source.
pub fn first_offsets(session: &Session, source: SourceId) -> Result<Vec<(Partition, Offset)>> {
    let starts = LedgerQuery::all().of_source(source).of_kind(CommitKind::Start).read(session)?;
    let mut first = BTreeMap::new();
    for ProgressDelta { partition, range, .. } in starts.iter().map(|row| row.step) {
        let offset = first.entry(partition).or_insert(range.from);
        *offset = range.from.min(*offset);
    }
    Ok(first.into_iter().collect())
}

/// Returns the ID of the ledger's newest row, 0 for none.
pub(crate) fn newest_id(session: &Session) -> Result<i64> {
    let table = session.native_table(TABLE);
    session.catalog_scalar(&format!("SELECT coalesce(max(ledger_id), 0) AS newest FROM {table}"))
}

/// Source, partition and offset of a dead letter, as in the ledger.
pub(crate) type DeadLetterKey = (SourceId, Partition, Offset);

/// Returns the dead letters with a resolution in the ledger that no replay removed: the same condition
/// as in the triggers.
pub(crate) fn resolved_dead_letters(
    catalog: &impl CatalogClient,
    steps: &[ProgressDelta],
) -> Result<BTreeSet<DeadLetterKey>> {
    let key = |step: &ProgressDelta| {
        format!("({}, {}, {})", step.source, step.partition, step.range.from)
    };
    let keys = steps.iter().map(key).collect::<Vec<_>>().join(", ");
    let ledger = catalog.native_table(TABLE);
    let resolutions = LedgerQuery::all()
        .filter(format!("(l.source_id, l.partition, l.from_offset) IN (VALUES {keys})"))
        .filter("l.kind IN ('retry', 'discard')".to_owned())
        .filter(format!(
            "NOT EXISTS (SELECT 1 FROM {ledger} r \
             WHERE r.source_id = l.source_id AND r.partition = l.partition AND r.kind = 'replay' \
             AND r.ledger_id > l.ledger_id AND r.to_offset <= l.from_offset)"
        ))
        .read(catalog)?;
    let key = |row: &LedgerRow| (row.step.source, row.step.partition, row.step.range.from);
    Ok(resolutions.iter().map(key).collect())
}

crate::row_struct! {
    struct OpenDeadLetters {
        table_name: String,
        open: i64,
    }
}

/// Returns the number of open dead letters of each table, as counted in the ledger, without tables
/// that have none.
pub fn open_dead_letters(session: &Session) -> Result<BTreeMap<String, i64>> {
    let sql = format!(
        "SELECT s.table_name, CAST(sum(l.dead) AS BIGINT) AS open FROM {} l \
         JOIN {} s ON s.source_id = l.source_id WHERE l.dead <> 0 GROUP BY s.table_name",
        session.native_table(TABLE),
        session.native_table("ducktide_source"),
    );
    let counts: Vec<OpenDeadLetters> = session.catalog_query(&sql)?;
    let counts = counts.into_iter().map(|row| (row.table_name, row.open));
    Ok(counts.filter(|(_, open)| *open != 0).collect())
}
