//! Lakes whose health is known, made with `DuckLake`'s own statements on either catalog.

use std::time::{Duration, Instant};

use ducktide_health::{
    DayAssignment, LakeHealth, LakeState, TableHealth, Thresholds, Tolerance, judge,
};
use ducktide_lake::config::LakeConfig;
use ducktide_lake::{Access, DuckLake, HoldReason};
use ducktide_maintenance::{MaintenanceOutcome, Operation};
use jiff::Timestamp;

/// Longest wait for the maintenance lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A lake, and how DuckDB names the tables of its catalog.
pub(crate) struct HealthFixture {
    lake: DuckLake,
    catalog: &'static str,
}

impl HealthFixture {
    pub(crate) fn new(config: &LakeConfig, catalog: &'static str) -> Self {
        DuckLake::init(config).unwrap();
        Self { lake: DuckLake::open(config, Access::Operate).unwrap(), catalog }
    }

    /// Runs statements in which `@` is the catalog.
    fn execute(&mut self, sql: &str) {
        let sql = sql.replace('@', &format!("__ducklake_metadata_lake.{}.", self.catalog));
        self.lake.connection().unwrap().execute_batch(&sql).unwrap();
    }

    fn health(&mut self) -> LakeHealth {
        ducktide_health::read(&mut self.lake, &Thresholds::default()).unwrap()
    }

    fn table(&mut self, name: &str) -> TableHealth {
        let found = self.health().tables.into_iter().find(|table| table.table == name);
        found.unwrap()
    }

    fn commit_each(&mut self, table: &str, rows: &[&str]) {
        for values in rows {
            self.execute(&format!("INSERT INTO lake.main.{table} VALUES {values}"));
        }
    }

    fn with_partitioned_table(&mut self) {
        self.execute(
            "CREATE TABLE lake.main.events(id BIGINT, event_date DATE); \
             ALTER TABLE lake.main.events SET PARTITIONED BY (event_date)",
        );
        let day = |day| format!("(1, DATE '2026-11-{day}')");
        let (friday, saturday) = (day(20), day(21));
        let none = "(1, NULL)".to_owned();
        let rows = [&friday, &friday, &friday, &saturday, &saturday, &none].map(String::as_str);
        self.commit_each("events", &rows);
    }
}

pub(crate) fn a_new_lake_is_healthy(mut case: HealthFixture) {
    let health = case.health();

    assert_eq!(health.tables, []);
    assert_eq!((health.snapshots.count, health.awaiting_removal.since), (1, None));
    assert_eq!(health.snapshots.retention, Some(Duration::from_hours(7 * 24)));
    assert_eq!(health.awaiting_removal.delay, Some(Duration::from_hours(2 * 24)));
    let judgement = judge(&health, Timestamp::now(), &Tolerance::default());
    assert_eq!(judgement.state, LakeState::Healthy);
}

pub(crate) fn files_are_counted_by_day_and_by_merge_group(mut case: HealthFixture) {
    case.with_partitioned_table();

    let before = case.table("main.events");
    assert_eq!((before.live.files, before.sizes.tiny.files), (6, 6));
    assert_eq!((before.mergeable, before.merge_groups, before.partition_values), (3, 3, 3));
    assert_eq!(before.schema_versions, 1);
    let day = before.one_day.unwrap();
    assert_eq!((day.of, day.day.to_string().as_str()), (DayAssignment::PartitionKey, "2026-11-21"));
    assert_eq!((day.files, before.full_scan_files()), (2, 6));

    let table = "events".parse().unwrap();
    let found = ducktide_maintenance::files_to_merge(&mut case.lake, u64::MAX >> 1).unwrap();
    let groups = found.iter().filter(|found| found.table == table).flat_map(|found| &found.groups);
    let merges: Vec<Vec<_>> = groups
        .filter(|(_, files)| files.len() > 1)
        .map(|(_, files)| files.iter().map(|file| file.id).collect())
        .collect();
    let done = ducktide_maintenance::merge_files(&mut case.lake, &table, &merges, LOCK_TIMEOUT)
        .map(|(done, _)| done);
    assert!(matches!(done.unwrap(), MaintenanceOutcome::Done(_)));

    let after = case.table("main.events");
    assert_eq!((after.live.files, after.mergeable), (3, 0));
    assert_eq!(after.one_day.unwrap().files, 1);
    let health = case.health();
    assert!(health.last(Operation::MergeAdjacentFiles).is_some());
    let waiting = health.awaiting_removal;
    assert_eq!(waiting.files, 5);
    let since = Timestamp::now().duration_since(waiting.since.unwrap()).as_secs();
    assert!((-5..120).contains(&since), "{since}");
}

pub(crate) fn delete_files_and_schema_versions_keep_files_apart(mut case: HealthFixture) {
    case.execute("CREATE TABLE lake.main.plain(id BIGINT)");
    case.commit_each("plain", &["(1), (2)", "(3)", "(4)", "(5)"]);
    case.execute("DELETE FROM lake.main.plain WHERE id = 1");
    case.execute("ALTER TABLE lake.main.plain ADD COLUMN note VARCHAR");
    case.commit_each("plain", &["(6, 'x')"]);
    assert_eq!(case.table("main.plain").schema_versions, 1, "a column more keeps no files apart");
    case.execute("ALTER TABLE lake.main.plain RENAME COLUMN note TO remark");
    case.commit_each("plain", &["(7, 'y')"]);

    let plain = case.table("main.plain");

    assert_eq!((plain.live.files, plain.with_deletes, plain.full_scan_files()), (6, 1, 7));
    assert_eq!((plain.schema_versions, plain.partition_values), (3, 0));
    assert_eq!((plain.mergeable, plain.merge_groups), (2, 3));
    let day = plain.one_day.unwrap();
    assert_eq!((day.of, day.files), (DayAssignment::Commit, 7));
}

