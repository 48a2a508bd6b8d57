//! Commits against ordinary clients of DuckLake, in both orders and at the same time.

use std::{
    thread,
    time::{Duration, Instant},
};

use ducktide_lake::{Access, DuckLake, conformance::DuckLakeHarness};
use ducktide_protocol::{
    ErrorKind, Lake as _, Table,
    commit::{Commit, CommitOutcome, Counts, ProgressDelta},
    conformance::Harness as _,
    position::{Epoch, Offset, OffsetRange, Partition},
};
use ducktide_testbed::{catalog::CatalogKind, on_both_catalogs};

use crate::hazards::case::{Case, is_committed};

on_both_catalogs!(
    a_commit_after_the_change_of_another_client_fits_it_or_is_dropped,
    a_client_whose_transaction_began_before_a_commit_retries_or_conflicts,
);

const EXPIRE: &str =
    "CALL ducklake_expire_snapshots('lake', older_than => now() + INTERVAL 1 HOUR)";
const MERGE: &str = "CALL ducklake_merge_adjacent_files('lake', 'events')";
const INSERT: &str = "INSERT INTO lake.events(id) VALUES (-1)";
const DELETE: &str = "DELETE FROM lake.events WHERE id < 120";
const UPDATE: &str = "UPDATE lake.events SET id = -id WHERE id < 120";
const ALTER: &str = "ALTER TABLE lake.events ADD COLUMN added BIGINT";
const DROP: &str = "DROP TABLE lake.events";

/// Statement of a client, the nth time.
type Statement = fn(u32) -> String;

/// Statements of other clients, and the pause after each, milliseconds.
const CLIENTS: [(u64, Statement); 6] = [
    (60, |n| format!("INSERT INTO lake.events(id) VALUES (-{n} - 1)")),
    (1_500, |n| format!("ALTER TABLE lake.events ADD COLUMN added_{n} BIGINT")),
    (300, |_| MERGE.to_owned()),
    (400, |_| {
        "CALL ducklake_expire_snapshots('lake', older_than => now() - INTERVAL 1 SECOND)".to_owned()
    }),
    (200, |_| "UPDATE lake.events SET _kafka_topic = 'client' WHERE id = -1".to_owned()),
    (300, |_| "CREATE OR REPLACE TABLE lake.other(id BIGINT)".to_owned()),
];

/// Returns a lake with 20 rows in two files.
fn filled(kind: CatalogKind) -> Case {
    let mut case = Case::filled(kind, 2);
    assert_eq!(case.count(), 20);
    case
}

/// Checks that snapshots, row IDs and file IDs are dense and unique.
fn assert_dense(case: &mut Case) {
    let [snapshots, changes, files] =
        ["ducklake_snapshot", "ducklake_snapshot_changes", "ducklake_data_file"]
            .map(|table| case.own(table));
    let gaps =
        format!("SELECT max(snapshot_id) - min(snapshot_id) + 1 - count(*) FROM {snapshots}");
    let unnamed = format!(
        "SELECT count(*) FROM {snapshots} WHERE snapshot_id NOT IN (SELECT snapshot_id FROM {changes})"
    );
    let unreserved = format!(
        "SELECT coalesce(max(data_file_id), -1) - (SELECT max(next_file_id) FROM {snapshots}) FROM {files}"
    );
    assert_eq!([case.number(&gaps), case.number(&unnamed)], [0, 0]);
    assert!(case.number(&unreserved) < 0);
}

fn a_commit_after_the_change_of_another_client_fits_it_or_is_dropped(kind: CatalogKind) {
    let cases = [
        (INSERT, true, 31),
        (DELETE, true, 10),
        (UPDATE, true, 30),
        (MERGE, true, 30),
        (EXPIRE, true, 30),
        (ALTER, false, 20),
    ];
    for (change, is_applied, rows) in cases {
        let mut case = filled(kind);
        let prepared = case.rows(0, 120, 130);
        case.another().connection().unwrap().execute_batch(change).unwrap();

        let outcome = case.send(&prepared);

        let dropped = CommitOutcome::TableChanged;
        assert!(
            if is_applied { is_committed(&outcome) } else { outcome == dropped },
            "{change}: {outcome:?}"
        );
        assert_eq!(case.count(), rows, "{change}");
        assert_eq!(case.position(0), (0, if is_applied { 130 } else { 120 }), "{change}");
        assert_dense(&mut case);
    }
    let mut case = filled(kind);
    let prepared = case.rows(0, 120, 130);
    case.another().connection().unwrap().execute_batch(DROP).unwrap();
    assert_eq!(case.send(&prepared), CommitOutcome::TableChanged);
    assert_eq!(case.position(0), (0, 120));
}

