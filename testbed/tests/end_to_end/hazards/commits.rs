//! Commits that are repeated, late, outdated or without rows.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use ducktide_lake::DuckLake;
use ducktide_protocol::{
    ErrorKind, Lake as _, SourceSpec,
    commit::{Commit, CommitOutcome, ProgressDelta},
    position::{Epoch, Offset, Partition},
};
use ducktide_testbed::catalog::CatalogKind;

use super::{
    case::{Case, is_committed, spec},
    on_both_lakes,
};

on_both_lakes!(
    a_commit_repeated_after_a_replay_is_fenced,
    a_replayed_file_cannot_be_registered_in_a_new_epoch,
    a_file_is_never_registered_twice,
    a_merged_file_cannot_be_registered_again,
    a_batch_prepared_before_a_replay_is_fenced,
    progress_without_rows_goes_through_the_mailbox,
    a_transaction_without_changes_creates_no_snapshot,
    progress_without_rows_does_not_fence_a_prepared_batch,
    a_missing_staged_file_is_never_committed,
    a_file_with_an_older_table_version_is_never_registered,
    partitions_of_a_fenced_commit_can_be_committed_separately,
    error_words_in_the_data_do_not_retry_a_fenced_commit,
    two_sources_of_one_table_have_independent_progress,
    a_topic_is_registered_once_for_a_table,
);

fn a_commit_repeated_after_a_replay_is_fenced(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 200);
    assert!(is_committed(case.send(&commit)));
    case.replay(0, 200, 100);
    assert_eq!((case.count(), case.position(0)), (0, (1, 100)));

    // The worker did not receive the response, and the progress is the start of its commit.
    let again = case.send(&commit);

    assert_eq!(again, CommitOutcome::Fenced);
    assert_eq!((case.count(), case.position(0)), (0, (1, 100)));
    let read_again = case.commit_of(ProgressDelta { epoch: Epoch(1), ..commit.progress()[0] });
    assert!(is_committed(case.send(&read_again)));
    assert_eq!((case.count(), case.position(0)), (100, (1, 200)));
}

fn a_replayed_file_cannot_be_registered_in_a_new_epoch(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 200);
    assert!(is_committed(case.send(&commit)));
    case.replay(0, 200, 100);

    let refreshed = vec![ProgressDelta { epoch: Epoch(1), ..commit.progress()[0] }];
    let message = commit.message().to_json().replace(r#""epoch":0"#, r#""epoch":1"#);
    let error = case.register(&commit, &message).unwrap_err();
    assert!(error.contains("file already registered"), "{error}");

    let old_file = Commit::ingest(refreshed, commit.files().to_vec(), Vec::new());
    let sent = case.try_send(&old_file);
    assert!(!sent.is_ok_and(is_committed), "an ended file must not be live again");
    assert_eq!((case.count(), case.position(0)), (0, (1, 100)));
}

fn a_file_is_never_registered_twice(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 200);
    assert!(is_committed(case.send(&commit)));

    let next = commit.message().to_json();
    let next = next.replace(r#""from":100,"to":200"#, r#""from":200,"to":300"#);
    let error = case.register(&commit, &next).unwrap_err();

    assert!(error.contains("file already registered"), "{error}");
    assert_eq!((case.count(), case.position(0)), (100, (0, 200)));
}

fn a_merged_file_cannot_be_registered_again(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let first = case.rows(0, 100, 150);
    let second = case.rows(0, 150, 200);
    assert!(is_committed(case.send(&first)) && is_committed(case.send(&second)));
    case.sql("CALL ducklake_merge_adjacent_files('lake', 'events')").unwrap();
    assert_eq!(case.count(), 100);

    // The merged file is not live any more.
    let again = first.message().to_json();
    let again = again.replace(r#""from":100,"to":150"#, r#""from":200,"to":250"#);
    assert!(case.register(&first, &again).is_err());

    assert!(is_committed(case.send(&second)), "it is recognised as applied");
    assert_eq!((case.count(), case.position(0)), (100, (0, 200)));
}

fn a_batch_prepared_before_a_replay_is_fenced(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let first = case.rows(0, 100, 200);
    let zombie = case.rows(0, 100, 200);
    assert!(is_committed(case.send(&first)));
    case.replay(0, 200, 100);

    let late = case.another().commit(&zombie).unwrap();

    assert_eq!(late, CommitOutcome::Fenced);
    assert_eq!((case.count(), case.position(0)), (0, (1, 100)));
}

fn progress_without_rows_goes_through_the_mailbox(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let snapshots = "SELECT max(snapshot_id) FROM ducklake_snapshots('lake')";
    let before = case.number(snapshots);
    let idle = case.idle(0, 100, 130);

    assert_eq!(case.send(&idle), CommitOutcome::Committed(None));

    assert_eq!(case.number(snapshots), before, "no snapshot is created");
    assert_eq!(case.position(0), (0, 130));
    assert_eq!(case.send(&case.idle(0, 100, 140)), CommitOutcome::Fenced);
    assert_eq!(case.position(0), (0, 130));
}

/// The reason for the mailbox: DuckLake does not commit a message without changes.
fn a_transaction_without_changes_creates_no_snapshot(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let message = case.idle(0, 100, 130).message().to_json();

    case.sql(&format!(
        "BEGIN; DELETE FROM lake.events WHERE id = -1; \
         CALL lake.set_commit_message('test', 'test', extra_info => '{message}'); COMMIT"
    ))
    .unwrap();

    assert_eq!(case.position(0), (0, 100), "COMMIT succeeded, but no trigger received the message");
}

fn progress_without_rows_does_not_fence_a_prepared_batch(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let in_flight = case.rows(0, 100, 150);
    let next = case.rows(0, 160, 170);

    assert!(is_committed(case.send(&case.idle(1, 0, 50))));
    assert!(is_committed(case.send(&in_flight)));
    assert!(is_committed(case.send(&case.idle(0, 150, 160))));
    assert!(is_committed(case.send(&next)), "the epoch is the same");

    assert_eq!((case.count(), case.position(0)), (60, (0, 170)));
}

fn a_missing_staged_file_is_never_committed(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 150);
    fs::remove_file(&commit.files()[0].path).unwrap();

    let tables = [commit.files()[0].table.clone()].into();
    assert_eq!(case.send(&commit), CommitOutcome::FilesUnusable(tables));

    assert_eq!((case.count(), case.position(0)), (0, (0, 100)));
}

