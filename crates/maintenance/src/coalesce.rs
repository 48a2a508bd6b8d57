//! Coalesces the ledger: old ranges of a partition become one for each day.
//!
//! A busy partition adds a range every second, and the ledger is followed from its beginning by
//! `verify` and by each replay. Once no readable snapshot is as old as a range, nobody asks any more
//! which commit brought it, only that the ranges tile and what their sums are. Those stay.
//!
//! The newest range of a run survives, with the counts of those before it: the greatest `ledger_id`
//! is never freed, which SQLite would give out a second time.

mod runs;

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use ducktide_lake::catalog::parse;
use ducktide_lake::duckdb_error::is_outage;
use ducktide_lake::parse_time;
use ducktide_lake::session::Session;
use ducktide_lake::{DuckLake, Writing};
use ducktide_protocol::commit::Counts;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::{Epoch, Offset, OffsetRange, Partition, SnapshotId, SourceId};
use jiff::Timestamp;

use self::runs::{Coalesced, Coalescer, Horizon, LedgerRange};
use super::{Maintained, Operation, failed, list, maintain};

/// Ranges that are read at a time, and at most as many are removed in one transaction: commits wait
/// for it, and those of a SQLite catalog cannot do anything else meanwhile.
const PAGE: usize = 10_000;

/// Transactions of one call: a replay waits for the maintenance lock. The rest is for the next call.
const BATCHES: usize = 100;

/// How long a busy catalog is tried, and how long between two tries: commits take milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Makes one range of each source, partition, epoch and day (UTC) out of those that were committed
/// before `older_than` and by snapshots older than the oldest readable one.
///
/// Only neighbours that say what was ingested become one: never across a replay, a skip or a
/// settled dead letter, and never across an offset to which a replay went back. All sums stay.
/// Done says how many rows the ledger has less.
pub fn coalesce_ledger(
    lake: &mut DuckLake,
    older_than: Timestamp,
    timeout: Duration,
) -> Result<Maintained> {
    maintain(lake, Operation::CoalesceLedger, timeout, |session, mut writing| {
        Ok(Maintained::Done(coalesce(session, &mut writing, older_than)?))
    })
}

