//! Conformance suite, typed rows and columns of a DuckLake with its catalog in PostgreSQL.

use ducktide_lake::config::{CatalogLocation, LakeConfig};
use ducktide_lake::conformance::{DuckLakeHarness, columns, rows};
use ducktide_protocol::conformance;
use ducktide_testbed::services::shared_postgres;
use tempfile::TempDir;
use uuid::Uuid;

fn lake(metadata_schema: &str, folder: &TempDir) -> LakeConfig {
    let name = format!("conformance_{}", Uuid::new_v4().simple());
    let url = shared_postgres().create_database(&name).unwrap();
    LakeConfig {
        catalog: CatalogLocation::Postgres(url.parse().unwrap()),
        data_path: Some(folder.path().to_owned()),
        metadata_schema: metadata_schema.to_owned(),
        extension_dir: None,
    }
}

fn conform(metadata_schema: &str) {
    let folder = TempDir::new().unwrap();
    conformance::run(&mut DuckLakeHarness::new(lake(metadata_schema, &folder)));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_ducklake_in_postgres_conforms() {
    conform("public");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_ducklake_in_another_schema_conforms() {
    conform("another_lake");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn rows_of_a_postgres_catalog_are_read_as_they_were_written() {
    let folder = TempDir::new().unwrap();
    rows::run(&lake("another_lake", &folder), folder.path());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn columns_of_a_postgres_catalog_have_the_types_that_duckdb_reports() {
    let folder = TempDir::new().unwrap();
    columns::run(&lake("another_lake", &folder));
}
