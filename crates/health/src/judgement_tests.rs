//! Judgement of lakes in each state.

use ducktide_lake::catalog::pin::RetentionHold;
use ducktide_maintenance::LastMaintenance;
use ducktide_protocol::position::SnapshotId;

use super::super::{AwaitingRemoval, FileCount, SizeClasses, SnapshotsKept};
use super::*;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn now() -> Timestamp {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn ago(seconds: u64) -> Timestamp {
    now() - Duration::from_secs(seconds)
}

/// A lake with one table of so many files, as many of which could go.
fn lake(files: u64, mergeable: u64) -> LakeHealth {
    let live = FileCount { files, bytes: files };
    LakeHealth {
        tables: vec![TableHealth {
            table: "main.events".to_owned(),
            target_bytes: 256_000_000,
            live,
            sizes: SizeClasses { tiny: live, ..SizeClasses::default() },
            with_deletes: 0,
            mergeable,
            merge_groups: 1,
            schema_versions: 1,
            partition_values: 0,
            one_day: None,
        }],
        snapshots: SnapshotsKept {
            count: files,
            oldest: SnapshotId(3),
            oldest_at: ago(HOUR),
            retention: Some(Duration::from_secs(7 * DAY)),
            kept_by: None,
        },
        ended: FileCount::default(),
        awaiting_removal: AwaitingRemoval {
            delay: Some(Duration::from_secs(2 * DAY)),
            ..AwaitingRemoval::default()
        },
        ledger_rows: 0,
        last_maintenance: vec![],
        last_verification: None,
    }
}

fn with_last(mut lake: LakeHealth, kind: Operation, seconds_ago: u64) -> LakeHealth {
    let last = LastMaintenance { kind, at: ago(seconds_ago), done: 1 };
    lake.last_maintenance.push(last);
    lake
}

fn with_oldest(mut lake: LakeHealth, seconds_ago: u64) -> LakeHealth {
    lake.snapshots.oldest_at = ago(seconds_ago);
    lake
}

fn waiting(files: u64, seconds: u64) -> LakeHealth {
    let mut lake = lake(10, 0);
    lake.awaiting_removal.files = files;
    lake.awaiting_removal.since = Some(ago(seconds));
    lake
}

fn kept(by: HoldReason, from: i64) -> LakeHealth {
    let mut lake = with_oldest(lake(500, 0), 40 * DAY);
    lake.snapshots.kept_by = Some(RetentionHold { by, from: SnapshotId(from) });
    lake
}

fn judged(lake: &LakeHealth) -> LakeJudgement {
    judge(lake, now(), &Tolerance::default())
}

fn state(lake: &LakeHealth) -> LakeState {
    judged(lake).state
}

#[test]
fn the_table_of_states_holds() {
    use LakeState::{CompactionBehind, ExpiryBehind, Healthy, RemovalBehind, SnapshotsKept};
    let merged = |files, mergeable, ago| {
        with_oldest(with_last(lake(files, mergeable), Operation::MergeAdjacentFiles, ago), 6 * DAY)
    };
    let pin = || HoldReason::Pin("audit".to_owned());

    let table = [
        ("small and fresh, no compactor", lake(300, 299), Healthy),
        ("an hour of commits, no compactor", lake(3600, 3599), CompactionBehind),
        (
            "a few files of days ago, no compactor",
            with_oldest(lake(300, 299), 3 * DAY),
            CompactionBehind,
        ),
        ("hardly any files of weeks ago", with_oldest(lake(50, 49), 60 * DAY), Healthy),
        ("compactor keeps up", merged(500, 30, 60), Healthy),
        ("compactor has a few to do", merged(500, 300, DAY), Healthy),
        ("compactor stopped days ago", merged(500, 300, 3 * DAY), CompactionBehind),
        ("many large files, nothing to merge", merged(100_000, 0, 9 * DAY), Healthy),
        ("files within their delay", waiting(500, 2 * DAY + HOUR), Healthy),
        ("files beyond it", waiting(500, 3 * DAY + HOUR), RemovalBehind),
        ("snapshots within retention", with_oldest(lake(500, 0), 7 * DAY + HOUR), Healthy),
        ("snapshots beyond it", with_oldest(lake(500, 0), 8 * DAY + HOUR), ExpiryBehind),
        ("beyond it, pinned", kept(pin(), 3), SnapshotsKept),
        ("beyond it, pinned later", kept(pin(), 4), ExpiryBehind),
    ];

    for (what, lake, expected) in table {
        assert_eq!(state(&lake), expected, "{what}: {}", judged(&lake).text);
    }
}

#[test]
fn compaction_behind_names_the_worst_table_and_the_last_merge() {
    let mut lake = with_last(lake(12_600, 12_345), Operation::MergeAdjacentFiles, 3 * DAY);
    let mut other = lake.tables[0].clone();
    other.table = "main.quiet".to_owned();
    other.mergeable = 2000;
    lake.tables.push(other);

    assert_eq!(
        judged(&lake).text,
        "compaction behind: 12,345 small files in main.events, 98 % of its files; \
         last merge 3d 0h ago; is ducktide-compactor running?"
    );
}

#[test]
fn a_compactor_that_runs_is_not_asked_for() {
    let lake = with_last(lake(5000, 4000), Operation::MergeAdjacentFiles, 300);

    assert_eq!(
        judged(&lake).text,
        "compaction behind: 4,000 small files in main.events, 80 % of its files; \
         last merge 5m 0s ago"
    );
}

#[test]
fn many_days_may_have_some_small_files_each() {
    let mut lake = with_last(lake(3000, 1500), Operation::MergeAdjacentFiles, 60);
    lake.tables[0].merge_groups = 365;

    assert_eq!(state(&lake), LakeState::Healthy);
}

#[test]
fn delayed_removal_names_the_configured_delay() {
    assert_eq!(
        judged(&waiting(1204, 5 * DAY)).text,
        "1,204 files await removal, the first for 5d 0h instead of 2d 0h; no cleanup so far; \
         is ducktide-compactor running?"
    );
}

#[test]
fn old_snapshots_name_their_hold() {
    let text = |by| judged(&kept(by, 2)).text;

    assert_eq!(
        text(HoldReason::Pin("audit".to_owned())),
        "snapshots of 40d 0h are kept instead of 7d 0h: by pin `audit`"
    );
    let replay = text(HoldReason::UnfinishedReplay("main.events".to_owned()));
    assert!(replay.contains("for a replay of main.events whose rows are not all back"), "{replay}");
}

#[test]
fn delete_files_count_when_they_are_many() {
    let mut lake = lake(1000, 0);
    lake.tables[0].with_deletes = 199;
    assert_eq!(state(&lake), LakeState::Healthy);

    lake.tables[0].with_deletes = 200;
    let judgement = judged(&lake);
    assert_eq!(judgement.state, LakeState::ManyDeletes);
    assert!(judgement.text.starts_with("200 files of main.events, 20 % of all, have delete files"));
}

#[test]
fn of_several_states_the_first_is_shown_and_the_others_are_counted() {
    let mut lake = with_oldest(lake(5000, 4000), 30 * DAY);
    lake.awaiting_removal.files = 1;
    lake.awaiting_removal.since = Some(ago(30 * DAY));

    let judgement = judged(&lake);

    assert_eq!(judgement.state, LakeState::CompactionBehind);
    assert!(judgement.text.ends_with("is ducktide-compactor running? (and 2 more)"));
}

#[test]
fn a_clock_ahead_makes_nothing_old() {
    let lake = with_oldest(lake(500, 300), 0);
    let judgement = judge(&lake, ago(90 * DAY), &Tolerance::default());

    assert_eq!(judgement.state, LakeState::Healthy);
}
