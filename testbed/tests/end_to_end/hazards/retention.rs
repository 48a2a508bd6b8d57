//! Retention: expiry, coalescing of the ledger, pins, and removal of orphans.

use std::{
    fs::File,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use ducktide_lake::{Access, DuckLake, HoldReason, RetentionHold};
use ducktide_maintenance::{ExpiryBound, MaintenanceOutcome, Operation, OrphanPolicy, Retention};
use ducktide_protocol::{
    commit::{Commit, Counts, ProgressDelta},
    position::{Epoch, Offset, Partition, SnapshotId},
};
use ducktide_replay::{ReplayRequest, ReplaySummary};
use ducktide_testbed::catalog::CatalogKind;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    case::{Case, assert_exact, is_committed, merge},
    in_an_hour, on_both_lakes,
};

on_both_lakes!(
    each_operation_records_its_time_and_count,
    a_coalesced_ledger_is_exact_and_has_the_same_sums,
    ranges_of_readable_snapshots_are_not_coalesced,
    a_replay_into_a_coalesced_range_has_the_same_result,
    a_dead_letter_in_a_coalesced_range_is_resolved_once,
    coalescing_does_not_shorten_the_retention_of_replayed_rows,
    a_worker_commits_while_the_ledger_is_coalesced,
    a_pin_keeps_its_snapshot_until_it_is_removed,
    a_pin_with_an_unknown_snapshot_or_a_used_name_is_rejected,
    a_pin_waits_for_a_running_expiry,
    the_oldest_of_too_many_snapshots_expire,
    only_unregistered_files_are_orphans,
    orphans_are_not_removed_while_live_files_are_missing,
    too_many_orphans_are_not_removed,
    a_lake_without_any_file_has_no_orphans,
    files_of_another_lake_in_the_data_path_are_not_removed,
    cleanup_and_expiry_succeed_with_a_busy_worker,
);

const TIMEOUT: Duration = Duration::from_secs(5);

fn expire(lake: &mut DuckLake) -> MaintenanceOutcome {
    ducktide_maintenance::expire_snapshots(lake, &Retention::by_age(in_an_hour()), TIMEOUT).unwrap()
}

fn ledger_rows(case: &mut Case) -> i64 {
    let ledger = case.own("ducktide_ledger");
    case.number(&format!("SELECT count(*) FROM {ledger}"))
}

/// Returns the sums of the ledger's counts, in the order of its columns.
fn sums(case: &mut Case) -> Vec<i64> {
    let ledger = case.own("ducktide_ledger");
    ["rows", "dead", "duplicates", "tombstones", "gaps", "given_up", "to_offset - from_offset"]
        .map(|of| case.number(&format!("SELECT sum({of})::BIGINT FROM {ledger}")))
        .to_vec()
}

fn ingest(case: &mut Case, epoch: i32, from: i64, to: i64) {
    let delta = ProgressDelta { epoch: Epoch(epoch), ..case.delta(0, from, to, to - from) };
    let commit = case.commit_of(delta);
    assert!(is_committed(case.send(&commit)));
}

/// Sends a commit with retries, as a worker does: a SQLite catalog returns "locked" during another
/// write.
fn send_with_retry(case: &mut Case, commit: &Commit) {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match case.try_send(commit) {
            Ok(outcome) => return assert!(is_committed(outcome)),
            Err(error) => assert!(Instant::now() < deadline, "{}", error.chain()),
        }
    }
}

/// Commits a range with rows in its first half, and duplicates, tombstones and gaps in its second
/// half.
fn ingest_mixed(case: &mut Case, from: i64) {
    let counts = Counts { rows: 10, duplicates: 2, tombstones: 5, gaps: 3, ..Counts::default() };
    let rows = case.delta(0, from, from + 10, 10);
    let file = case.commit_of(rows).files()[0].clone();
    let delta = ProgressDelta { counts, ..case.delta(0, from, from + 20, 20) };
    let commit = Commit::ingest(vec![delta], vec![file], vec![case.table.version.clone()]);
    assert!(is_committed(case.send(&commit)));
}

