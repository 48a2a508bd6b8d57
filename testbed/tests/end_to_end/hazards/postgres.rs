//! Hazards of a catalog in PostgreSQL: lost responses, several lakes in a database, roles.

use std::time::{Duration, Instant};

use ducktide_lake::{Access, DuckLake, config::LakeConfig};
use ducktide_protocol::{
    ErrorKind, Lake as _,
    commit::CommitOutcome,
    position::{Offset, Partition},
};
use ducktide_testbed::{
    catalog::Catalog,
    faults::{CommitFault, CommitProxy, HeldCommitLock},
};
use uuid::Uuid;

use super::case::{Case, is_committed, new_database, spec};

#[test]
#[ignore = "needs PostgreSQL"]
fn a_commit_with_a_lost_response_is_recognised() {
    let mut case = Case::in_database(&new_database(), "public");
    let proxy = CommitProxy::start(&case.address, CommitFault::ResponseLost).unwrap();
    let mut worker = case.behind(&proxy, Access::Commit);
    let (first, second) = (case.rows(0, 100, 150), case.rows(0, 150, 200));

    proxy.arm(1);
    let outcome = worker.commit(&first).unwrap();

    assert_eq!(proxy.injected(), 1);
    assert!(matches!(outcome, CommitOutcome::Committed(Some(_))), "{outcome:?}");
    assert!(is_committed(worker.commit(&second).unwrap()), "the worker continues");
    assert_eq!((case.count(), case.position(0)), (100, (0, 200)), "no file was removed either");
}

