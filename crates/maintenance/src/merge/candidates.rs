//! Files that merges may take, read from the catalog.

use std::collections::{BTreeMap, HashMap, HashSet};

use ducktide_lake::CatalogClient as _;
use ducktide_lake::catalog::shape_break::ShapeBreaks;
use ducktide_lake::rows::{CatalogTable as _, FilePartitionValueRow, SchemaVersionRow};
use ducktide_lake::session::Session;
use ducktide_protocol::error::Result;
use ducktide_protocol::table::TableName;
use jiff::Timestamp;

use super::files::{DataFile, FileGroup, TableFiles};

/// Snapshot and schema version of each change of a table's shape, oldest first.
type SchemaVersions = HashMap<i64, Vec<(i64, i64)>>;

pub(super) fn read(session: &Session, smaller_than: u64) -> Result<Vec<TableFiles>> {
    let (versions, breaks) = (schema_versions(session)?, ShapeBreaks::read(session)?);
    let mut values = partition_values(session, smaller_than)?;
    let mut tables: BTreeMap<TableName, BTreeMap<FileGroup, Vec<DataFile>>> = BTreeMap::new();
    let deleted = files_with_inlined_deletes(session)?;
    for found in session.catalog_query::<CandidateFile>(&files_sql(session, smaller_than))? {
        let table = TableName { schema: found.schema_name, table: found.table_name };
        let file = DataFile {
            id: found.data_file_id,
            bytes: found.file_size_bytes,
            changed_at: found.snapshot_time,
        };
        let partition = values.remove(&file.id).unwrap_or_default();
        // A file that was committed between the two queries waits for the next run.
        if found.partition_id.is_some() == partition.is_empty() || deleted.contains(&file.id) {
            continue;
        }
        let group = FileGroup {
            schema_version: mergeable_version(
                versions.get(&found.table_id),
                breaks.of(found.table_id),
                found.begin_snapshot,
            ),
            partition_id: found.partition_id,
            partition,
        };
        tables.entry(table).or_default().entry(group).or_default().push(file);
    }
    let files = tables.into_iter().map(|(table, groups)| {
        let groups = groups.into_iter().collect();
        TableFiles { table, groups }
    });
    Ok(files.collect())
}

ducktide_lake::row_struct! {
    /// A row of [`files_sql`].
    struct CandidateFile {
        schema_name: String,
        table_name: String,
        table_id: i64,
        begin_snapshot: i64,
        partition_id: Option<i64>,
        data_file_id: i64,
        file_size_bytes: u64,
        snapshot_time: Option<Timestamp>,
    }
}

/// Selects the files in DuckLake's order. Files that ever had a delete file are never merged by DuckLake.
fn files_sql(session: &Session, smaller_than: u64) -> String {
    let native = |name: &str| session.native_table(name);
    format!(
        "SELECT s.schema_name, t.table_name, f.table_id, f.begin_snapshot, f.partition_id, \
         f.data_file_id, f.file_size_bytes, n.snapshot_time \
         FROM {files} f JOIN {tables} t ON t.table_id = f.table_id AND t.end_snapshot IS NULL \
         JOIN {schemas} s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL \
         LEFT JOIN {snapshots} n ON n.snapshot_id = coalesce(f.partial_max, f.begin_snapshot) \
         WHERE f.end_snapshot IS NULL AND f.file_size_bytes < {smaller_than} \
         AND NOT EXISTS (SELECT 1 FROM {deletes} d WHERE d.data_file_id = f.data_file_id) \
         ORDER BY f.begin_snapshot, f.row_id_start, f.data_file_id",
        files = native("ducklake_data_file"),
        tables = native("ducklake_table"),
        schemas = native("ducklake_schema"),
        snapshots = native("ducklake_snapshot"),
        deletes = native("ducklake_delete_file"),
    )
}