fn a_file_with_an_older_table_version_is_never_registered(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 150);
    case.sql("ALTER TABLE lake.events ADD COLUMN note VARCHAR").unwrap();

    assert_eq!(case.send(&commit), CommitOutcome::TableChanged);
    // The lake rejects it, too.
    assert!(case.register(&commit, &commit.message().to_json()).is_err());

    assert_eq!((case.count(), case.position(0)), (0, (0, 100)));
}

fn partitions_of_a_fenced_commit_can_be_committed_separately(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let (lost, kept) = (case.rows(0, 100, 150), case.rows(1, 0, 50));
    let winner = case.rows(0, 100, 150);
    assert!(is_committed(case.another().commit(&winner).unwrap()));
    let both = Commit::ingest(
        [lost.progress(), kept.progress()].concat(),
        [lost.files(), kept.files()].concat(),
        vec![case.table.version.clone()],
    );
    assert_eq!(case.send(&both), CommitOutcome::Fenced);
    assert_eq!((case.count(), case.position(1)), (50, (0, 0)));

    assert!(is_committed(case.send(&kept)), "its file was not registered by the fenced commit");

    assert_eq!((case.count(), case.position(1)), (100, (0, 50)));
}

/// `DuckLake` retries a commit if the error text contains "conflict" or "unique", also in minimum
/// and maximum values of the data, which PostgreSQL includes in its errors.
fn error_words_in_the_data_do_not_retry_a_fenced_commit(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let commit = case.rows(0, 100, 150);
    let path = commit.files()[0].path.clone();
    let words = path.with_file_name("ducktide-00000000-0000-4000-8000-000000000bad.parquet");
    case.sql(&format!(
        "COPY (SELECT * REPLACE ('unique primary key conflict, concurrent' AS _kafka_topic) \
         FROM '{}') TO '{}' (FORMAT parquet)",
        path.display(),
        words.display()
    ))
    .unwrap();
    fs::rename(&words, &path).unwrap();
    let fenced = ProgressDelta { epoch: Epoch(7), ..commit.progress()[0] };
    let commit = Commit::ingest(vec![fenced], commit.files().to_vec(), Vec::new());

    let started = Instant::now();
    assert_eq!(case.send(&commit), CommitOutcome::Fenced);

    // With DuckLake's default settings the retries take at least eleven seconds.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

fn two_sources_of_one_table_have_independent_progress(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let starts = [(Partition(0), Offset(100))];
    let others = SourceSpec { topic: "others".to_owned(), ..spec() };
    let other = case.lake().register_source(&others, &starts).unwrap();
    let commit = case.rows(0, 100, 150);

    assert!(is_committed(case.send(&commit)));

    assert_ne!(other.id, case.source.id);
    let others = case.lake().positions(other.id).unwrap();
    assert_eq!(others[0].1.next_offset, Offset(100));
}

fn a_topic_is_registered_once_for_a_table(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let (mut a, mut b) = (case.another(), case.another());
    let new = SourceSpec { topic: "new".to_owned(), ..spec() };
    let other_pipeline = SourceSpec { pipeline: "another".to_owned(), ..new.clone() };
    let starts = [(Partition(0), Offset(0))];
    let register = |lake: &mut DuckLake, spec| loop {
        match lake.register_source(spec, &starts) {
            Ok(source) => return source.id,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain()),
        }
    };

    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| register(&mut a, &new));
        let second = scope.spawn(|| register(&mut b, &other_pipeline));
        (first.join().unwrap(), second.join().unwrap())
    });

    assert_eq!(first, second);
    let sources = case.lake().sources().unwrap();
    assert_eq!(sources.iter().filter(|source| source.spec.topic == "new").count(), 1);
}
