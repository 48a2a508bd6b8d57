//! Typed rows and columns of a SQLite catalog; PostgreSQL is covered by the end-to-end tests.

use ducktide_lake::config::{CatalogLocation, LakeConfig};
use ducktide_lake::conformance;

#[test]
fn rows_of_a_sqlite_catalog_are_read_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let config = LakeConfig::at(CatalogLocation::Sqlite(folder.path().join("lake.sqlite")));
    conformance::rows::run(&config, folder.path());
}

#[test]
fn columns_of_a_sqlite_catalog_have_the_types_that_duckdb_reports() {
    let folder = tempfile::tempdir().unwrap();
    let config = LakeConfig::at(CatalogLocation::Sqlite(folder.path().join("lake.sqlite")));
    conformance::columns::run(&config);
}
