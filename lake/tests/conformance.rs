//! The conformance suite on the lake in memory and on DuckLake with a SQLite catalog. PostgreSQL's
//! turn is among the end-to-end tests, where there is a server.

use ducktide_lake::config::{CatalogLocation, LakeConfig};
use ducktide_lake::conformance::{self, DuckLakeHarness, MemoryHarness};

#[test]
fn the_lake_in_memory_conforms() {
    conformance::run(&mut MemoryHarness::new());
}

#[test]
fn a_ducklake_with_a_sqlite_catalog_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let config = LakeConfig::at(CatalogLocation::Sqlite(directory.path().join("lake.sqlite")));
    conformance::run(&mut DuckLakeHarness::new(config));
}