pub(crate) fn the_target_is_the_nearest_option(mut case: HealthFixture) {
    case.execute(
        "CREATE SCHEMA lake.other; CREATE TABLE lake.other.far(id BIGINT); \
         CREATE TABLE lake.main.near(id BIGINT); CREATE TABLE lake.main.plain(id BIGINT)",
    );
    let targets = |case: &mut HealthFixture| {
        let tables = case.health().tables.into_iter();
        tables.map(|table| (table.table, table.target_bytes)).collect::<Vec<_>>()
    };
    let named = |near: u64, plain: u64, far: u64| {
        [("main.near", near), ("main.plain", plain), ("other.far", far)]
            .map(|(name, target)| (name.to_owned(), target))
    };
    let default = Thresholds::default().default_target_bytes;
    assert_eq!(targets(&mut case), named(default, default, default));

    case.execute(
        "CALL lake.set_option('target_file_size', '100MB'); \
         CALL lake.set_option('target_file_size', '200MB', schema => 'main'); \
         CALL lake.set_option('target_file_size', '1MB', schema => 'main', table_name => 'near')",
    );
    assert_eq!(targets(&mut case), named(1_000_000, 200_000_000, 100_000_000));
}

pub(crate) fn holds_on_snapshots_and_last_runs_are_reported(mut case: HealthFixture) {
    case.with_partitioned_table();
    case.execute(
        "INSERT INTO @ducktide_pin(name, snapshot_id, created_at) \
           VALUES ('later', 4, '2026-11-20T10:00:00Z'), ('audit', 2, '2026-11-21T10:00:00Z'); \
         INSERT INTO @ducktide_meta(key, value) VALUES \
           ('maintenance.expire_snapshots', '{\"at\":\"2026-11-21T00:00:00Z\",\"done\":7}')",
    );
    // Gone with its last row: only older snapshots need the file.
    case.execute("DELETE FROM lake.main.events WHERE event_date IS NULL");

    let health = case.health();

    let keeper = health.snapshots.kept_by.clone().unwrap();
    assert_eq!(keeper.by, HoldReason::Pin("audit".to_owned()));
    assert_eq!(
        Some(keeper.from),
        ducktide_maintenance::snapshots_to_keep_from(&mut case.lake).unwrap()
    );
    assert_eq!((health.snapshots.oldest.0, health.snapshots.count), (0, 10));
    assert_eq!(health.ended.files, 1);
    assert!(health.ended.bytes > 0);
    assert_eq!(health.last(Operation::ExpireSnapshots).unwrap().done, 7);
    assert_eq!(health.last(Operation::MergeAdjacentFiles), None);
}

/// Measures the time to read the health of a lake with 100,000 files of 400 days and 50,000 snapshots.
pub(crate) fn the_health_of_a_large_lake_is_read(mut case: HealthFixture) -> Vec<Duration> {
    case.with_partitioned_table();
    case.execute("CREATE TABLE lake.main.plain(id BIGINT)");
    case.execute(
        "INSERT INTO @ducklake_snapshot(snapshot_id, snapshot_time, schema_version, \
           next_catalog_id, next_file_id) \
         SELECT 1000 + i, (TIMESTAMPTZ '2026-11-01 00:00:00+00' + to_seconds(20 * i))::VARCHAR, \
           1, 1000, 1000000 FROM range(50000) r(i); \
         INSERT INTO @ducklake_data_file(data_file_id, table_id, begin_snapshot, path, \
           path_is_relative, file_format, record_count, file_size_bytes, footer_size, \
           row_id_start, partition_id) \
         SELECT 1000 + i, t.table_id, 1000 + i // 2, 'x-' || i || '.parquet', true, 'parquet', 1, \
           1000 * (i % 50000), 1, i, p.partition_id \
         FROM range(100000) r(i), @ducklake_table t, @ducklake_partition_info p \
         WHERE t.table_name = CASE WHEN i % 2 = 0 THEN 'events' ELSE 'plain' END; \
         INSERT INTO @ducklake_file_partition_value(data_file_id, table_id, partition_key_index, \
           partition_value) \
         SELECT 1000 + i, t.table_id, 0, (DATE '2025-10-01' + (i % 400)::INTEGER)::VARCHAR \
         FROM range(0, 100000, 2) r(i), @ducklake_table t WHERE t.table_name = 'events'; \
         INSERT INTO @ducklake_files_scheduled_for_deletion(data_file_id, path, path_is_relative, \
           schedule_start) \
         SELECT 500000 + i, 'y-' || i || '.parquet', true, \
           (TIMESTAMPTZ '2026-11-10 00:00:00+00' + to_seconds(20 * i))::VARCHAR \
         FROM range(20000) r(i); \
         UPDATE @ducklake_data_file SET partition_id = NULL WHERE table_id = \
           (SELECT table_id FROM @ducklake_table WHERE table_name = 'plain')",
    );
    let read = |_| {
        let started = Instant::now();
        let health = case.health();
        let took = started.elapsed();
        assert_eq!(health.tables[0].live.files, 50_006);
        assert_eq!(health.tables[1].live.files, 50_000);
        assert_eq!(health.awaiting_removal.files, 20_000);
        assert_eq!(health.snapshots.count, 50_010);
        took
    };
    (0..3).map(read).collect()
}
