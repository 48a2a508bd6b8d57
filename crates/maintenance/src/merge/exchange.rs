//! Puts merged files into the catalog in the place of their sources, in one short transaction.
//!
//! DuckLake serializes its commits by the primary key of `ducklake_snapshot`, and so does this one: its
//! first statement takes the next snapshot id, and takes an id that is taken if any source is not as
//! it was. A commit that comes in between, of anybody, ends the whole transaction.

use std::thread;
use std::time::Duration;

use ducktide_lake::Writing;
use ducktide_lake::catalog::parse;
use ducktide_lake::duckdb_error;
use ducktide_lake::session::{Session, quote};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::failpoint::{self, Failpoint};

use super::MergeTotals;
use super::candidates::inlined_delete_tables;
use super::merged::{Merged, Values};
use crate::{AUTHOR, list};

/// How often another commit may come first. Each took the next snapshot id, so the lake moves on.
const ATTEMPTS: u32 = 20;

/// Between two attempts: a commit takes 15 to 50 ms.
const PAUSE: Duration = Duration::from_millis(25);

/// The tables that know a data file by its id.
const OF_FILES: [&str; 5] = [
    "ducklake_data_file",
    "ducklake_file_column_stats",
    "ducklake_delete_file",
    "ducklake_file_partition_value",
    "ducklake_file_variant_stats",
];

/// The tables that describe a new file, and their columns in DuckLake 1.0.
pub(super) const NEW_ROWS: [(&str, &str); 3] = [
    (
        "ducklake_data_file",
        "data_file_id, table_id, begin_snapshot, end_snapshot, file_order, path, path_is_relative, \
         file_format, record_count, file_size_bytes, footer_size, row_id_start, partition_id, \
         encryption_key, mapping_id, partial_max",
    ),
    (
        "ducklake_file_column_stats",
        "data_file_id, table_id, column_id, column_size_bytes, value_count, null_count, min_value, \
         max_value, contains_nan, extra_stats",
    ),
    (
        "ducklake_file_partition_value",
        "data_file_id, table_id, partition_key_index, partition_value",
    ),
];

/// The newest snapshot.
struct Newest {
    id: i64,
    schema_version: i64,
    next_catalog_id: i64,
    next_file_id: i64,
}

pub(super) fn exchange(
    session: &Session,
    writing: &mut Writing<'_>,
    merged: &Merged,
) -> Result<MergeTotals> {
    failpoint::reached(Failpoint::FilesMerged);
    let inlined_deletes = inlined_delete_tables(session)?;
    let guard = writing.commit.acquire(session)?;
    writing.leader.check()?;
    let mut attempt = 1;
    loop {
        check_unchanged(session, merged, &inlined_deletes)?;
        let condition = unchanged(session, merged, &inlined_deletes);
        let statements = statements(session, &newest(session)?, merged, &condition)?;
        match session.change_all_natively(&statements) {
            Ok(()) => break,
            Err(error) if attempt >= ATTEMPTS => {
                return Err(duckdb_error::failed("exchange the files", error));
            }
            Err(error) => tracing::debug!(%error, attempt, "another commit came first"),
        }
        attempt += 1;
        thread::sleep(PAUSE);
    }
    drop(guard);
    failpoint::reached(Failpoint::FilesExchanged);
    Ok(MergeTotals {
        files_read: merged.sources.len() as u64,
        bytes_read: merged.bytes_read,
        files_written: merged.files.len() as u64,
        bytes_written: merged.bytes_written,
    })
}

/// The condition that every source is live and whole, in the catalog database's dialect.
fn unchanged(session: &Session, merged: &Merged, inlined_deletes: &[String]) -> String {
    let name = |table: &str| session.native_table(table);
    let ids = list(&merged.sources);
    let deletes = std::iter::once(("ducklake_delete_file", "data_file_id"));
    let inlined = inlined_deletes.iter().map(|table| (table.as_str(), "file_id"));
    let whole = deletes.chain(inlined).map(|(table, column)| {
        format!(" AND NOT EXISTS (SELECT 1 FROM {} WHERE {column} IN ({ids}))", name(table))
    });
    format!(
        "(SELECT count(*) FROM {} WHERE table_id = {} AND end_snapshot IS NULL \
         AND data_file_id IN ({ids})) = {}{}",
        name("ducklake_data_file"),
        merged.table_id,
        merged.sources.len(),
        whole.collect::<String>()
    )
}

fn check_unchanged(session: &Session, merged: &Merged, inlined_deletes: &[String]) -> Result<()> {
    let condition = unchanged(session, merged, inlined_deletes);
    let sql = format!("SELECT CASE WHEN {condition} THEN 1 ELSE 0 END AS unchanged");
    match session.catalog_value(&sql)?.as_deref() {
        Some("1") => Ok(()),
        _ => {
            Err(LakeError::unavailable("others changed the files meanwhile; they stay as they are"))
        }
    }
}

