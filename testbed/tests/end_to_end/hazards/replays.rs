//! Replays and skips with concurrent commits and merges, and with lost responses.

use std::{thread, time::Duration};

use ducktide_lake::{Access, DuckLake};
use ducktide_maintenance::{MaintenanceOutcome, Retention};
use ducktide_protocol::{
    ErrorKind,
    commit::{Commit, CommitOutcome, Counts, ProgressDelta},
    position::{Epoch, Offset, Partition, SnapshotId},
};
use ducktide_replay::ReplaySummary;
use ducktide_testbed::{
    catalog::CatalogKind,
    faults::{CommitFault, CommitProxy},
};
use jiff::Timestamp;

use super::{
    case::{self, Case, is_committed, merge, new_database},
    on_both_lakes,
    remedies::{ingest, request, try_replay},
};

on_both_lakes!(
    a_replay_ends_whole_files_and_workers_continue_after_it,
    a_replay_into_the_middle_of_a_file_keeps_its_other_rows,
    a_replay_of_one_partition_leaves_the_rows_of_others_in_the_same_file,
    a_replay_after_a_merge_is_exact,
    a_replay_subtracts_counted_tombstones_and_gaps,
    a_replay_of_progress_without_rows_goes_through_the_mailbox,
    a_replay_of_all_partitions_leaves_an_empty_table,
    a_replay_removes_dead_letters,
    repeated_replays_are_exact,
    a_replay_with_a_busy_worker_is_exact,
    a_replay_during_merges_is_exact,
    concurrent_replays_are_applied_once,
    replayed_rows_stay_readable_until_they_are_written_again,
    a_dry_run_changes_nothing,
    invalid_offsets_are_rejected_without_changes,
    a_skip_is_recorded_in_the_ledger_and_begins_an_epoch,
);

/// Replays from these offsets.
fn replay(case: &Case, offsets: &[(i32, i64)]) -> ReplaySummary {
    try_replay(case, offsets).unwrap()
}

/// Checks that ledger, files and rows are consistent, and that there is no delete file.
fn assert_exact(case: &mut Case) {
    case::assert_exact(case);
    let deletes = case.own("ducklake_delete_file");
    assert_eq!(case.number(&format!("SELECT count(*) FROM {deletes}")), 0, "a delete file exists");
}

fn rows_below(case: &mut Case, partition: i32, offset: i64) -> i64 {
    case.number(&format!(
        "SELECT count(*) FROM lake.events WHERE _kafka_partition = {partition} AND _kafka_offset < {offset}"
    ))
}

fn a_replay_ends_whole_files_and_workers_continue_after_it(kind: CatalogKind) {
    let mut case = Case::new(kind);
    for from in [100, 110, 120] {
        ingest(&mut case, 0, 0, from, from + 10);
    }
    let zombie = case.rows(0, 130, 140);

    let done = replay(&case, &[(0, 110)]);

    assert_eq!((done.rows, done.files_ended, done.files_rewritten), (20, 2, 0));
    assert_eq!(done.shows_old_state, done.snapshot.map(|id| SnapshotId(id.0 - 1)));
    assert_eq!((case.count(), case.position(0)), (10, (1, 110)));
    assert_eq!(case.send(&zombie), CommitOutcome::Fenced);
    ingest(&mut case, 0, 1, 110, 135);
    assert_eq!((case.count(), case.position(0)), (35, (1, 135)));
    let then = done.shows_old_state.unwrap();
    assert_eq!(
        case.number(&format!("SELECT count(*) FROM lake.events AT (VERSION => {then})")),
        30
    );
    assert_exact(&mut case);
}

fn a_replay_into_the_middle_of_a_file_keeps_its_other_rows(kind: CatalogKind) {
    let mut case = Case::new(kind);
    ingest(&mut case, 0, 0, 100, 150);
    ingest(&mut case, 0, 0, 150, 160);

    let done = replay(&case, &[(0, 120)]);

    assert_eq!((done.rows, done.files_ended, done.files_rewritten), (40, 1, 1));
    assert_eq!((case.count(), case.position(0)), (20, (1, 120)));
    assert_eq!(rows_below(&mut case, 0, 120), 20);
    ingest(&mut case, 0, 1, 120, 160);
    assert_exact(&mut case);
}

