//! Coalesces the ledger: old ranges of a partition become one for each day.
//!
//! A busy partition adds a range every second, and `verify` and each replay read the ledger from its
//! start. Once no readable snapshot is as old as a range, its commit is of no interest any more: only
//! the continuity of the ranges and their sums are, and both are kept.
//!
//! The newest row of a run stays, with the counts of those before it: the greatest `ledger_id` is never
//! removed, because SQLite would assign it a second time.

mod coalescer;

use std::thread;
use std::time::{Duration, Instant};

use ducktide_lake::CatalogClient as _;
use ducktide_lake::catalog::ledger::{LedgerQuery, LedgerRow};
use ducktide_lake::duckdb_error::is_outage;
use ducktide_lake::session::Session;
use ducktide_lake::{DuckLake, WriteLocks};
use ducktide_protocol::commit::{CommitKind, Counts};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::SnapshotId;
use jiff::Timestamp;

use self::coalescer::{CoalescedRows, Coalescer, Horizon, ReplayTargets};
use super::{MaintenanceOutcome, Operation, failed, list, maintain};

/// Maximum number of rows that are read at a time and removed in one transaction: commits wait for it,
/// and workers on a SQLite catalog are blocked meanwhile.
const PAGE: usize = 10_000;

/// Maximum number of transactions of one call, because a replay waits for the maintenance lock. The next
/// call continues.
const MAX_BATCHES: usize = 100;

/// Limit for retries while the catalog is busy.
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between two attempts: commits take milliseconds.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Joins the ranges of each source, partition, epoch and day (UTC) that were committed before
/// `older_than` and by snapshots older than the oldest readable one.
///
/// Only consecutive ranges of ingested records are joined: never across a replay, a skip or a resolved
/// dead letter, and never across an offset to which a replay went back. All sums stay. The result is
/// the number of removed rows.
pub fn coalesce_ledger(
    lake: &mut DuckLake,
    older_than: Timestamp,
    timeout: Duration,
) -> Result<MaintenanceOutcome> {
    maintain(lake, Operation::CoalesceLedger, timeout, |session, mut writing| {
        Ok(MaintenanceOutcome::Done(coalesce(session, &mut writing, older_than)?))
    })
}

fn coalesce(session: &Session, writing: &mut WriteLocks<'_>, older_than: Timestamp) -> Result<u64> {
    let horizon = Horizon { older_than, oldest_snapshot: oldest_snapshot(session)? };
    let mut coalescer = Coalescer::new(horizon, replay_targets(session)?);
    let (mut removed, mut batches, mut last) = (0, 0, i64::MIN);
    while batches < MAX_BATCHES {
        let page = LedgerQuery::all().after(last).limit(PAGE).read(session)?;
        let Some(newest) = page.last() else { break };
        last = newest.ledger_id;
        let is_last = page.len() < PAGE || !page.iter().any(|row| horizon.is_before(row));
        for row in page {
            coalescer.push(row);
        }
        let batch = coalescer.flush();
        if !batch.is_empty() {
            // Without the lock a concurrent commit ends the transaction of a SQLite catalog.
            let _guard = writing.commit.acquire(session)?;
            writing.leader.check()?;
            removed += apply(session, &batch)?;
            batches += 1;
        }
        if is_last {
            break;
        }
    }
    Ok(removed)
}

/// Returns the oldest snapshot that can be read: the ledger of it and of newer ones is not changed.
fn oldest_snapshot(session: &Session) -> Result<SnapshotId> {
    let snapshots = session.native_table("ducklake_snapshot");
    let sql = format!("SELECT min(snapshot_id) AS oldest FROM {snapshots}");
    session.catalog_scalar(&sql)
}

/// Reads the offsets to which replays went back.
fn replay_targets(session: &Session) -> Result<ReplayTargets> {
    let replays = LedgerQuery::all().of_kind(CommitKind::Replay).read(session)?;
    Ok(replays.iter().map(|row| (row.key(), row.step.range.to)).collect())
}