fn partition_values(
    session: &Session,
    smaller_than: u64,
) -> Result<HashMap<i64, Vec<Option<String>>>> {
    let sql = format!(
        "SELECT {columns} FROM {values} v JOIN {files} f \
         ON f.data_file_id = v.data_file_id \
         WHERE f.end_snapshot IS NULL AND f.file_size_bytes < {smaller_than} \
         ORDER BY v.data_file_id, v.partition_key_index",
        columns = FilePartitionValueRow::columns_of("v"),
        values = session.native_table(FilePartitionValueRow::TABLE),
        files = session.native_table("ducklake_data_file"),
    );
    let mut found: HashMap<i64, Vec<_>> = HashMap::new();
    for row in session.catalog_query::<FilePartitionValueRow>(&sql)? {
        found.entry(row.data_file_id).or_default().push(row.partition_value);
    }
    Ok(found)
}

fn schema_versions(session: &Session) -> Result<SchemaVersions> {
    let order = "WHERE table_id IS NOT NULL ORDER BY table_id, begin_snapshot";
    let mut found: SchemaVersions = HashMap::new();
    for row in session.select::<SchemaVersionRow>(order)? {
        let version = (row.begin_snapshot.0, row.schema_version);
        found.entry(row.table_id.unwrap_or_default()).or_default().push(version);
    }
    Ok(found)
}

/// Returns the oldest version whose files can be merged with those of a snapshot. Versions that only added
/// columns since the last break belong together.
fn mergeable_version(
    versions: Option<&Vec<(i64, i64)>>,
    last_break: i64,
    begin_snapshot: i64,
) -> i64 {
    let first = versions.and_then(|versions| versions.first()).map_or(0, |(begin, _)| *begin);
    let since = last_break.max(first);
    version_at(versions, if begin_snapshot >= since { since } else { begin_snapshot })
}

/// Returns the version that was in force at a snapshot.
fn version_at(versions: Option<&Vec<(i64, i64)>>, snapshot: i64) -> i64 {
    let versions = versions.map_or(&[][..], Vec::as_slice);
    let after = versions.partition_point(|(begin, _)| *begin <= snapshot);
    after.checked_sub(1).map_or(0, |index| versions[index].1)
}

/// Reads the files of which another client deleted rows without a delete file; a merge would restore the
/// rows. Lakes that Ducktide created inline nothing.
fn files_with_inlined_deletes(session: &Session) -> Result<HashSet<i64>> {
    let mut found = HashSet::new();
    for table in inlined_delete_tables(session)? {
        let sql = format!("SELECT DISTINCT file_id FROM {}", session.native_table(&table));
        found.extend(session.catalog_values::<i64>(&sql)?);
    }
    Ok(found)
}

/// Lists the tables in which DuckLake keeps deletes without a file, one for each table that has any.
pub(super) fn inlined_delete_tables(session: &Session) -> Result<Vec<String>> {
    session.catalog_values(&session.dialect().tables_like_sql("ducklake_inlined_delete_%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_the_version_in_force_at_its_first_snapshot() {
        let versions = vec![(3, 10), (7, 12)];

        let at = |snapshot| version_at(Some(&versions), snapshot);
        assert_eq!([at(3), at(6), at(7), at(99)], [10, 10, 12, 12]);
        assert_eq!(version_at(None, 5), 0);
    }

    #[test]
    fn versions_since_the_last_break_belong_together() {
        let versions = vec![(3, 10), (7, 12), (9, 13), (12, 14)];

        let at = |last_break| {
            [3, 7, 9, 12, 99]
                .map(|snapshot| mergeable_version(Some(&versions), last_break, snapshot))
        };
        assert_eq!(at(0), [10; 5], "columns were only added");
        assert_eq!(at(9), [10, 12, 13, 13, 13]);
        assert_eq!(at(12), [10, 12, 13, 14, 14]);
        assert_eq!(mergeable_version(None, 0, 5), 0);
    }
}