fn a_replay_of_one_partition_leaves_the_rows_of_others_in_the_same_file(kind: CatalogKind) {
    let mut case = Case::new(kind);
    ingest(&mut case, 0, 0, 100, 120);
    ingest(&mut case, 1, 0, 0, 30);
    merge(&mut case.operator());

    let done = replay(&case, &[(0, 100)]);

    assert_eq!((done.rows, done.files_ended, done.files_rewritten), (20, 0, 1));
    assert_eq!((case.count(), case.position(0), case.position(1)), (30, (1, 100), (0, 30)));
    ingest(&mut case, 1, 0, 30, 40);
    ingest(&mut case, 0, 1, 100, 105);
    assert_exact(&mut case);
}

fn a_replay_after_a_merge_is_exact(kind: CatalogKind) {
    let mut case = Case::new(kind);
    for from in [100, 110, 120, 130] {
        ingest(&mut case, 0, 0, from, from + 10);
    }
    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(4));

    replay(&case, &[(0, 115)]);
    ingest(&mut case, 0, 1, 115, 140);
    assert_eq!(merge(&mut case.operator()), MaintenanceOutcome::Done(2));

    assert_eq!((case.count(), case.position(0)), (40, (1, 140)));
    assert_exact(&mut case);
}

fn a_replay_subtracts_counted_tombstones_and_gaps(kind: CatalogKind) {
    let mut case = Case::new(kind);
    // One range: offsets 100 to 119 are rows, 120 to 124 tombstones, 125 to 129 gaps.
    let rows = case.rows(0, 100, 120);
    let counts = Counts { rows: 20, tombstones: 5, gaps: 5, ..Counts::default() };
    let delta = ProgressDelta { counts, ..case.delta(0, 100, 130, 20) };
    let commit =
        Commit::ingest(vec![delta], rows.files().to_vec(), vec![case.table.version.clone()]);
    assert!(is_committed(case.send(&commit)));

    let done = replay(&case, &[(0, 115)]);

    assert_eq!(done.removed().rows, -5);
    assert_eq!(done.removed().total(), -15);
    ingest(&mut case, 0, 1, 115, 120);
    assert!(is_committed(case.send(&Commit::ingest(
        vec![ProgressDelta { epoch: Epoch(1), ..case.delta(0, 120, 130, 0) }],
        Vec::new(),
        Vec::new()
    ))));
    assert_exact(&mut case);
}

fn a_replay_of_progress_without_rows_goes_through_the_mailbox(kind: CatalogKind) {
    let mut case = Case::new(kind);
    assert!(is_committed(case.send(&case.idle(0, 100, 130))));

    let done = replay(&case, &[(0, 110)]);

    assert_eq!((done.rows, done.snapshot, done.shows_old_state), (0, None, None));
    assert_eq!(case.position(0), (1, 110));
    assert_exact(&mut case);
}

fn a_replay_of_all_partitions_leaves_an_empty_table(kind: CatalogKind) {
    let mut case = Case::new(kind);
    ingest(&mut case, 0, 0, 100, 120);
    ingest(&mut case, 1, 0, 0, 30);

    let done = replay(&case, &[(0, 100), (1, 0)]);

    assert_eq!((done.rows, done.steps.len()), (50, 2));
    assert_eq!((case.count(), case.position(0), case.position(1)), (0, (1, 100), (1, 0)));
    ingest(&mut case, 1, 1, 0, 30);
    assert_exact(&mut case);
}

fn a_replay_removes_dead_letters(kind: CatalogKind) {
    let mut case = Case::new(kind);
    // The range has no rows.
    case.commit_dead_letters(case.delta(0, 100, 110, 0), [103, 108]);

    let done = replay(&case, &[(0, 105)]);

    assert_eq!((done.dead_letter_rows, done.removed().dead, done.files_rewritten), (1, -1, 1));
    assert_eq!(case.number("SELECT count(*) FROM lake.events_dead_letters"), 1);
    assert_exact(&mut case);
}