/// Returns a lake with ranges of two partitions and progress without rows; the last snapshot is
/// readable.
fn filled(kind: CatalogKind) -> Case {
    let mut case = Case::new(kind);
    for from in [100, 120, 140, 160] {
        ingest_mixed(&mut case, from);
        let other = case.rows(1, from - 100, from - 90);
        assert!(is_committed(case.send(&other)));
        let idle = case.idle(1, from - 90, from - 80);
        assert!(is_committed(case.send(&idle)));
    }
    let newest = case.rows(1, 80, 90);
    assert!(is_committed(case.send(&newest)));
    case
}

/// Expires all but the newest snapshot, and coalesces the ranges before it.
fn coalesce(case: &Case) -> u64 {
    let mut operator = case.operator();
    expire(&mut operator);
    match ducktide_maintenance::coalesce_ledger(&mut operator, in_an_hour(), TIMEOUT).unwrap() {
        MaintenanceOutcome::Done(removed) => removed,
        other => panic!("{other:?}"),
    }
}

fn replay(case: &Case, to: i64) -> ReplaySummary {
    let offsets = [(Partition(0), Offset(to))].into();
    ducktide_replay::replay(&mut case.operator(), &ReplayRequest::new(case.source.clone(), offsets))
        .unwrap()
}

fn each_operation_records_its_time_and_count(kind: CatalogKind) {
    let case = filled(kind);
    let mut operator = case.operator();
    assert_eq!(ducktide_maintenance::last_maintenance(&mut operator).unwrap(), []);
    let before = Timestamp::now();

    merge(&mut operator);
    expire(&mut operator);
    ducktide_maintenance::cleanup_old_files(&mut operator, in_an_hour(), TIMEOUT).unwrap();
    ducktide_maintenance::coalesce_ledger(&mut operator, in_an_hour(), TIMEOUT).unwrap();
    ducktide_maintenance::remove_orphans(&mut operator, &OrphanPolicy::default(), TIMEOUT).unwrap();

    let found = ducktide_maintenance::last_maintenance(&mut operator).unwrap();
    let mut kinds: Vec<_> = found.iter().map(|last| last.kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, Operation::ALL);
    assert!(found.iter().all(|last| last.at >= before && last.at <= Timestamp::now()));
    let merged = found.iter().find(|last| last.kind == Operation::MergeAdjacentFiles).unwrap();
    assert!(merged.done > 0, "{found:?}");

    ducktide_maintenance::coalesce_ledger(&mut operator, in_an_hour(), TIMEOUT).unwrap();
    let again = ducktide_maintenance::last_maintenance(&mut operator).unwrap();
    let coalesced = again.iter().find(|last| last.kind == Operation::CoalesceLedger).unwrap();
    assert_eq!((again.len(), coalesced.done), (5, 0), "the newer record replaces the older");
}

fn a_coalesced_ledger_is_exact_and_has_the_same_sums(kind: CatalogKind) {
    let mut case = filled(kind);
    let (rows, sums_before) = (ledger_rows(&mut case), sums(&mut case));
    assert_exact(&case);

    let removed = coalesce(&case);

    // Two starts, one range of each partition, and the range of the newest snapshot.
    assert_eq!((rows, ledger_rows(&mut case), removed), (15, 5, 10));
    assert_eq!(sums(&mut case), sums_before);
    assert_exact(&case);
    assert_eq!(coalesce(&case), 0, "a second time changes nothing");
    let more = case.rows(1, 90, 100);
    assert!(is_committed(case.send(&more)), "progress is where it was");
    assert_exact(&case);
}

fn ranges_of_readable_snapshots_are_not_coalesced(kind: CatalogKind) {
    let mut case = filled(kind);
    let mut operator = case.operator();

    let all_readable =
        ducktide_maintenance::coalesce_ledger(&mut operator, in_an_hour(), TIMEOUT).unwrap();
    assert_eq!(all_readable, MaintenanceOutcome::Done(0));

    operator.pin("audit", Some(SnapshotId(5)), TIMEOUT).unwrap();
    expire(&mut operator);
    let hour_ago = Timestamp::now() - Duration::from_hours(1);
    assert_eq!(
        ducktide_maintenance::coalesce_ledger(&mut operator, hour_ago, TIMEOUT).unwrap(),
        MaintenanceOutcome::Done(0),
        "young"
    );
    let coalesced =
        ducktide_maintenance::coalesce_ledger(&mut operator, in_an_hour(), TIMEOUT).unwrap();
    assert!(matches!(coalesced, MaintenanceOutcome::Done(1..10)), "{coalesced:?}");

    // Each readable snapshot has the number of rows in the ledger.
    let ledger = case.own("ducktide_ledger");
    let snapshots = operator.snapshots(100).unwrap();
    assert!(snapshots.len() > 3);
    for id in snapshots.iter().map(|snapshot| snapshot.id) {
        let counted = case
            .number(&format!("SELECT sum(rows)::BIGINT FROM {ledger} WHERE snapshot_id <= {id}"));
        let rows = case.number(&format!("SELECT count(*) FROM lake.events AT (VERSION => {id})"));
        assert_eq!(counted, rows, "snapshot {id}");
    }
}

