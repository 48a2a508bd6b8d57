//! Health of tables from groups of files.

use super::*;

const MIB: u64 = 1 << 20;

fn date(text: &str) -> Date {
    text.parse().unwrap()
}

const TODAY: &str = "2026-11-25";

/// The first value of partition key 2.
const EVENT_DATE: Option<DayKey> = Some(DayKey { partition_id: 2, index: 0 });

fn table(day_key: Option<DayKey>) -> TableEntry {
    TableEntry {
        id: 1,
        name: "main.events".to_owned(),
        target_bytes: 256 * MIB,
        last_break: 0,
        day_key,
    }
}

fn files(files: u64, bytes: u64) -> FileCount {
    FileCount { files, bytes }
}

/// Tiny files of one partition.
fn of_day(day: &str, count: u64) -> FileGroup {
    let day_value = (!day.is_empty()).then(|| day.to_owned());
    FileGroup {
        table_id: 1,
        merge_key: (Some(2), [day_value, None, None], Some(1)),
        tiny: files(count, count),
        candidates: files(count, count),
        ..FileGroup::default()
    }
}

/// Tiny files without partition.
fn committed(first: Option<&str>, last: Option<&str>, count: u64) -> FileGroup {
    FileGroup {
        merge_key: (None, [None, None, None], Some(1)),
        committed: (first.map(date), last.map(date)),
        ..of_day("", count)
    }
}

fn health(day_key: Option<DayKey>, groups: &[FileGroup]) -> TableHealth {
    combine(vec![table(day_key)], groups, date(TODAY)).remove(0)
}

fn day(day_key: Option<DayKey>, groups: &[FileGroup]) -> (String, DayAssignment, u64) {
    let DayScan { day, of, files } = health(day_key, groups).one_day.unwrap();
    (day.to_string(), of, files)
}

#[test]
fn a_table_without_files_costs_nothing() {
    let health = health(None, &[]);

    assert_eq!((health.full_scan_files(), health.mergeable, health.one_day), (0, 0, None));
    assert!(health.small_share().abs() < f64::EPSILON);
}

#[test]
fn a_full_scan_opens_data_files_and_their_delete_files() {
    let group = FileGroup {
        tiny: files(10, 10),
        small: files(5, 50 * MIB),
        medium: files(2, 100 * MIB),
        full: files(1, 300 * MIB),
        with_deletes: 3,
        ..of_day("2026-11-24", 0)
    };

    let health = health(EVENT_DATE, &[group, of_day("2026-11-23", 2)]);

    assert_eq!(health.live, files(20, 12 + 450 * MIB));
    assert_eq!((health.small_files(), health.full_scan_files()), (17, 23));
    assert!((health.small_share() - 0.85).abs() < 1e-9);
}

#[test]
fn the_day_is_the_newest_that_is_over() {
    let groups = [of_day("2026-11-25", 9), of_day("2026-11-24", 3), of_day("2026-11-23", 50)];

    let found = day(EVENT_DATE, &groups);

    assert_eq!(found, ("2026-11-24".to_owned(), DayAssignment::PartitionKey, 3));
}

#[test]
fn a_table_that_began_today_shows_the_day_with_most_files() {
    let groups = [of_day("2026-11-25", 9), of_day("2026-11-26", 3)];

    assert_eq!(day(EVENT_DATE, &groups).0, "2026-11-25");
}

#[test]
fn files_from_before_the_partition_key_are_opened_by_every_query() {
    let before = committed(None, None, 7);
    let without_date = of_day("", 5);

    let found = day(EVENT_DATE, &[of_day("2026-11-24", 3), before, without_date]);

    assert_eq!(found.2, 10);
}

#[test]
fn without_a_date_in_the_key_the_days_of_commits_count() {
    let groups = [
        committed(Some("2026-11-25"), Some("2026-11-25"), 1),
        committed(Some("2026-11-24"), Some("2026-11-24"), 2),
        committed(Some("2026-11-20"), Some("2026-11-25"), 4),
        committed(Some("2026-11-20"), Some("2026-11-23"), 8),
        // Merged from commits whose snapshots are gone, up to one that is there, or not even that.
        committed(None, Some("2026-11-24"), 16),
        committed(None, None, 32),
    ];

    assert_eq!(day(None, &groups), ("2026-11-24".to_owned(), DayAssignment::Commit, 22));
}

#[test]
fn one_small_file_for_each_day_leaves_nothing_to_merge() {
    let groups: Vec<_> = (1..=24).map(|day| of_day(&format!("2026-11-{day:02}"), 1)).collect();

    let health = health(EVENT_DATE, &groups);

    assert_eq!((health.small_files(), health.mergeable, health.partition_values), (24, 0, 24));
}

#[test]
fn days_of_commits_do_not_keep_files_from_being_merged() {
    let groups = [
        committed(Some("2026-11-23"), Some("2026-11-23"), 1),
        committed(Some("2026-11-24"), Some("2026-11-24"), 1),
    ];

    let health = health(None, &groups);

    assert_eq!((health.mergeable, health.merge_groups, health.partition_values), (1, 1, 0));
}

#[test]
fn files_of_different_schema_versions_are_not_merged() {
    let mut newer = of_day("2026-11-24", 10);
    newer.merge_key.2 = Some(5);

    let health = health(EVENT_DATE, &[of_day("2026-11-24", 10), newer]);

    assert_eq!((health.mergeable, health.schema_versions, health.merge_groups), (18, 2, 2));
}

#[test]
fn a_merge_leaves_files_of_the_target_size() {
    assert_eq!(saved(files(100, 1000), 256), 96);
    assert_eq!(saved(files(1, 1000), 256), 0);
    assert_eq!(saved(files(0, 0), 256), 0);
}