fn repeated_replays_are_exact(kind: CatalogKind) {
    let mut case = Case::new(kind);
    ingest(&mut case, 0, 0, 100, 150);
    replay(&case, &[(0, 130)]);
    replay(&case, &[(0, 110)]);
    assert_eq!((case.count(), case.position(0)), (10, (2, 110)));
    ingest(&mut case, 0, 2, 110, 140);
    replay(&case, &[(0, 105)]);
    ingest(&mut case, 0, 3, 105, 150);
    assert_eq!((case.count(), case.position(0)), (50, (3, 150)));
    assert_exact(&mut case);
}

/// Commits like a worker, following every replay, until an offset is reached.
fn busy_worker(case: &mut Case, until: i64) {
    loop {
        let (epoch, next) = case.position(0);
        if next >= until {
            return;
        }
        let delta = ProgressDelta { epoch: Epoch(epoch), ..case.delta(0, next, next + 5, 5) };
        let commit = case.commit_of(delta);
        while let Err(error) = case.try_send(&commit) {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        }
    }
}

fn a_replay_with_a_busy_worker_is_exact(kind: CatalogKind) {
    let mut case = Case::new(kind);
    ingest(&mut case, 0, 0, 100, 150);
    let (config, request) = (case.config.clone(), request(&case, &[(0, 120)]));
    let operator = thread::spawn(move || {
        let mut lake = DuckLake::open(&config, Access::Operate).unwrap();
        let done: Vec<_> =
            (0..3).map(|_| ducktide_replay::replay(&mut lake, &request).unwrap()).collect();
        let moved = done.iter().filter(|done| !done.steps.is_empty()).count();
        (done.iter().map(|done| done.rows).sum::<u64>(), i32::try_from(moved).unwrap())
    });
    busy_worker(&mut case, 400);
    let (removed, epoch) = operator.join().unwrap();
    busy_worker(&mut case, 400);

    assert!(removed >= 30, "{removed}");
    assert_eq!((case.count(), case.position(0)), (300, (epoch, 400)));
    assert_exact(&mut case);
}

fn a_replay_during_merges_is_exact(kind: CatalogKind) {
    let mut case = Case::new(kind);
    for from in (100..200).step_by(10) {
        ingest(&mut case, 0, 0, from, from + 10);
    }
    let config = case.config.clone();
    let merger = thread::spawn(move || {
        let mut lake = DuckLake::open(&config, Access::Operate).unwrap();
        for _ in 0..15 {
            merge(&mut lake);
        }
    });
    for (epoch, to) in [(1, 155), (2, 125), (3, 101)] {
        replay(&case, &[(0, to)]);
        ingest(&mut case, 0, epoch, to, 200);
    }
    merger.join().unwrap();

    assert_eq!((case.count(), case.position(0)), (100, (3, 200)));
    assert_exact(&mut case);
}

fn concurrent_replays_are_applied_once(kind: CatalogKind) {
    let mut case = Case::new(kind);
    ingest(&mut case, 0, 0, 100, 150);
    let race = |to: i64| {
        let (config, request) = (case.config.clone(), request(&case, &[(0, to)]));
        thread::spawn(move || {
            ducktide_replay::replay(
                &mut DuckLake::open(&config, Access::Operate).unwrap(),
                &request,
            )
        })
    };
    let outcomes = [race(120), race(120)].map(|thread| thread.join().unwrap());

    let done = outcomes.iter().flatten().filter(|done| !done.steps.is_empty()).count();
    assert_eq!(done, 1, "{outcomes:?}");
    for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(refused.to_string().contains("another replay"), "{}", refused.chain());
    }
    assert_eq!((case.count(), case.position(0)), (20, (1, 120)));
    assert_exact(&mut case);
}

