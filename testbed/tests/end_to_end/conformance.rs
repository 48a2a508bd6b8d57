//! Conformance suite on a DuckLake with its catalog in PostgreSQL.

use ducktide_lake::config::{CatalogLocation, LakeConfig};
use ducktide_lake::conformance::DuckLakeHarness;
use ducktide_protocol::conformance;
use ducktide_testbed::services::shared_postgres;
use tempfile::TempDir;
use uuid::Uuid;

fn conform(metadata_schema: &str) {
    let name = format!("conformance_{}", Uuid::new_v4().simple());
    let url = shared_postgres().create_database(&name).unwrap();
    let folder = TempDir::new().unwrap();
    let config = LakeConfig {
        catalog: CatalogLocation::Postgres(url.parse().unwrap()),
        data_path: Some(folder.path().to_owned()),
        metadata_schema: metadata_schema.to_owned(),
        extension_dir: None,
    };
    conformance::run(&mut DuckLakeHarness::new(config));
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