/// Shows why a writer never deletes a file whose commit outcome is unknown: the catalog can have
/// committed its rows.
#[test]
#[ignore = "needs PostgreSQL"]
fn a_writer_that_deletes_its_file_after_an_error_loses_rows() {
    let mut case = Case::in_database(&new_database(), "public");
    let proxy = CommitProxy::start(&case.address, CommitFault::ResponseLost).unwrap();
    let mut worker = case.behind(&proxy, Access::Commit);
    let commit = case.rows(0, 100, 150);
    let path = commit.files()[0].path.display().to_string();

    proxy.arm(1);
    let sent = worker.connection().unwrap().execute_batch(&format!(
        "BEGIN; CALL ducklake_add_data_files('lake', 'events', '{path}'); \
         CALL lake.set_commit_message('test', 'test', extra_info => '{}'); COMMIT",
        commit.message().to_json()
    ));
    assert!(sent.is_err(), "the response was lost");
    std::fs::remove_file(&path).unwrap();

    assert_eq!(case.position(0), (0, 150), "the catalog has committed it");
    let rows = case.sql("SELECT sum(id) FROM lake.events");
    assert!(rows.unwrap_err().contains("Cannot open file"));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_lost_commit_is_repeated() {
    let mut case = Case::in_database(&new_database(), "public");
    let proxy = CommitProxy::start(&case.address, CommitFault::CommitLost).unwrap();
    let mut worker = case.behind(&proxy, Access::Commit);
    let commit = case.rows(0, 100, 150);

    proxy.arm(1);
    let mut attempts = 1;
    let outcome = loop {
        match worker.commit(&commit) {
            Ok(outcome) => break outcome,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain()),
        }
        assert_eq!(case.position(0), (0, 100));
        attempts += 1;
    };

    assert_eq!(proxy.injected(), 1);
    assert!(is_committed(outcome) && attempts <= 3, "{attempts} attempts");
    assert_eq!((case.count(), case.position(0)), (50, (0, 150)));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn two_lakes_in_one_database_have_independent_progress() {
    let database = new_database();
    let mut a = Case::in_database(&database, "public");
    let mut b = Case::in_database(&database, "lakeb");
    assert_eq!(a.source.id, b.source.id, "the source IDs are equal, only the schema differs");
    let (in_a, in_b) = (a.rows(0, 100, 150), b.rows(0, 100, 200));

    assert!(is_committed(b.send(&in_b)));
    assert_eq!((a.position(0), b.position(0)), ((0, 100), (0, 200)));
    assert!(is_committed(b.send(&b.idle(1, 0, 30))));
    assert_eq!((a.position(1), b.position(1)), ((0, 0), (0, 30)));
    assert!(is_committed(a.send(&in_a)));

    assert_eq!((a.count(), b.count()), (50, 100));
    assert_eq!((a.position(0), b.position(0)), ((0, 150), (0, 200)));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn two_lakes_in_one_database_have_separate_commit_locks() {
    let database = new_database();
    let _a = Case::in_database(&database, "public");
    let mut b = Case::in_database(&database, "lakeb");
    let _held = HeldCommitLock::take(&database).unwrap();

    let started = Instant::now();
    assert!(is_committed(b.send(&b.idle(0, 100, 130))));

    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_disabled_trigger_stops_the_worker() {
    let mut case = Case::in_database(&new_database(), "public");
    let commit = case.rows(0, 100, 110);
    case.edit_catalog("ALTER TABLE ducktide_ledger DISABLE TRIGGER ducktide_advance");

    assert_eq!(case.try_send(&commit).unwrap_err().kind(), ErrorKind::Invalid);

    assert_eq!((case.count(), case.position(0)), (0, (0, 100)));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn triggers_run_in_a_replica_session() {
    let mut case = Case::in_database(&new_database(), "public");
    let wrong = case.idle(0, 90, 130).message().to_json();
    let mut session = Catalog::at(&case.address).unwrap();
    let post = format!(
        "SET session_replication_role = replica; INSERT INTO ducktide_commit(message) VALUES ('{wrong}')"
    );

    assert!(session.execute(&post).is_err(), "ordinary triggers do not run");

    assert_eq!(case.position(0), (0, 100));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn only_workers_have_short_timeouts() {
    let case = Case::in_database(&new_database(), "public");
    let limits = |access| {
        let mut lake = DuckLake::open(&case.config, access).unwrap();
        let show = "SELECT current_setting('idle_in_transaction_session_timeout') || ' ' || \
                    current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')";
        let sql = format!(
            "SELECT * FROM postgres_query('__ducklake_metadata_lake', '{}')",
            show.replace('\'', "''")
        );
        let connection = lake.connection().unwrap();
        connection.query_row(&sql, [], |row| row.get::<_, String>(0)).unwrap()
    };
    assert_eq!(limits(Access::Commit), "30s 15s 30s");
    assert_eq!(limits(Access::Read), "0 0 0");
    assert_eq!(limits(Access::Operate), "0 0 0");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_role_with_minimal_permissions_can_commit_and_nothing_else() {
    let mut case = Case::in_database(&new_database(), "public");
    let role = format!("worker_{}", Uuid::new_v4().simple());
    case.edit_catalog(&format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; \
         GRANT INSERT ON ducktide_source, ducktide_commit TO {role}; \
         GRANT EXECUTE ON FUNCTION ducktide_commit_files(jsonb) TO {role}"
    ));
    let url = case.address.replace("postgres@", &format!("{role}@"));
    let config = LakeConfig { catalog: url.parse().unwrap(), ..case.config.clone() };
    let mut worker = DuckLake::open(&config, Access::Commit).unwrap();

    let spec = ducktide_protocol::SourceSpec { topic: "another".to_owned(), ..spec() };
    let source = worker.register_source(&spec, &[(Partition(0), Offset(0))]).unwrap();
    worker.record_group(source.id, "another").unwrap();
    assert!(worker.groups().unwrap().is_empty(), "it has no permission to record groups");
    worker.start_partitions(source.id, &[(Partition(1), Offset(7))]).unwrap();
    assert_eq!(worker.positions(source.id).unwrap()[1].1.next_offset, Offset(7));
    let commit = case.rows(0, 100, 150);
    assert!(is_committed(worker.commit(&commit).unwrap()));
    assert!(is_committed(worker.commit(&case.idle(0, 150, 160)).unwrap()));
    assert_eq!((case.count(), case.position(0)), (50, (0, 160)));

    let mut session = Catalog::at(&url).unwrap();
    for forbidden in [
        "UPDATE ducktide_progress SET next_offset = 0",
        "DELETE FROM ducktide_ledger",
        "UPDATE ducktide_meta SET value = '0'",
        "DROP TRIGGER ducktide_advance ON ducktide_ledger",
    ] {
        assert!(session.execute(forbidden).is_err(), "{forbidden}");
    }
}