fn replayed_rows_stay_readable_until_they_are_written_again(kind: CatalogKind) {
    let mut case = Case::new(kind);
    ingest(&mut case, 0, 0, 100, 150);
    let then = replay(&case, &[(0, 120)]).shows_old_state.unwrap();
    ingest(&mut case, 0, 1, 120, 130);
    let mut operator = case.operator();
    assert_eq!(ducktide_maintenance::snapshots_to_keep_from(&mut operator).unwrap(), Some(then));

    let now = Timestamp::now();
    ducktide_maintenance::expire_snapshots(
        &mut operator,
        &Retention::by_age(now),
        Duration::from_secs(5),
    )
    .unwrap();
    ducktide_maintenance::cleanup_old_files(&mut operator, now, Duration::from_secs(5)).unwrap();
    assert_eq!(
        case.number(&format!("SELECT count(*) FROM lake.events AT (VERSION => {then})")),
        50
    );

    ingest(&mut case, 0, 1, 130, 150);
    assert_eq!(ducktide_maintenance::snapshots_to_keep_from(&mut operator).unwrap(), None);
}

fn a_dry_run_changes_nothing(kind: CatalogKind) {
    let mut case = Case::new(kind);
    ingest(&mut case, 0, 0, 100, 150);

    let planned =
        ducktide_replay::plan_replay(&mut case.operator(), &request(&case, &[(0, 120)])).unwrap();

    assert_eq!((planned.rows, planned.files_rewritten, planned.snapshot), (30, 1, None));
    assert_eq!((case.count(), case.position(0)), (50, (0, 150)));
}

fn invalid_offsets_are_rejected_without_changes(kind: CatalogKind) {
    let mut case = Case::new(kind);
    ingest(&mut case, 0, 0, 100, 150);
    let refused = [
        (&[(0, 151)], "a replay goes back"),
        (&[(0, 99)], "--into"),
        (&[(7, 0)], "no such partition"),
    ];
    for (offsets, text) in refused {
        let error = try_replay(&case, offsets).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    assert!(replay(&case, &[(0, 150)]).steps.is_empty(), "it is already at this offset");
    assert_eq!((case.count(), case.position(0)), (50, (0, 150)));
    assert!(case.operator().live_intents().unwrap().is_empty());
}

fn a_skip_is_recorded_in_the_ledger_and_begins_an_epoch(kind: CatalogKind) {
    let mut case = Case::new(kind);
    ingest(&mut case, 0, 0, 100, 110);
    let zombie = case.rows(0, 110, 120);
    let source = case.source.clone();

    let step =
        ducktide_replay::skip(&mut case.operator(), &source, Partition(0), Offset(150)).unwrap();

    assert_eq!((step.range.len(), step.counts.given_up), (40, 40));
    assert_eq!(case.position(0), (1, 150));
    assert_eq!(case.send(&zombie), CommitOutcome::Fenced);
    let again = ducktide_replay::skip(&mut case.operator(), &source, Partition(0), Offset(150))
        .unwrap_err()
        .to_string();
    assert!(again.contains("a skip goes forward"), "{again}");
    ingest(&mut case, 0, 1, 150, 160);
    replay(&case, &[(0, 130)]);
    assert_eq!((case.count(), case.position(0)), (10, (2, 130)));
    assert_exact(&mut case);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_replay_with_a_lost_commit_or_response_is_applied_once() {
    for fault in [CommitFault::ResponseLost, CommitFault::CommitLost] {
        let url = new_database();
        let proxy = CommitProxy::start(&url, fault).unwrap();
        let mut case = Case::in_database(&url, "public");
        ingest(&mut case, 0, 0, 100, 150);
        ingest(&mut case, 0, 0, 150, 160);
        let mut config = case.config.clone();
        config.catalog = proxy.url(&url).unwrap().parse().unwrap();
        let mut operator = DuckLake::open(&config, Access::Operate).unwrap();
        proxy.arm(1);

        let done = ducktide_replay::replay(&mut operator, &request(&case, &[(0, 120)])).unwrap();

        assert_eq!(proxy.injected(), 1, "{fault:?}");
        assert_eq!(done.rows, 40, "{fault:?}");
        assert_eq!((case.count(), case.position(0)), (20, (1, 120)), "{fault:?}");
        ingest(&mut case, 0, 1, 120, 160);
        assert_exact(&mut case);
    }
}