/// Writes coalesced rows in one transaction, and returns the number of removed rows.
fn apply(session: &Session, coalesced: &[CoalescedRows]) -> Result<u64> {
    let deadline = Instant::now() + RETRY_TIMEOUT;
    loop {
        let error = match try_apply(session, coalesced) {
            Ok(removed) => return Ok(removed),
            Err(error) => error,
        };
        // A failed COMMIT has ended the transaction already; then there is nothing to roll back.
        let _ = session.execute("ROLLBACK");
        // A SQLite file that another client writes to is reported as locked at once, not after a timeout.
        if !is_outage(&error.chain()) || Instant::now() >= deadline {
            return Err(error);
        }
        thread::sleep(RETRY_PAUSE);
    }
}

/// Removes and updates rows natively, by primary key: through DuckDB each statement would read the whole
/// ledger, with the write lock of a SQLite catalog held (1 s for two million ranges, measured).
fn try_apply(session: &Session, coalesced: &[CoalescedRows]) -> Result<u64> {
    let failed = failed("coalesce the ledger");
    let removed: Vec<_> = coalesced.iter().flat_map(|one| one.removed.iter().copied()).collect();
    session.execute("BEGIN").map_err(&failed)?;
    check_unchanged(session, coalesced, &removed)?;
    let ledger = session.native_table("ducktide_ledger");
    let delete = format!("DELETE FROM {ledger} WHERE ledger_id IN ({})", list(&removed));
    session
        .execute_in_catalog(&delete)
        .and_then(|()| session.execute_in_catalog(&update_sql(&ledger, coalesced)))
        .and_then(|()| session.execute("COMMIT"))
        .map_err(&failed)?;
    Ok(removed.len() as u64)
}

/// Checks, in the transaction that changes them, that the rows are still the ones that were read. They
/// differ only if a second compactor works without the maintenance lock.
fn check_unchanged(session: &Session, coalesced: &[CoalescedRows], removed: &[i64]) -> Result<()> {
    let retained: Vec<_> = coalesced.iter().map(|one| one.row.ledger_id).collect();
    let expected = coalesced.iter().map(|one| one.row.step.range.len()).sum::<i64>();
    let sql = session.native_query(&format!(
        "SELECT count(*) AS ranges, CAST(sum(to_offset - from_offset) AS BIGINT) AS offsets \
         FROM {} WHERE ledger_id IN ({}, {}) AND kind = 'ingest'",
        session.native_table("ducktide_ledger"),
        list(removed),
        list(&retained),
    ));
    let rows = session.query(&sql).map_err(failed("read the ledger"))?;
    let found: (u64, Option<i64>) = match rows.first() {
        Some(row) => (row.get("ranges")?, row.get("offsets")?),
        None => (0, None),
    };
    let ranges = (removed.len() + retained.len()) as u64;
    if found == (ranges, Some(expected)) {
        return Ok(());
    }
    Err(LakeError::unavailable(format!(
        "the ledger changed since it was read; the next run retries: ranges=`{ranges}` \
         offsets=`{expected}` ranges_found=`{}` offsets_found=`{}`",
        found.0,
        found.1.unwrap_or(0)
    )))
}

/// Returns the statement that extends the retained rows; their end, kind, epoch and time stay.
fn update_sql(ledger: &str, coalesced: &[CoalescedRows]) -> String {
    let values: Vec<_> = coalesced.iter().map(|one| values(&one.row)).collect();
    format!(
        "WITH v(id, first, snapshot, n_rows, n_dead, n_duplicates, n_tombstones, n_gaps) AS \
         (VALUES {}) UPDATE {ledger} SET from_offset = v.first, snapshot_id = v.snapshot, \
         rows = v.n_rows, dead = v.n_dead, duplicates = v.n_duplicates, \
         tombstones = v.n_tombstones, gaps = v.n_gaps \
         FROM v WHERE ledger_id = v.id",
        values.join(", "),
    )
}

fn values(row: &LedgerRow) -> String {
    let Counts { rows, dead, duplicates, tombstones, gaps, .. } = row.step.counts;
    let snapshot = row.snapshot.map_or("CAST(NULL AS BIGINT)".to_owned(), |id| id.to_string());
    let (id, from) = (row.ledger_id, row.step.range.from);
    format!("({id}, {from}, {snapshot}, {rows}, {dead}, {duplicates}, {tombstones}, {gaps})")
}