fn a_replay_into_a_coalesced_range_has_the_same_result(kind: CatalogKind) {
    for to in [100, 105, 137, 160] {
        let results = [false, true].map(|with_coalescing| {
            let mut case = filled(kind);
            if with_coalescing {
                assert!(coalesce(&case) > 0);
            }
            let done = replay(&case, to);
            assert_exact(&case);
            let removed = done.removed();
            let others = removed.total() - removed.rows;
            ingest(&mut case, 1, to, to + 50);
            assert_exact(&case);
            (removed.rows, others, done.rows, case.count(), case.position(0))
        });
        assert_eq!(results[0], results[1], "replay to {to}");
    }
}

fn a_dead_letter_in_a_coalesced_range_is_resolved_once(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let source = case.source.id;
    let message = |kind: &str, range: (i64, i64), counts: &str| {
        format!(
            "{{\"ducktide\":1,\"kind\":\"{kind}\",\"progress\":[{{\"source\":{source},\"partition\":0,\
             \"epoch\":0,\"from\":{},\"to\":{},{counts}}}]}}",
            range.0, range.1
        )
    };
    for from in [100, 110, 120] {
        let rows = case.rows(0, from, from + 9);
        let one_is_dead = message("ingest", (from, from + 10), "\"rows\":9,\"dead\":1");
        case.register(&rows, &one_is_dead).unwrap();
    }
    let newest = case.rows(1, 0, 10);
    assert!(is_committed(case.send(&newest)));
    assert_eq!(coalesce(&case), 2);

    let retry = |case: &mut Case, offset: i64| {
        let resolved = message("retry", (offset, offset), "\"rows\":1,\"dead\":-1");
        let row = case.rows(0, offset, offset + 1);
        case.register(&row, &resolved)
    };
    retry(&mut case, 119).unwrap();
    assert!(retry(&mut case, 119).unwrap_err().contains("already resolved"));
    assert_eq!(coalesce(&case), 0, "ranges with a resolved dead letter are not coalesced");
    assert_eq!(sums(&mut case)[..2], [38, 2]);

    // The row of the retried dead letter is removed with the range of its offset.
    let done = replay(&case, 100);
    assert_eq!((done.removed().rows, done.removed().dead, done.rows), (-28, -2, 28));
    assert_eq!(case.count(), 10);
}

fn coalescing_does_not_shorten_the_retention_of_replayed_rows(kind: CatalogKind) {
    let mut case = filled(kind);
    let done = replay(&case, 130);
    let before = done.shows_old_state.unwrap();
    ingest(&mut case, 1, 130, 140);
    ingest(&mut case, 1, 140, 150);

    assert!(coalesce(&case) > 0);
    let kept = ducktide_maintenance::kept_snapshots(&mut case.operator()).unwrap();
    let by = HoldReason::UnfinishedReplay("main.events".to_owned());
    assert_eq!(kept, Some(RetentionHold { from: before, by }));
    assert_eq!(case.operator().snapshots(1000).unwrap().last().unwrap().id, before);

    // Beyond the old end, in ranges that are coalesced afterwards.
    ingest(&mut case, 1, 150, 180);
    ingest(&mut case, 1, 180, 190);
    ingest(&mut case, 1, 190, 200);
    assert!(coalesce(&case) > 0);
    assert_eq!(ducktide_maintenance::kept_snapshots(&mut case.operator()).unwrap(), None);
    assert_exact(&case);
}