fn a_client_whose_transaction_began_before_a_commit_retries_or_conflicts(kind: CatalogKind) {
    let cases = [
        (INSERT, true, 31),
        (DELETE, false, 30),
        (UPDATE, false, 30),
        (MERGE, true, 30),
        (ALTER, true, 30),
    ];
    for (change, succeeds, rows) in cases {
        let mut case = filled(kind);
        let mut client = case.another();
        let begun = format!("BEGIN; {change}");
        client.connection().unwrap().execute_batch(&begun).unwrap();
        let commit = case.rows(0, 120, 130);
        assert!(is_committed(case.send(&commit)), "{change}");

        let ended = client.connection().unwrap().execute_batch("COMMIT");

        // In SQLite, a transaction that has read before another commit cannot write.
        let succeeds = succeeds && kind == CatalogKind::Postgres;
        assert_eq!(ended.is_ok(), succeeds, "{change}: {ended:?}");
        assert_eq!(case.count(), if succeeds { rows } else { 30 }, "{change}");
        assert_eq!(case.position(0), (0, 130), "{change}");
        assert_dense(&mut case);
    }
}

/// Returns the table, as soon as other clients let it be read.
fn current_table(lake: &mut DuckLake) -> Table {
    loop {
        match lake.find_table(&"events".parse().unwrap()) {
            Ok(found) => return found.unwrap(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain()),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A worker that commits ranges of ten rows to a partition until the deadline, and sends again what the
/// lake drops. Returns the number of committed rows.
fn work(
    mut case_of: DuckLakeHarness,
    mut lake: DuckLake,
    source: i32,
    partition: i32,
    end: Instant,
) -> i64 {
    let mut found = current_table(&mut lake);
    let mut from = 0;
    // On a busy machine until the first commit.
    while Instant::now() < end || from == 0 {
        let (partition, range) =
            (Partition(partition), OffsetRange { from: Offset(from), to: Offset(from + 10) });
        let file = case_of.stage(&found, partition, range);
        let delta = ProgressDelta {
            source: ducktide_protocol::position::SourceId(source),
            partition,
            epoch: Epoch(0),
            range,
            counts: Counts { rows: 10, ..Counts::default() },
        };
        let commit = Commit::ingest(vec![delta], vec![file], vec![found.version.clone()]);
        match lake.commit(&commit) {
            Ok(CommitOutcome::Committed(_)) => from += 10,
            Ok(CommitOutcome::TableChanged) => found = current_table(&mut lake),
            Ok(other) => panic!("{other:?}"),
            // Another client was faster too often: the commit is prepared again.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain()),
        }
        thread::sleep(Duration::from_millis(40));
    }
    from
}

/// Repeats a statement until the deadline, and until it has succeeded once. Returns how often it succeeded.
fn repeat(mut lake: DuckLake, pause: Duration, end: Instant, statement: Statement) -> u32 {
    let mut succeeded = 0;
    while Instant::now() < end || succeeded == 0 {
        let connection = lake.connection().unwrap();
        match connection.execute_batch(&statement(succeeded)) {
            Ok(()) => succeeded += 1,
            // A conflict, or more retries than allowed.
            Err(_) => drop(connection.execute_batch("ROLLBACK")),
        }
        thread::sleep(pause);
    }
    succeeded
}

/// PostgreSQL only: several DuckDB instances that write to one SQLite file fail with internal errors of
/// DuckDB.
#[test]
#[ignore = "needs PostgreSQL"]
fn commits_among_ordinary_clients_lose_and_double_nothing() {
    let mut case = Case::new(CatalogKind::Postgres);
    let id = case.source.id;
    let source = id.0;
    let starts: Vec<_> = (2..5).map(|partition| (Partition(partition), Offset(0))).collect();
    case.lake().start_partitions(id, &starts).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    let (rows, succeeded) = thread::scope(|scope| {
        let workers: Vec<_> = (2..5)
            .map(|partition| {
                let (harness, lake) = (DuckLakeHarness::new(case.config.clone()), case.another());
                scope.spawn(move || work(harness, lake, source, partition, end))
            })
            .collect();
        let clients: Vec<_> = CLIENTS
            .into_iter()
            .map(|(pause, statement)| {
                let lake = DuckLake::open(&case.config, Access::Operate).unwrap();
                scope.spawn(move || repeat(lake, Duration::from_millis(pause), end, statement))
            })
            .collect();
        let rows: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        (rows, clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>())
    });

    println!("rows of the workers {rows:?}, statements of the clients {succeeded:?}");
    for (partition, rows) in (2..5).zip(&rows) {
        let mut number = |what: &str, of: &str| {
            case.number(&format!("SELECT {what} FROM lake.events WHERE {of}"))
        };
        let of = format!("_kafka_partition = {partition}");
        assert_eq!([number("count(*)", &of), number("count(DISTINCT id)", &of)], [*rows; 2]);
        assert_eq!(case.position(partition), (0, *rows));
    }
    let clients = case.number("SELECT count(*) FROM lake.events WHERE id < 0");
    assert_eq!(clients, i64::from(succeeded[0]));
    let row_ids = "SELECT count(*) - count(DISTINCT rowid) FROM lake.events";
    assert_eq!(case.number(row_ids), 0);
}