fn coalesce(session: &Session, writing: &mut Writing<'_>, older_than: Timestamp) -> Result<u64> {
    let horizon = Horizon { older_than, oldest_snapshot: oldest_snapshot(session)? };
    let mut coalescer = Coalescer::new(horizon, replayed_to(session)?);
    let (mut removed, mut batches, mut last) = (0, 0, i64::MIN);
    while batches < BATCHES {
        let page = ranges_after(session, last)?;
        let Some(newest) = page.last() else { break };
        last = newest.id;
        let is_last = page.len() < PAGE || !page.iter().any(|range| horizon.is_behind(range));
        for range in page {
            coalescer.take(range);
        }
        let batch = coalescer.flush();
        if !batch.is_empty() {
            // Without it a commit that comes in between ends the transaction of a SQLite catalog.
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

/// The oldest snapshot that a reader can travel to: what the ledger says of it and of newer ones
/// stays as it is.
fn oldest_snapshot(session: &Session) -> Result<SnapshotId> {
    let snapshots = session.native_table("ducklake_snapshot");
    let sql = format!("SELECT min(snapshot_id) AS oldest FROM {snapshots}");
    parse(session.catalog_value(&sql)?).map(SnapshotId)
}

/// The offsets to which replays went back.
fn replayed_to(session: &Session) -> Result<BTreeSet<(SourceId, Partition, Offset)>> {
    let ledger = session.native_table("ducktide_ledger");
    let sql = format!("SELECT source_id, partition, to_offset FROM {ledger} WHERE kind = 'replay'");
    let end = |row: Vec<Option<String>>| {
        let mut values = row.into_iter();
        let mut next = || values.next().flatten();
        Ok((SourceId(parse(next())?), Partition(parse(next())?), Offset(parse(next())?)))
    };
    session.catalog_rows(&sql)?.into_iter().map(end).collect()
}

/// The next ranges of all partitions, in the order of their commits.
fn ranges_after(session: &Session, last: i64) -> Result<Vec<LedgerRange>> {
    let sql = format!(
        "SELECT ledger_id, source_id, partition, epoch, from_offset, to_offset, snapshot_id, kind, \
         rows, dead, duplicates, tombstones, gaps, given_up, committed_at FROM {} \
         WHERE ledger_id > {last} ORDER BY ledger_id LIMIT {PAGE}",
        session.native_table("ducktide_ledger")
    );
    session.catalog_rows(&sql)?.into_iter().map(range_of_row).collect()
}

fn range_of_row(row: Vec<Option<String>>) -> Result<LedgerRange> {
    let mut values = row.into_iter();
    let mut next = || values.next().flatten();
    Ok(LedgerRange {
        id: parse(next())?,
        source: SourceId(parse(next())?),
        partition: Partition(parse(next())?),
        epoch: Epoch(parse(next())?),
        range: OffsetRange { from: Offset(parse(next())?), to: Offset(parse(next())?) },
        snapshot: next().map(|id| parse(Some(id))).transpose()?.map(SnapshotId),
        is_ingest: next().as_deref() == Some("ingest"),
        counts: Counts {
            rows: parse(next())?,
            dead: parse(next())?,
            duplicates: parse(next())?,
            tombstones: parse(next())?,
            gaps: parse(next())?,
            given_up: parse(next())?,
        },
        committed_at: parse_time(&next().unwrap_or_default())?,
    })
}

/// Writes coalesced ranges in one transaction, or nothing.
fn apply(session: &Session, coalesced: &[Coalesced]) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match try_apply(session, coalesced) {
            Ok(removed) => return Ok(removed),
            Err(error) => error,
        };
        // A failed COMMIT has ended the transaction already; then there is nothing to roll back.
        let _ = session.execute("ROLLBACK");
        // A SQLite file that somebody else writes to is "locked" at once, not after a while.
        if !is_outage(&error.chain()) || Instant::now() >= deadline {
            return Err(error);
        }
        thread::sleep(PAUSE);
    }
}

/// The catalog database's own statements, by primary key: through DuckDB each would read the whole
/// ledger, with the write lock of a SQLite catalog held (1 s for two million ranges, measured).
fn try_apply(session: &Session, coalesced: &[Coalesced]) -> Result<u64> {
    let failed = failed("coalesce the ledger");
    let removed: Vec<_> = coalesced.iter().flat_map(|one| one.absorbed.iter().copied()).collect();
    session.execute("BEGIN").map_err(&failed)?;
    check_unchanged(session, coalesced, &removed)?;
    let ledger = session.native_table("ducktide_ledger");
    let delete = format!("DELETE FROM {ledger} WHERE ledger_id IN ({})", list(&removed));
    session
        .change_natively(&delete)
        .and_then(|()| session.change_natively(&update_sql(&ledger, coalesced)))
        .and_then(|()| session.execute("COMMIT"))
        .map_err(&failed)?;
    Ok(removed.len() as u64)
}

/// Whether the ranges are still the ones that were read, in the transaction that changes them. Two
/// compactors would have to be at work without the maintenance lock for another answer.
fn check_unchanged(session: &Session, coalesced: &[Coalesced], removed: &[i64]) -> Result<()> {
    let survivors: Vec<_> = coalesced.iter().map(|one| one.survivor.id).collect();
    let expected = coalesced.iter().map(|one| one.survivor.range.len()).sum::<i64>();
    let sql = session.native_query(&format!(
        "SELECT count(*) AS ranges, CAST(sum(to_offset - from_offset) AS BIGINT) AS offsets \
         FROM {} WHERE ledger_id IN ({}, {}) AND kind = 'ingest'",
        session.native_table("ducktide_ledger"),
        list(removed),
        list(&survivors),
    ));
    let rows = session.rows(&sql).map_err(failed("read the ledger"))?;
    let found: Vec<_> = rows.into_iter().flatten().flatten().collect();
    let wanted = [(removed.len() + survivors.len()).to_string(), expected.to_string()];
    if found == wanted {
        return Ok(());
    }
    Err(LakeError::unavailable(format!(
        "the ledger changed meanwhile: ranges=`{}` offsets=`{}` found=`{}`",
        wanted[0],
        wanted[1],
        found.join(" ")
    )))
}

/// The survivor's own end, kind, epoch and time stay.
fn update_sql(ledger: &str, coalesced: &[Coalesced]) -> String {
    let values: Vec<_> = coalesced.iter().map(|one| values(&one.survivor)).collect();
    format!(
        "WITH v(id, first, snapshot, n_rows, n_dead, n_duplicates, n_tombstones, n_gaps) AS \
         (VALUES {}) UPDATE {ledger} SET from_offset = v.first, snapshot_id = v.snapshot, \
         rows = v.n_rows, dead = v.n_dead, duplicates = v.n_duplicates, \
         tombstones = v.n_tombstones, gaps = v.n_gaps \
         FROM v WHERE ledger_id = v.id",
        values.join(", "),
    )
}

fn values(range: &LedgerRange) -> String {
    let Counts { rows, dead, duplicates, tombstones, gaps, .. } = range.counts;
    let snapshot = range.snapshot.map_or("CAST(NULL AS BIGINT)".to_owned(), |id| id.to_string());
    let (id, from) = (range.id, range.range.from);
    format!("({id}, {from}, {snapshot}, {rows}, {dead}, {duplicates}, {tombstones}, {gaps})")
}
