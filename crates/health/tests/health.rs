//! The health of lakes with a SQLite catalog. PostgreSQL's turn is among the end-to-end tests, where
//! there is a server.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use ducktide_lake::config::{CatalogLocation, LakeConfig};
use tempfile::TempDir;

#[path = "health/scenario.rs"]
mod scenario;

use scenario::HealthFixture;

fn case(directory: &TempDir) -> HealthFixture {
    let config = LakeConfig::at(CatalogLocation::Sqlite(directory.path().join("lake.sqlite")));
    HealthFixture::new(&config, "main")
}

fn run(scenario: fn(HealthFixture)) {
    let directory = tempfile::tempdir().unwrap();
    scenario(case(&directory));
}

#[test]
fn a_new_lake_is_healthy() {
    run(scenario::a_new_lake_is_healthy);
}

#[test]
fn files_are_counted_by_day_and_by_merge_group() {
    run(scenario::files_are_counted_by_day_and_by_merge_group);
}

#[test]
fn delete_files_and_schema_versions_keep_files_apart() {
    run(scenario::delete_files_and_schema_versions_keep_files_apart);
}

#[test]
fn the_target_is_the_nearest_option() {
    run(scenario::the_target_is_the_nearest_option);
}

#[test]
fn holds_on_snapshots_and_last_runs_are_reported() {
    run(scenario::holds_on_snapshots_and_last_runs_are_reported);
}

#[test]
#[ignore = "makes 100,000 files"]
fn the_health_of_a_large_lake_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let took = scenario::the_health_of_a_large_lake_is_read(case(&directory));
    println!("health of 100,000 files and 50,000 snapshots in SQLite: {took:?}");
}