fn newest(session: &Session) -> Result<Newest> {
    let sql = format!(
        "SELECT snapshot_id, schema_version, next_catalog_id, next_file_id FROM {} \
         ORDER BY snapshot_id DESC LIMIT 1",
        session.native_table("ducklake_snapshot")
    );
    let mut values = session.catalog_rows(&sql)?.into_iter().flatten();
    let mut next = || parse(values.next().flatten());
    Ok(Newest {
        id: next()?,
        schema_version: next()?,
        next_catalog_id: next()?,
        next_file_id: next()?,
    })
}

/// What DuckLake 1.5.5 writes for a merge, statement by statement.
fn statements(
    session: &Session,
    newest: &Newest,
    merged: &Merged,
    unchanged: &str,
) -> Result<Vec<String>> {
    let name = |table: &str| session.native_table(table);
    let now = session.native_now();
    let (snapshot, taken) = (newest.id + 1, newest.id);
    let next_file_id = newest.next_file_id + count(&merged.files);
    let mut statements = vec![
        format!(
            "INSERT INTO {}(snapshot_id, snapshot_time, schema_version, next_catalog_id, next_file_id) \
             SELECT CASE WHEN {unchanged} THEN {snapshot} ELSE {taken} END, {now}, \
             {}, {}, {next_file_id}",
            name("ducklake_snapshot"),
            newest.schema_version,
            newest.next_catalog_id
        ),
        format!(
            "INSERT INTO {}(snapshot_id, changes_made, author, commit_message, commit_extra_info) \
             VALUES ({snapshot}, 'merge_adjacent:{}', {}, 'merge_adjacent_files', NULL)",
            name("ducklake_snapshot_changes"),
            merged.table_id,
            quote(AUTHOR),
        ),
    ];
    let ids = list(&merged.sources);
    let removed = OF_FILES
        .iter()
        .map(|table| format!("DELETE FROM {} WHERE data_file_id IN ({ids})", name(table)));
    statements.extend(removed);
    let renumbered = |rows: &[Values]| renumber(rows, &merged.files, newest.next_file_id);
    let now = [now.to_owned()];
    let scheduled = merged.scheduled.iter().map(|row| [row.as_slice(), &now].concat());
    let scheduled: Vec<Values> = scheduled.collect();
    statements.extend(insertion(
        &name("ducklake_files_scheduled_for_deletion"),
        "(data_file_id, path, path_is_relative, schedule_start)",
        &scheduled,
    ));
    let added = [&merged.files, &merged.statistics, &merged.partition_values];
    for (table, rows) in NEW_ROWS.iter().zip(added) {
        statements.extend(insertions(session, table, &renumbered(rows), &ids)?);
    }
    Ok(statements)
}

/// Puts rows into a table; in a SQLite catalog at the places of the rows that go.
///
/// DuckDB reads a SQLite table by its row ids up to the greatest that there was when a reader's
/// transaction began, but what it finds there is of now (measured on 1.5.5). A reader would see neither
/// the sources, which are gone, nor a merged file behind that end. At the place of a source every reader
/// finds it, and takes from it what its snapshot has.
fn insertions(
    session: &Session,
    (table, columns): &(&str, &str),
    rows: &[Values],
    ids: &str,
) -> Result<Vec<String>> {
    let name = session.native_table(table);
    let places = if session.has_row_ids() {
        let sql = format!(
            "SELECT rowid AS place FROM {name} WHERE data_file_id IN ({ids}) ORDER BY rowid LIMIT {}",
            rows.len()
        );
        session.catalog_rows(&sql)?.into_iter().flatten().flatten().collect()
    } else {
        Vec::new()
    };
    let (first, others) = rows.split_at(places.len().min(rows.len()));
    let with_place: Vec<Values> = places
        .into_iter()
        .zip(first)
        .map(|(place, row)| [&[place], row.as_slice()].concat())
        .collect();
    let at_places = insertion(&name, &format!("(rowid, {columns})"), &with_place);
    Ok(at_places.into_iter().chain(insertion(&name, &format!("({columns})"), others)).collect())
}

fn insertion(name: &str, columns: &str, rows: &[Values]) -> Option<String> {
    let rows: Vec<_> = rows.iter().map(|row| format!("({})", row.join(", "))).collect();
    (!rows.is_empty()).then(|| format!("INSERT INTO {name}{columns} VALUES {}", rows.join(", ")))
}

fn count(rows: &[Values]) -> i64 {
    i64::try_from(rows.len()).expect("merged files fit into memory")
}

/// The rows with the ids that the lake gives to the files, in their order.
fn renumber(rows: &[Values], files: &[Values], first: i64) -> Vec<Values> {
    let id = |scratch: &String| {
        let index = files.iter().position(|file| file[0] == *scratch);
        let index = index.expect("each row belongs to one of the files");
        (first + count(&files[..index])).to_string()
    };
    rows.iter().map(|row| [&[id(&row[0])], &row[1..]].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_get_the_ids_that_are_next_and_their_rows_follow() {
        let row =
            |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Values>();
        let files = [row(&["41", "a"]), row(&["42", "b"])];
        let statistics = [row(&["42", "x"]), row(&["41", "y"])];

        assert_eq!(renumber(&files, &files, 100), [row(&["100", "a"]), row(&["101", "b"])]);
        assert_eq!(renumber(&statistics, &files, 100), [row(&["101", "x"]), row(&["100", "y"])]);
    }
}