fn a_worker_commits_while_the_ledger_is_coalesced(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commits: Vec<_> = (0..40).map(|i| case.rows(0, 100 + i * 10, 110 + i * 10)).collect();
    let mut lake = case.operator();
    let mut removed = 0;
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            for commit in &commits {
                send_with_retry(&mut case, commit);
            }
        });
        // Once more after the worker has ended, so that there is something to coalesce.
        let mut is_over = false;
        while !is_over {
            is_over = worker.is_finished();
            let _ = ducktide_maintenance::expire_snapshots(
                &mut lake,
                &Retention::by_age(in_an_hour()),
                TIMEOUT,
            );
            if let Ok(MaintenanceOutcome::Done(done)) =
                ducktide_maintenance::coalesce_ledger(&mut lake, in_an_hour(), TIMEOUT)
            {
                removed += done;
            }
        }
    });
    assert!(removed > 0, "nothing was coalesced");
    assert_eq!((case.count(), case.position(0)), (400, (0, 500)));
    assert_exact(&case);
}

fn a_pin_keeps_its_snapshot_until_it_is_removed(kind: CatalogKind) {
    let case = filled(kind);
    let mut operator = case.operator();

    let pin = operator.pin("audit", Some(SnapshotId(4)), TIMEOUT).unwrap();
    let newest = operator.pin("today", None, TIMEOUT).unwrap();
    assert_eq!(newest.snapshot, operator.overview().unwrap().snapshots.newest);
    let names: Vec<_> = operator.pins().unwrap().into_iter().map(|pin| pin.name).collect();
    assert_eq!(names, ["audit", "today"]);

    let plan =
        ducktide_maintenance::plan_expiry(&mut operator, &Retention::by_age(in_an_hour())).unwrap();
    let by = HoldReason::Pin("audit".to_owned());
    assert_eq!(plan.bound, ExpiryBound::Kept(RetentionHold { from: pin.snapshot, by }));
    assert_eq!((plan.expires, plan.oldest_left), (4, Some(SnapshotId(4))));
    assert_eq!(expire(&mut operator), MaintenanceOutcome::Done(4));
    assert_eq!(expire(&mut operator), MaintenanceOutcome::Done(0));

    assert_eq!(operator.unpin("audit").unwrap().snapshot, SnapshotId(4));
    assert!(matches!(expire(&mut operator), MaintenanceOutcome::Done(1..)));
    let left = operator.snapshots(100).unwrap();
    assert_eq!(left.len(), 1, "the newest, which is pinned");
    assert_eq!(left[0].changes, ["inserted into main.events"]);
}

fn a_pin_with_an_unknown_snapshot_or_a_used_name_is_rejected(kind: CatalogKind) {
    let case = filled(kind);
    let mut operator = case.operator();
    operator.pin("audit", None, TIMEOUT).unwrap();

    let taken = operator.pin("audit", Some(SnapshotId(1)), TIMEOUT).unwrap_err().to_string();
    assert!(taken.contains("the name is taken"), "{taken}");
    let unknown = operator.pin("other", Some(SnapshotId(999)), TIMEOUT).unwrap_err().to_string();
    assert!(unknown.contains("no such snapshot") && unknown.contains("`999`"), "{unknown}");
    expire(&mut operator);
    assert!(operator.pin("old", Some(SnapshotId(1)), TIMEOUT).is_err(), "it has expired");
    assert!(operator.unpin("unknown").unwrap_err().to_string().contains("no such pin"));
    assert_eq!(operator.pins().unwrap().len(), 1);
}

/// Expiry and pin both hold the maintenance lock: the later one sees the result of the other.
fn a_pin_waits_for_a_running_expiry(kind: CatalogKind) {
    for round in 0..5 {
        let case = filled(kind);
        let config = case.config.clone();
        let pinned = std::thread::scope(|scope| {
            let expiry = scope.spawn(move || {
                let mut lake = DuckLake::open(&config, Access::Operate).unwrap();
                expire(&mut lake);
            });
            let mut lake = case.operator();
            std::thread::sleep(Duration::from_millis(round * 20));
            let pinned = lake.pin("audit", Some(SnapshotId(3)), TIMEOUT);
            expiry.join().unwrap();
            pinned
        });
        let left = case.operator().snapshots(100).unwrap();
        let is_there = left.iter().any(|snapshot| snapshot.id == SnapshotId(3));
        assert_eq!(is_there, pinned.is_ok(), "{pinned:?}");
        assert_eq!(case.operator().pins().unwrap().len(), usize::from(pinned.is_ok()));
    }
}

