//! Health of lakes with their catalog in PostgreSQL.

use ducktide_lake::config::LakeConfig;
use ducktide_testbed::services::shared_postgres;
use tempfile::TempDir;
use uuid::Uuid;

#[path = "../../../crates/health/tests/health/scenario.rs"]
mod scenario;

use scenario::HealthFixture;

fn case(folder: &TempDir) -> HealthFixture {
    let name = format!("health_{}", Uuid::new_v4().simple());
    let config = LakeConfig {
        catalog: shared_postgres().create_database(&name).unwrap().parse().unwrap(),
        data_path: Some(folder.path().to_owned()),
        metadata_schema: "another_lake".to_owned(),
        extension_dir: None,
    };
    HealthFixture::new(&config, "another_lake")
}

fn run(scenario: fn(HealthFixture)) {
    let folder = TempDir::new().unwrap();
    scenario(case(&folder));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_new_lake_is_healthy() {
    run(scenario::a_new_lake_is_healthy);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn files_are_counted_by_day_and_by_merge_group() {
    run(scenario::files_are_counted_by_day_and_by_merge_group);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn delete_files_and_schema_versions_keep_files_apart() {
    run(scenario::delete_files_and_schema_versions_keep_files_apart);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn the_target_is_the_nearest_option() {
    run(scenario::the_target_is_the_nearest_option);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn holds_on_snapshots_and_last_runs_are_reported() {
    run(scenario::holds_on_snapshots_and_last_runs_are_reported);
}

#[test]
#[ignore = "needs PostgreSQL; creates 100,000 files"]
fn the_health_of_a_large_lake_is_read() {
    let folder = TempDir::new().unwrap();
    let took = scenario::the_health_of_a_large_lake_is_read(case(&folder));
    println!("health of 100,000 files and 50,000 snapshots in PostgreSQL: {took:?}");
}
