//! Merges, expiry and cleanup concurrently with commits and replays.

use std::time::Duration;

use ducktide_lake::{Intent, IntentKind};
use ducktide_maintenance::{MaintenanceOutcome, Retention};
use ducktide_protocol::position::SnapshotId;
use ducktide_testbed::catalog::CatalogKind;
use jiff::Timestamp;

use super::{
    case::{Case, is_committed, merge},
    on_both_lakes,
};

on_both_lakes!(
    merge_expiry_and_cleanup_do_not_change_rows,
    a_table_with_a_running_replay_is_not_merged,
    expiry_keeps_the_snapshots_of_an_intent,
    a_pinned_snapshot_is_kept,
    retention_is_exact_within_a_day,
    a_commit_waits_until_an_intent_expires,
    the_second_of_two_intents_is_rejected,
);

const TIMEOUT: Duration = Duration::from_secs(5);

fn intent(case: &Case, kind: IntentKind, lasts: Duration) -> Intent {
    Intent {
        source: case.source.id,
        table: "main.events".to_owned(),
        kind,
        holder: "test".to_owned(),
        expires_at: Timestamp::now() + lasts,
        keep_snapshots_from: SnapshotId(2),
    }
}

fn merge_expiry_and_cleanup_do_not_change_rows(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    let mut operator = case.operator();

    assert_eq!(merge(&mut operator), MaintenanceOutcome::Done(3));
    let expired = ducktide_maintenance::expire_snapshots(
        &mut operator,
        &Retention::by_age(Timestamp::now()),
        TIMEOUT,
    )
    .unwrap();
    assert!(matches!(expired, MaintenanceOutcome::Done(2..)), "{expired:?}");
    let cleaned =
        ducktide_maintenance::cleanup_old_files(&mut operator, Timestamp::now(), TIMEOUT).unwrap();
    assert_eq!(cleaned, MaintenanceOutcome::Done(3));

    assert_eq!((case.count(), case.position(0)), (30, (0, 130)));
    let newest = "SELECT author || ' ' || commit_message || ' ' || coalesce(commit_extra_info, '-') \
                  FROM ducklake_snapshots('lake') ORDER BY snapshot_id DESC LIMIT 1";
    let connection = operator.connection().unwrap();
    let words: String = connection.query_row(newest, [], |row| row.get(0)).unwrap();
    assert_eq!(words, "ducktide-compactor merge_adjacent_files -");
}

fn a_table_with_a_running_replay_is_not_merged(kind: CatalogKind) {
    let case = Case::filled(kind, 3);
    let mut operator = case.operator();
    let announced = intent(&case, IntentKind::Prepare, Duration::from_mins(1));
    operator.announce(&announced).unwrap();

    assert!(
        matches!(merge(&mut operator), MaintenanceOutcome::ReplayAnnounced(found) if found.holder == "test")
    );

    operator.withdraw(&announced).unwrap();
    assert_eq!(merge(&mut operator), MaintenanceOutcome::Done(3));
}

fn expiry_keeps_the_snapshots_of_an_intent(kind: CatalogKind) {
    let case = Case::filled(kind, 3);
    let mut operator = case.operator();
    operator.announce(&intent(&case, IntentKind::Replay, Duration::from_mins(1))).unwrap();
    assert_eq!(
        ducktide_maintenance::snapshots_to_keep_from(&mut operator).unwrap(),
        Some(SnapshotId(2))
    );

    // Snapshots 0 to 4: creation of the lake, creation of the table, three commits.
    let expired = ducktide_maintenance::expire_snapshots(
        &mut operator,
        &Retention::by_age(Timestamp::now()),
        TIMEOUT,
    )
    .unwrap();

    assert_eq!(expired, MaintenanceOutcome::Done(2));
    assert_eq!(operator.overview().unwrap().snapshots.count, 3);
}

fn a_pinned_snapshot_is_kept(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    case.edit_catalog(
        "INSERT INTO ducktide_pin(name, snapshot_id, created_at) \
         VALUES ('audit', 3, '2026-11-24T00:00:00Z')",
    );
    let mut operator = case.operator();

    assert_eq!(
        ducktide_maintenance::snapshots_to_keep_from(&mut operator).unwrap(),
        Some(SnapshotId(3))
    );
    let expired = ducktide_maintenance::expire_snapshots(
        &mut operator,
        &Retention::by_age(Timestamp::now()),
        TIMEOUT,
    )
    .unwrap();

    assert_eq!(expired, MaintenanceOutcome::Done(3));
}

/// A SQLite catalog stores times as text, and `DuckLake` compares it with text in another format.
fn retention_is_exact_within_a_day(kind: CatalogKind) {
    let case = Case::filled(kind, 3);
    let mut operator = case.operator();
    assert_eq!(merge(&mut operator), MaintenanceOutcome::Done(3));
    let hour_ago = Timestamp::now() - Duration::from_hours(1);

    assert_eq!(
        ducktide_maintenance::expire_snapshots(
            &mut operator,
            &Retention::by_age(hour_ago),
            TIMEOUT
        )
        .unwrap(),
        MaintenanceOutcome::Done(0)
    );
    assert_eq!(
        ducktide_maintenance::cleanup_old_files(&mut operator, hour_ago, TIMEOUT).unwrap(),
        MaintenanceOutcome::Done(0)
    );

    let soon = Timestamp::now() + Duration::from_hours(1);
    assert!(matches!(
        ducktide_maintenance::expire_snapshots(&mut operator, &Retention::by_age(soon), TIMEOUT)
            .unwrap(),
        MaintenanceOutcome::Done(1..)
    ));
    assert_eq!(
        ducktide_maintenance::cleanup_old_files(&mut operator, soon, TIMEOUT).unwrap(),
        MaintenanceOutcome::Done(3)
    );
}

fn a_commit_waits_until_an_intent_expires(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    let commit = case.rows(0, 130, 140);
    let expires = intent(&case, IntentKind::Replay, Duration::from_secs(2));
    case.operator().announce(&expires).unwrap();

    assert!(is_committed(case.send(&commit)), "its holder has ended");

    assert!(Timestamp::now() >= expires.expires_at, "it did not wait until the intent expired");
    assert_eq!((case.count(), case.position(0)), (40, (0, 140)));
}

fn the_second_of_two_intents_is_rejected(kind: CatalogKind) {
    let case = Case::filled(kind, 3);
    let mut operator = case.operator();
    let first = intent(&case, IntentKind::Replay, Duration::from_mins(1));
    operator.announce(&first).unwrap();
    let second = Intent { holder: "another".to_owned(), ..first.clone() };

    let error = operator.announce(&second).unwrap_err().to_string();
    assert!(
        error.contains("another replay of the same source") && error.contains("holder=`test`"),
        "{error}"
    );

    // An expired intent is replaced.
    operator.withdraw(&first).unwrap();
    operator.announce(&Intent { expires_at: Timestamp::now(), ..first }).unwrap();
    operator.announce(&second).unwrap();
}
