//! Reads the ledger of one partition.

use ducktide_protocol::commit::{CommitKind, Counts, ProgressDelta};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::invariants::LedgerEntry;
use ducktide_protocol::position::{Epoch, Offset, OffsetRange, Partition, SnapshotId, SourceId};

use super::parse;
use crate::duck_lake::DuckLake;
use crate::session::Session;

/// All ranges of a partition, in the order of their commits.
pub fn entries(
    session: &Session,
    source: SourceId,
    partition: Partition,
) -> Result<Vec<LedgerEntry>> {
    let sql = format!(
        "SELECT kind, epoch, from_offset, to_offset, rows, dead, duplicates, tombstones, gaps, given_up \
         FROM {} WHERE source_id = {source} AND partition = {partition} ORDER BY ledger_id",
        session.native_table("ducktide_ledger")
    );
    let entry = |row| entry_of_row(row, source, partition);
    session.catalog_rows(&sql)?.into_iter().map(entry).collect()
}

fn entry_of_row(
    row: Vec<Option<String>>,
    source: SourceId,
    partition: Partition,
) -> Result<LedgerEntry> {
    let mut values = row.into_iter();
    let mut next = || values.next().flatten();
    let kind = next().unwrap_or_default();
    let kind = serde_json::from_value(kind.as_str().into()).map_err(|error| {
        LakeError::invalid(format!(
            "the ledger has a kind that this program does not know: kind=`{kind}`"
        ))
        .because(error)
    })?;
    let epoch = Epoch(parse(next())?);
    let range = OffsetRange { from: Offset(parse(next())?), to: Offset(parse(next())?) };
    let counts = Counts {
        rows: parse(next())?,
        dead: parse(next())?,
        duplicates: parse(next())?,
        tombstones: parse(next())?,
        gaps: parse(next())?,
        given_up: parse(next())?,
    };
    Ok(LedgerEntry { kind, step: ProgressDelta { source, partition, epoch, range, counts } })
}

impl DuckLake {
    /// The id of the ledger's newest row, 0 for none. Each range that a commit advances takes one or
    /// more ids, so that the difference of two tells whether, and how often, workers commit.
    pub fn newest_ledger_id(&mut self) -> Result<i64> {
        let session = self.session()?;
        let table = session.native_table("ducktide_ledger");
        let sql = format!("SELECT coalesce(max(ledger_id), 0) AS newest FROM {table}");
        parse(session.catalog_value(&sql)?)
    }
}

/// Steps that the ledger has.
pub struct Applied {
    /// The snapshot that they came with; none of progress without rows.
    pub snapshot: Option<SnapshotId>,
}

/// Whether the ledger has a row of this kind for each of the steps.
///
/// A pair of epoch and offset is left by one replay or skip only, so the row is the caller's own, or
/// of one that did exactly the same.
pub fn applied(
    session: &Session,
    kind: CommitKind,
    steps: &[ProgressDelta],
) -> Result<Option<Applied>> {
    let kind = serde_json::to_value(kind).expect("a plain name always serializes");
    let mut snapshot = None;
    for step in steps {
        let sql = format!(
            "SELECT coalesce(snapshot_id, -1) AS snapshot_id FROM {} WHERE source_id = {} \
             AND partition = {} AND epoch = {} AND from_offset = {} AND to_offset = {} AND kind = '{}'",
            session.native_table("ducktide_ledger"),
            step.source,
            step.partition,
            step.epoch,
            step.range.from,
            step.range.to,
            kind.as_str().unwrap_or_default(),
        );
        let Some(row) = session.catalog_rows(&sql)?.into_iter().next() else { return Ok(None) };
        let id: i64 = parse(row.into_iter().next().flatten())?;
        snapshot = snapshot.or((id >= 0).then_some(SnapshotId(id)));
    }
    Ok(Some(Applied { snapshot }))
}

/// The first offset that each partition of a source ever had.
pub fn first_offsets(session: &Session, source: SourceId) -> Result<Vec<(Partition, Offset)>> {
    let sql = format!(
        "SELECT partition, min(from_offset) AS first_offset FROM {} WHERE source_id = {source} \
         AND kind = 'start' GROUP BY partition ORDER BY partition",
        session.native_table("ducktide_ledger")
    );
    let first = |row: Vec<Option<String>>| {
        let mut values = row.into_iter();
        Ok((Partition(parse(values.next().flatten())?), Offset(parse(values.next().flatten())?)))
    };
    session.catalog_rows(&sql)?.into_iter().map(first).collect()
}
