//! Tables and catalogs that other clients drop, rename or migrate.

use ducktide_lake::{Access, DuckLake, config::LakeConfig};
use ducktide_protocol::{ErrorKind, Lake as _, LakeError, LakeFault, table::TableName};
use ducktide_testbed::{
    catalog::{Catalog, CatalogKind},
    duckdb_cli,
};
use tempfile::TempDir;

use super::case::{Case, assert_exact, merge_once, new_database};
use super::on_both_lakes;

on_both_lakes!(
    a_dropped_table_is_not_created_again_and_can_be_restored,
    a_renamed_table_is_not_created_again,
    a_name_that_differs_only_in_case_is_rejected,
    a_catalog_migrated_by_a_newer_client_is_not_written,
    a_lake_created_by_a_newer_client_is_not_changed,
    merges_next_to_columns_of_another_client_copy_by_name,
    a_column_with_a_name_of_ducklake_fails_its_merges_without_a_panic,
);

/// Creates the table as a consumer does at its start.
fn create(case: &mut Case, table: &str) -> Result<ducktide_protocol::Table, LakeError> {
    let shape = case.table.shape.clone();
    let table: TableName = table.parse().unwrap();
    case.lake().ensure_table(&table, &shape)
}

/// Returns the SQL that an error proposes.
fn proposed(error: &LakeError) -> String {
    let text = error.chain();
    let from = text.find("with `").unwrap() + "with `".len();
    text[from..].split('`').next().unwrap().to_owned()
}

fn a_dropped_table_is_not_created_again_and_can_be_restored(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    case.sql("DROP TABLE lake.events").unwrap();

    let running = case.lake().add_columns(&"events".parse().unwrap(), &[]).unwrap_err();
    let error = create(&mut case, "events").unwrap_err();

    assert_eq!((error.kind(), running.kind()), (ErrorKind::Invalid, ErrorKind::Invalid));
    assert_eq!(running.chain(), error.chain());
    assert!(error.chain().contains("rows=`30`"), "{}", error.chain());
    case.sql(&format!("USE lake; {}; USE memory", proposed(&error))).unwrap();
    case.table = create(&mut case, "events").unwrap();
    assert_eq!(case.count(), 30);
    case.fill(130, 1);
    assert_exact(&case);
    // A dropped table without rows is created again.
    assert!(create(&mut case, "other").is_ok());
    case.sql("DROP TABLE lake.other").unwrap();
    assert!(create(&mut case, "other").is_ok());
}

fn a_renamed_table_is_not_created_again(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    case.sql("ALTER TABLE lake.events RENAME TO archive").unwrap();

    let error = create(&mut case, "events").unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.chain().contains("renamed_to=`main.archive`"), "{}", error.chain());
    case.sql(&format!("USE lake; {}; USE memory", proposed(&error))).unwrap();
    case.table = create(&mut case, "events").unwrap();
    case.fill(130, 1);
    assert_exact(&case);
}

fn a_name_that_differs_only_in_case_is_rejected(kind: CatalogKind) {
    let mut case = Case::new(kind);
    case.sql("CREATE SCHEMA lake.raw; CREATE VIEW lake.seen AS SELECT 1 AS one").unwrap();

    let refused = |case: &mut Case, table: &str, existing: &str| {
        let error = create(case, table).unwrap_err();
        let text = error.chain();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        assert!(text.contains(table) && text.contains(existing), "{text}");
    };

    refused(&mut case, "main.Events", "main.events");
    refused(&mut case, "Raw.events", "raw.events");
    refused(&mut case, "main.Seen", "main.seen");
    assert!(create(&mut case, "raw.events").is_ok());
}

/// Migration of a catalog from format 1.0 by DuckDB 2.0, which also creates catalogs of the new
/// format.
const MIGRATION: &str = "ALTER TABLE ducklake_data_file ADD COLUMN row_group_count BIGINT; \
    ALTER TABLE ducklake_delete_file ADD COLUMN row_group_count BIGINT; \
    CREATE TABLE ducklake_view_column_tag(view_id BIGINT, column_id BIGINT, begin_snapshot BIGINT, \
      end_snapshot BIGINT, key VARCHAR, value VARCHAR); \
    UPDATE ducklake_metadata SET value = '1.1' WHERE key = 'version'";

