//! Conformance check of the catalog's row types: reads every row that DuckLake and Ducktide wrote, and
//! writes it into a copy of its table.

use std::path::Path;

use ducktide_protocol::SourceSpec;
use ducktide_protocol::commit::CommitKind;
use ducktide_protocol::position::{Offset, Partition, SnapshotId, SourceId};
use jiff::{SignedDuration, Timestamp};

use crate::catalog::client::{CatalogClient as _, WorkerCatalog};
use crate::catalog::ledger::LedgerQuery;
use crate::config::LakeConfig;
use crate::rows::{
    CatalogTable, ColumnRow, DataFileRow, DeleteFileRow, FileColumnStatsRow, FilePartitionValueRow,
    Insert, IntentRow, MetaRow, MetadataRow, NameMappingRow, PinRow, ProgressRow, ScheduledFileRow,
    SchemaRow, SchemaVersionRow, SnapshotChangesRow, SnapshotRow, SourceRow, TableRow,
};
use crate::session::Session;
use crate::sql_text::quote;
use crate::{Access, DuckLake, Intent, IntentKind, catalog};

/// Fills a new lake and checks the rows of each table. `folder` is for a Parquet file that is added to
/// the lake.
///
/// # Panics
/// If a row differs after it is written and read again.
pub fn run(config: &LakeConfig, folder: &Path) {
    DuckLake::init(config).expect("the lake is created");
    let mut lake = DuckLake::open(config, Access::Operate).expect("the lake opens");
    fill(&mut lake, folder);
    let session = lake.session().expect("the lake opens");
    check_written_by_ducklake(session);
    check_written_by_ducktide(session);
}

/// Writes a row into every table. Names and values contain quotes.
fn fill(lake: &mut DuckLake, folder: &Path) {
    let added = folder.join("added.parquet");
    let sql = format!(
        "CREATE TABLE lake.events(id BIGINT, note VARCHAR, ratio DOUBLE, day VARCHAR); \
         ALTER TABLE lake.events SET PARTITIONED BY (day); \
         INSERT INTO lake.events SELECT range, 'c''d', range / 4, 'a''b' FROM range(100); \
         INSERT INTO lake.events SELECT range, NULL, 'NaN', 'a''b' FROM range(100, 200); \
         INSERT INTO lake.events SELECT range, NULL, NULL, NULL FROM range(200, 300); \
         CALL ducklake_merge_adjacent_files('lake'); \
         DELETE FROM lake.events WHERE id = 205; \
         ALTER TABLE lake.events ADD COLUMN place STRUCT(city VARCHAR); \
         CREATE TABLE lake.named(id BIGINT, point STRUCT(x BIGINT)); \
         COPY (SELECT 1 AS id, {{'x': 2}} AS point) TO {added}; \
         CALL ducklake_add_data_files('lake', 'named', {added})",
        added = quote(&added.to_string_lossy())
    );
    let session = lake.session().expect("the lake opens");
    session.execute(&sql).expect("DuckLake writes rows");
    let spec = SourceSpec {
        table: "main.events".parse().expect("a table name"),
        topic: "events".to_owned(),
        pipeline: "c'd".to_owned(),
        cluster_id: None,
        topic_id: Some("t".to_owned()),
    };
    catalog::insert_source(WorkerCatalog::Session(session), &spec, &[(Partition(3), Offset(40))])
        .expect("a source");
    let intent = Intent {
        source: SourceId(1),
        table: "main.events".to_owned(),
        kind: IntentKind::Prepare,
        holder: "host 'a'".to_owned(),
        expires_at: Timestamp::now() + SignedDuration::from_hours(1),
        keep_snapshots_from: SnapshotId(2),
    };
    lake.announce(&intent).expect("an intent");
    lake.pin("audit", Some(SnapshotId(1)), std::time::Duration::from_secs(10)).expect("a pin");
}

