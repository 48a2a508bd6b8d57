//! The conformance suite on DuckLake with a SQLite catalog; PostgreSQL is covered by the end-to-end tests.

use ducktide_lake::config::{CatalogLocation, LakeConfig};
use ducktide_lake::conformance::DuckLakeHarness;
use ducktide_protocol::conformance;

#[test]
fn a_ducklake_with_a_sqlite_catalog_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let config = LakeConfig::at(CatalogLocation::Sqlite(directory.path().join("lake.sqlite")));
    conformance::run(&mut DuckLakeHarness::new(config));
}