fn the_oldest_of_too_many_snapshots_expire(kind: CatalogKind) {
    let case = filled(kind);
    let mut operator = case.operator();
    let long_ago = Timestamp::now() - Duration::from_hours(24);
    let by_count = |never_younger_than| Retention {
        older_than: long_ago,
        max_snapshots: Some(4),
        never_younger_than,
    };

    let too_young = ducktide_maintenance::plan_expiry(&mut operator, &by_count(long_ago)).unwrap();
    assert_eq!((too_young.expires, too_young.bound), (0, ExpiryBound::TooYoung));
    assert_eq!(
        ducktide_maintenance::expire_snapshots(&mut operator, &by_count(long_ago), TIMEOUT)
            .unwrap(),
        MaintenanceOutcome::Done(0)
    );

    let plan = ducktide_maintenance::plan_expiry(&mut operator, &by_count(in_an_hour())).unwrap();
    let expired =
        ducktide_maintenance::expire_snapshots(&mut operator, &by_count(in_an_hour()), TIMEOUT)
            .unwrap();

    assert_eq!(expired, MaintenanceOutcome::Done(plan.snapshots - 4));
    assert_eq!(operator.snapshots(100).unwrap().len(), 4);
    assert_exact(&case);
}

/// Sets the modification time of a file to ten days ago.
fn set_old_mtime(path: &PathBuf) {
    let long_ago = SystemTime::now() - Duration::from_hours(240);
    File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
}

/// Writes old files in the directory of the table and of a partition.
fn write_old_files(case: &Case, names: &[&str]) -> Vec<PathBuf> {
    let partition = case.table.directory.join("event_date=2026-11-01");
    std::fs::create_dir_all(&partition).unwrap();
    let directories = [case.table.directory.clone(), partition];
    let path = |(directory, name): (&PathBuf, &str)| {
        let path = directory.join(name.replace('@', &Uuid::new_v4().to_string()));
        std::fs::write(&path, "an old file").unwrap();
        set_old_mtime(&path);
        path
    };
    directories
        .iter()
        .flat_map(|directory| names.iter().map(move |name| (directory, *name)))
        .map(path)
        .collect()
}

fn data_files(case: &Case) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(&case.table.directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    paths.collect()
}

fn only_unregistered_files_are_orphans(kind: CatalogKind) {
    let mut case = filled(kind);
    let mut operator = case.operator();
    merge(&mut operator);
    // Some of the merged files are scheduled for deletion, others are only ended.
    operator.pin("audit", Some(SnapshotId(6)), TIMEOUT).unwrap();
    expire(&mut operator);
    let registered = data_files(&case);
    registered.iter().for_each(set_old_mtime);
    let orphans = write_old_files(
        &case,
        &["ducktide-@.parquet", "ducklake-@.parquet", "ducklake-@-delete.parquet"],
    );
    let others = write_old_files(&case, &["@.parquet", "ducktide-@.parquet.tmp", "notes.txt"]);
    let young = case.table.directory.join(format!("ducktide-{}.parquet", Uuid::new_v4()));
    std::fs::write(&young, "file of a worker before its commit").unwrap();

    let found =
        ducktide_maintenance::find_orphans(&mut operator, OrphanPolicy::default().margin).unwrap();
    let mut paths: Vec<_> = found.candidates.iter().map(|orphan| orphan.path.clone()).collect();
    let mut expected = orphans.clone();
    paths.sort();
    expected.sort();
    assert_eq!(paths, expected);
    assert_eq!((found.bytes, found.live_files), (6 * 11, 1));

    let done =
        ducktide_maintenance::remove_orphans(&mut operator, &OrphanPolicy::default(), TIMEOUT)
            .unwrap();

    assert_eq!(done, MaintenanceOutcome::Done(6));
    assert!(orphans.iter().all(|path| !path.exists()));
    assert!(registered.iter().chain(&others).chain([&young]).all(|path| path.exists()));
    let then = case.number("SELECT count(*) FROM lake.events AT (VERSION => 6)");
    assert!(then > 0, "old snapshots are readable");
    assert_exact(&case);
    let error = OrphanPolicy { margin: Duration::from_hours(1), ..OrphanPolicy::default() };
    let error = ducktide_maintenance::remove_orphans(&mut operator, &error, TIMEOUT)
        .unwrap_err()
        .to_string();
    assert!(error.contains("a day at least"), "{error}");
}