fn check_written_by_ducklake(session: &Session) {
    let files = check::<DataFileRow>(session);
    let rows = files.iter().map(|file| file.record_count).sum::<i64>();
    assert_eq!((rows, files.len()), (301, 3), "one merged file, one with deletes, one added");
    assert!(files.iter().any(|file| file.partial_max.is_some()), "of two snapshots");
    assert!(files.iter().any(|file| !file.path_is_relative && file.mapping_id.is_some()));
    let deletes = check::<DeleteFileRow>(session);
    assert_eq!(deletes[0].delete_count, 1);
    let statistics = check::<FileColumnStatsRow>(session);
    let has_nan = |nan: bool| statistics.iter().any(|found| found.contains_nan == Some(nan));
    assert!(has_nan(true) && has_nan(false));
    assert!(statistics.iter().any(|found| found.max_value.as_deref() == Some("c'd")));
    let values = check::<FilePartitionValueRow>(session);
    assert!(values.iter().any(|value| value.partition_value.as_deref() == Some("a'b")));
    assert!(values.iter().any(|value| value.partition_value.is_none()));
    let scheduled = check::<ScheduledFileRow>(session);
    let age = Timestamp::now().duration_since(scheduled[0].schedule_start);
    assert_eq!((scheduled.len(), scheduled[0].path_is_relative), (2, true));
    assert!(age.abs() < SignedDuration::from_mins(10), "in UTC: {age}");

    let snapshots = check::<SnapshotRow>(session);
    let age = Timestamp::now().duration_since(snapshots[0].snapshot_time);
    assert!(age.abs() < SignedDuration::from_mins(10), "in UTC: {age}");
    let changes = check::<SnapshotChangesRow>(session);
    assert_eq!(changes.len(), snapshots.len());
    assert!(changes.iter().any(|change| change.changes_made.is_some()));
    check::<SchemaVersionRow>(session);

    let settings = check::<MetadataRow>(session);
    assert!(settings.iter().any(|setting| setting.key == "version" && setting.value == "1.0"));
    assert!(check::<SchemaRow>(session).iter().any(|schema| schema.schema_name == "main"));
    let tables = check::<TableRow>(session).into_iter();
    let live = tables.filter(|table| table.end_snapshot.is_none()).map(|table| table.table_name);
    let mut live: Vec<_> = live.collect();
    live.sort();
    assert_eq!(live, ["events", "named"]);
    let columns = check::<ColumnRow>(session);
    assert!(columns.iter().any(|column| column.column_type == "float64"));
    assert!(columns.iter().any(|c| c.column_name == "city" && c.parent_column.is_some()));
    let mappings = check::<NameMappingRow>(session);
    assert!(mappings.iter().any(|m| m.source_name == "x" && m.parent_column.is_some()));
}

fn check_written_by_ducktide(session: &Session) {
    assert!(check::<MetaRow>(session).iter().any(|fact| fact.key == "layout_version"));
    let sources = check::<SourceRow>(session);
    assert_eq!((sources[0].table_name.to_string().as_str(), sources.len()), ("main.events", 1));
    assert_eq!(sources[0].pipeline, "c'd");
    assert_eq!(
        (sources[0].cluster_id.as_deref(), sources[0].topic_id.as_deref()),
        (None, Some("t"))
    );
    let progress = check::<ProgressRow>(session);
    assert_eq!((progress[0].partition, progress[0].next_offset), (Partition(3), Offset(40)));
    assert_eq!((progress[0].snapshot_id, progress[0].updated_at.is_some()), (None, true));
    let ledger = LedgerQuery::all().of_partition(SourceId(1), Partition(3)).read(session);
    let ledger = ledger.expect("the ledger is read");
    assert_eq!((ledger[0].kind, ledger[0].snapshot), (Some(CommitKind::Start), None));
    assert_eq!(ledger[0].step.after(), progress[0].position());
    let none = LedgerQuery::all().after(ledger[0].ledger_id).of_kind(CommitKind::Start).limit(9);
    assert_eq!((ledger.len(), none.read(session).expect("no row").len()), (1, 0));
    assert_eq!(check::<IntentRow>(session)[0].holder, "host 'a'");
    assert_eq!(check::<PinRow>(session)[0].snapshot_id, SnapshotId(1));
}

/// Reads all rows of a table, writes them into a copy of it, and compares both. Returns the rows.
fn check<T: CatalogTable + PartialEq + std::fmt::Debug>(session: &Session) -> Vec<T> {
    let rows: Vec<T> = session.select("").expect("the rows are read");
    assert!(!rows.is_empty(), "no row of {}", T::TABLE);
    let copy = format!("copy_of_{}", T::TABLE);
    let (original, in_duckdb) = (session.catalog_table(T::TABLE), session.catalog_table(&copy));
    session
        .execute(&format!("CREATE TABLE {in_duckdb} AS FROM {original} LIMIT 0"))
        .expect("a copy of the table");
    let insert = Insert::of(&rows).sql(&session.native_table(&copy)).expect("there are rows");
    session.execute_all_in_catalog(&[insert]).expect("the rows are written");
    let sql = format!("SELECT {} FROM {}", T::columns(), session.native_table(&copy));
    let written: Vec<T> = session.catalog_query(&sql).expect("the rows are read again");
    assert_eq!(rows, written);
    let left = session.query(&format!(
        "SELECT count(*) FROM (SELECT {columns} FROM {original} EXCEPT ALL SELECT {columns} FROM {in_duckdb})",
        columns = columns_of_one_form::<T>()
    ));
    let left: i64 = left.expect("the tables are compared")[0].first().expect("a number");
    assert_eq!(left, 0, "{} and its copy differ", T::TABLE);
    rows
}

/// Returns the columns that have a single text format; SQLite stores times in several.
fn columns_of_one_form<T: CatalogTable>() -> String {
    let is_time =
        |column: &&&str| ["_time", "_start", "_at"].iter().any(|end| column.ends_with(end));
    let columns = T::COLUMNS.iter().filter(|column| !is_time(column) || **column == "row_id_start");
    columns.copied().collect::<Vec<_>>().join(", ")
}
