//! Reads the recent rows of a table, for the detection of duplicates among later records.
//!
//! Two queries cover all partitions of a topic: the first reads the time of each partition's newest
//! row, the second the rows of the window before it. Both filter by timestamp: `DuckLake` compares the
//! filter with the bounds of files, so a short window does not read a large table.

use std::collections::BTreeMap;

use duckdb::Row;
use duckdb::types::ValueRef;
use ducktide_protocol::dedupe::{EventId, RecentRow, RecentRows};
use ducktide_protocol::error::Result;
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::{
    KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_TOPIC, quote_identifier,
};
use jiff::Timestamp;

use crate::duck_lake::DuckLake;
use crate::duckdb_error;
use crate::session::{LAKE, Session};
use crate::sql_text::quote;

/// Second span that is searched for the newest rows, in microseconds (30 days): after the window, if
/// that is shorter, and before the whole table.
const LOOK_BACK_MICROS: i64 = 30 * 86_400 * 1_000_000;

/// Returns the rows of each partition's window below the given offset, in the order of their offsets.
pub(crate) fn read(
    lake: &mut DuckLake,
    wanted: &RecentRows,
    below: &[(Partition, Offset)],
) -> Result<Vec<RecentRow>> {
    let session = lake.session()?;
    let read =
        newest(session, wanted, below).and_then(|newest| rows(session, wanted, below, &newest));
    read.map_err(|error| {
        lake.handle_error(&error.to_string());
        duckdb_error::failed(format!("read recent rows: table=`{}`", wanted.table), error)
    })
}

/// Returns each partition's newest timestamp, in microseconds; partitions without rows are omitted.
fn newest(
    session: &Session,
    wanted: &RecentRows,
    below: &[(Partition, Offset)],
) -> duckdb::Result<BTreeMap<Partition, i64>> {
    let now = Timestamp::now().as_microsecond();
    let mut found = BTreeMap::new();
    for since in [Some(now - wanted.span_micros), Some(now - LOOK_BACK_MICROS), None] {
        let missing = |(partition, _): &&(Partition, Offset)| !found.contains_key(partition);
        let missing: Vec<_> = below.iter().filter(missing).copied().collect();
        if missing.is_empty() {
            break;
        }
        let before = missing.iter().map(|(p, next)| format!("({}, {})", p.0, next.0));
        let sql = format!(
            "SELECT r.{KAFKA_PARTITION}, max(least(epoch_us(r.{KAFKA_TIMESTAMP}), {now})) FROM {} r \
             JOIN (VALUES {}) AS v(p, next) ON r.{KAFKA_PARTITION} = v.p AND r.{KAFKA_OFFSET} < v.next \
             WHERE r.{KAFKA_TOPIC} = {}{} GROUP BY 1",
            table(wanted),
            before.collect::<Vec<_>>().join(", "),
            quote(&wanted.topic),
            since.map_or_else(String::new, not_before),
        );
        let mut statement = session.connection().prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(micros) = row.get::<_, Option<i64>>(1)? {
                found.insert(Partition(row.get(0)?), micros);
            }
        }
    }
    Ok(found)
}

/// Returns the rows of all windows, in the order of partition and offset.
fn rows(
    session: &Session,
    wanted: &RecentRows,
    below: &[(Partition, Offset)],
    newest: &BTreeMap<Partition, i64>,
) -> duckdb::Result<Vec<RecentRow>> {
    let windows: Vec<_> = below
        .iter()
        .filter_map(|(partition, next)| {
            let since = newest.get(partition)?.saturating_sub(wanted.span_micros);
            Some((partition.0, next.0, since))
        })
        .collect();
    let Some(first) = windows.iter().map(|(.., since)| *since).min() else { return Ok(Vec::new()) };
    let values = windows.iter().map(|(p, next, since)| format!("({p}, {next}, {since})"));
    let id = quote_identifier(&wanted.column);
    let sql = format!(
        "SELECT r.{KAFKA_PARTITION}, r.{KAFKA_OFFSET}, epoch_us(r.{KAFKA_TIMESTAMP}), \
         CASE WHEN typeof(r.{id}) = 'UUID' THEN r.{id}::VARCHAR END, r.{id} FROM {} r \
         JOIN (VALUES {}) AS v(p, next, since) ON r.{KAFKA_PARTITION} = v.p \
         AND r.{KAFKA_OFFSET} < v.next AND epoch_us(r.{KAFKA_TIMESTAMP}) >= v.since \
         WHERE r.{KAFKA_TOPIC} = {}{} AND r.{id} IS NOT NULL \
         ORDER BY r.{KAFKA_TIMESTAMP} DESC LIMIT {}",
        table(wanted),
        values.collect::<Vec<_>>().join(", "),
        quote(&wanted.topic),
        not_before(first),
        wanted.limit,
    );
    let mut statement = session.connection().prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.extend(recent_row(row)?);
    }
    found.sort_unstable_by_key(|row| (row.partition, row.offset));
    Ok(found)
}

fn recent_row(row: &Row<'_>) -> duckdb::Result<Option<RecentRow>> {
    let id = match (row.get_ref(3)?, row.get_ref(4)?) {
        (ValueRef::Text(bytes), _) | (_, ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
            EventId::of_bytes(bytes)
        }
        (_, ValueRef::Int(number)) => EventId::Number(number.into()),
        (_, ValueRef::BigInt(number)) => EventId::Number(number),
        _ => return Ok(None),
    };
    Ok(Some(RecentRow {
        partition: Partition(row.get(0)?),
        offset: Offset(row.get(1)?),
        timestamp_micros: row.get(2)?,
        id,
    }))
}

fn table(wanted: &RecentRows) -> String {
    format!("{LAKE}.{}", wanted.table.sql())
}

/// Returns the condition that DuckLake compares with the bounds of files; empty for times before 1970:
/// such a filter excludes hardly any file, and DuckDB does not parse negative years in this format.
fn not_before(micros: i64) -> String {
    match Timestamp::from_microsecond(micros) {
        Ok(since) if since > Timestamp::UNIX_EPOCH => {
            format!(" AND r.{KAFKA_TIMESTAMP} >= TIMESTAMPTZ {}", quote(&since.to_string()))
        }
        _ => String::new(),
    }
}