fn orphans_are_not_removed_while_live_files_are_missing(kind: CatalogKind) {
    let case = filled(kind);
    let orphans = write_old_files(&case, &["ducktide-@.parquet"]);
    let live = data_files(&case);
    let live = live.iter().find(|path| !orphans.contains(path)).unwrap();
    std::fs::rename(live, live.with_extension("moved")).unwrap();

    let error = ducktide_maintenance::remove_orphans(
        &mut case.operator(),
        &OrphanPolicy::default(),
        TIMEOUT,
    )
    .unwrap_err();

    assert!(error.to_string().contains("no orphan is removed"), "{error}");
    assert!(orphans.iter().all(|path| path.exists()));
}

fn a_lake_without_any_file_has_no_orphans(kind: CatalogKind) {
    let case = Case::new(kind);

    let done = ducktide_maintenance::remove_orphans(
        &mut case.operator(),
        &OrphanPolicy::default(),
        TIMEOUT,
    )
    .unwrap();

    assert_eq!(done, MaintenanceOutcome::Done(0));
}

fn too_many_orphans_are_not_removed(kind: CatalogKind) {
    let case = filled(kind);
    let orphans = write_old_files(&case, &["ducktide-@.parquet", "ducklake-@.parquet"]);
    let strict = OrphanPolicy { always_allowed: 3, max_share: 0.2, ..OrphanPolicy::default() };

    let error = ducktide_maintenance::remove_orphans(&mut case.operator(), &strict, TIMEOUT)
        .unwrap_err()
        .to_string();

    assert!(error.contains("orphans=`4` live_files=`9` max_share=`0.2`"), "{error}");
    assert!(orphans.iter().all(|path| path.exists()));
    let generous = OrphanPolicy { max_share: 0.5, ..strict };
    let done =
        ducktide_maintenance::remove_orphans(&mut case.operator(), &generous, TIMEOUT).unwrap();
    assert_eq!(done, MaintenanceOutcome::Done(4));
}

fn files_of_another_lake_in_the_data_path_are_not_removed(kind: CatalogKind) {
    let case = filled(kind);
    let data_path = case.config.data_path.clone().unwrap();
    let others = data_path.join("main").join("orders");
    std::fs::create_dir_all(&others).unwrap();
    let file = others.join(format!("ducktide-{}.parquet", Uuid::new_v4()));
    std::fs::write(&file, "another lake's").unwrap();
    set_old_mtime(&file);

    let done = ducktide_maintenance::remove_orphans(
        &mut case.operator(),
        &OrphanPolicy::default(),
        TIMEOUT,
    )
    .unwrap();

    assert_eq!(done, MaintenanceOutcome::Done(0));
    assert!(file.exists());
}

/// In a SQLite catalog a concurrent commit aborts a transaction that has already read.
fn cleanup_and_expiry_succeed_with_a_busy_worker(kind: CatalogKind) {
    let mut case = filled(kind);
    merge(&mut case.operator());
    let commits: Vec<_> = (0..60).map(|i| case.rows(0, 180 + i * 10, 190 + i * 10)).collect();
    let config = case.config.clone();
    std::thread::scope(|scope| {
        let compactor = scope.spawn(move || {
            let mut lake = DuckLake::open(&config, Access::Operate).unwrap();
            for _ in 0..10 {
                expire(&mut lake);
                let cleaned =
                    ducktide_maintenance::cleanup_old_files(&mut lake, in_an_hour(), TIMEOUT)
                        .unwrap();
                assert!(matches!(cleaned, MaintenanceOutcome::Done(_)), "{cleaned:?}");
                ducktide_maintenance::coalesce_ledger(&mut lake, in_an_hour(), TIMEOUT).unwrap();
            }
        });
        for commit in &commits {
            send_with_retry(&mut case, commit);
        }
        compactor.join().unwrap();
    });
    assert_exact(&case);
}