fn a_catalog_migrated_by_a_newer_client_is_not_written(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    let commit = case.rows(0, 130, 140);
    let idle = case.idle(1, 0, 10);
    let mut worker = case.another();
    let mut compactor = case.operator();
    worker.positions(case.source.id).unwrap();
    case.edit_catalog(MIGRATION);

    let source = case.source.id;
    let errors = [
        worker.commit(&commit).map(drop).unwrap_err(),
        worker.commit(&idle).map(drop).unwrap_err(),
        worker.positions(source).map(drop).unwrap_err(),
        merge_once(&mut compactor).map(drop).unwrap_err(),
        DuckLake::open(&case.config, Access::Commit).map(drop).unwrap_err(),
        DuckLake::open(&case.config, Access::Read).map(drop).unwrap_err(),
        DuckLake::init(&case.config).map(drop).unwrap_err(),
    ];

    for error in errors {
        let text = error.chain();
        assert!(is_unknown_format(&error), "{text}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
        assert!(text.contains("catalog_format=`1.1` supported=`1.0`"), "{text}");
        assert!(!text.contains("set AUTOMATIC_MIGRATION to TRUE"), "{text}");
    }
    drop((worker, compactor));
    case.edit_catalog("UPDATE ducklake_metadata SET value = '1.0' WHERE key = 'version'");
    assert_eq!(case.position(0), (0, 130), "nothing was written");
}

fn is_unknown_format(error: &LakeError) -> bool {
    matches!(error.fault(), Some(LakeFault::UnknownCatalogFormat { .. }))
}

/// The lake has no tables of Ducktide: `init` adds them to lakes of other clients, but not to this
/// one.
fn a_lake_created_by_a_newer_client_is_not_changed(kind: CatalogKind) {
    let folder = TempDir::new().unwrap();
    let data_path = folder.path().join("data");
    let address = match kind {
        CatalogKind::Sqlite => format!("sqlite:{}", folder.path().join("lake.sqlite").display()),
        CatalogKind::Postgres => new_database(),
    };
    let created = duckdb_cli::Lake::at(&address, &data_path.display().to_string()).unwrap();
    created.write(&["CREATE TABLE events(id BIGINT)".to_owned()]).unwrap();
    let mut catalog = Catalog::at(&address).unwrap();
    catalog.execute(MIGRATION).unwrap();
    let config = LakeConfig {
        catalog: address.parse().unwrap(),
        data_path: Some(data_path),
        metadata_schema: "public".to_owned(),
        extension_dir: None,
    };

    let init = DuckLake::init(&config).map(drop).unwrap_err();
    let opened = [Access::Read, Access::Commit, Access::Operate]
        .map(|access| DuckLake::open(&config, access).map(drop).unwrap_err());

    for error in [init].into_iter().chain(opened) {
        assert!(is_unknown_format(&error), "{}", error.chain());
    }
    assert!(
        catalog.number("SELECT count(*) FROM ducktide_meta").is_err(),
        "init has created a table"
    );
}

/// Additional columns must not shift values to a wrong column.
fn merges_next_to_columns_of_another_client_copy_by_name(kind: CatalogKind) {
    let mut case = Case::filled(kind, 4);
    // DuckLake's own INSERTs name no columns, and fail in a SQLite catalog with these columns.
    case.edit_catalog(
        "ALTER TABLE ducklake_snapshot ADD COLUMN note BIGINT; \
         ALTER TABLE ducklake_snapshot_changes ADD COLUMN note BIGINT; \
         ALTER TABLE ducklake_data_file ADD COLUMN note BIGINT; \
         ALTER TABLE ducklake_file_column_stats ADD COLUMN note BIGINT; \
         ALTER TABLE ducklake_files_scheduled_for_deletion ADD COLUMN note BIGINT",
    );

    merge_once(&mut case.operator()).unwrap();

    assert_eq!(case.count(), 40);
    assert_exact(&case);
}

fn a_column_with_a_name_of_ducklake_fails_its_merges_without_a_panic(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    case.sql("ALTER TABLE lake.events ADD COLUMN _ducklake_internal_snapshot_id VARCHAR").unwrap();
    let mut compactor = case.operator();

    let error = merge_once(&mut compactor).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = error.chain();
    assert!(text.contains("RENAME COLUMN \"_ducklake_internal_snapshot_id\""), "{text}");
    case.sql("ALTER TABLE lake.events RENAME COLUMN _ducklake_internal_snapshot_id TO seen")
        .unwrap();
    merge_once(&mut compactor).unwrap();
    assert_eq!(case.count(), 30);
}
