//! Commits against ordinary clients of DuckLake, in both orders and at the same time.

use std::{
    thread,
    time::{Duration, Instant},
};

use ducktide_lake::{Access, DuckLake, conformance::DuckLakeHarness};
use ducktide_protocol::{
    Lake as _,
    commit::{Commit, CommitOutcome, Counts, ProgressDelta},
    conformance::Harness as _,
    position::{Epoch, Offset, OffsetRange, Partition},
};
use ducktide_testbed::catalog::{Catalog, CatalogKind};

use crate::hazards::case::{Case, is_committed};

const EXPIRE: &str =
    "CALL ducklake_expire_snapshots('lake', older_than => now() + INTERVAL 1 HOUR)";
const MERGE: &str = "CALL ducklake_merge_adjacent_files('lake', 'events')";
const INSERT: &str = "INSERT INTO lake.events(id) VALUES (-1)";
const DELETE: &str = "DELETE FROM lake.events WHERE id < 120";
const UPDATE: &str = "UPDATE lake.events SET id = -id WHERE id < 120";
const ALTER: &str = "ALTER TABLE lake.events ADD COLUMN added BIGINT";
const DROP: &str = "DROP TABLE lake.events";

/// Returns a lake with 20 rows in two files.
fn filled() -> Case {
    let mut case = Case::filled(CatalogKind::Postgres, 2);
    assert_eq!(case.count(), 20);
    case
}

/// Checks that snapshots, row IDs and file IDs are dense and unique.
fn assert_dense(case: &mut Case) {
    let mut catalog = Catalog::at(&case.address).unwrap();
    let mut number = |sql: &str| catalog.number(sql).unwrap();
    let gaps = "SELECT max(snapshot_id) - min(snapshot_id) + 1 - count(*) FROM ducklake_snapshot";
    let unnamed = "SELECT count(*) FROM ducklake_snapshot s WHERE NOT EXISTS \
                   (SELECT 1 FROM ducklake_snapshot_changes c WHERE c.snapshot_id = s.snapshot_id)";
    let files = "SELECT coalesce(max(data_file_id), -1) - (SELECT max(next_file_id) FROM ducklake_snapshot) \
                 FROM ducklake_data_file";
    assert_eq!([number(gaps), number(unnamed)], [0, 0]);
    assert!(number(files) < 0);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_commit_after_the_change_of_another_client_fits_it_or_is_dropped() {
    let cases = [
        (INSERT, true, 31),
        (DELETE, true, 10),
        (UPDATE, true, 30),
        (MERGE, true, 30),
        (EXPIRE, true, 30),
        (ALTER, false, 20),
    ];
    for (change, is_applied, rows) in cases {
        let mut case = filled();
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
    let mut case = filled();
    let prepared = case.rows(0, 120, 130);
    case.another().connection().unwrap().execute_batch(DROP).unwrap();
    assert_eq!(case.send(&prepared), CommitOutcome::TableChanged);
    assert_eq!(case.position(0), (0, 120));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_client_whose_transaction_began_before_a_commit_retries_or_conflicts() {
    let cases = [
        (INSERT, true, 31),
        (DELETE, false, 30),
        (UPDATE, false, 30),
        (MERGE, true, 30),
        (ALTER, true, 30),
    ];
    for (change, succeeds, rows) in cases {
        let mut case = filled();
        let mut client = case.another();
        let begun = format!("BEGIN; {change}");
        client.connection().unwrap().execute_batch(&begun).unwrap();
        let commit = case.rows(0, 120, 130);
        assert!(is_committed(case.send(&commit)), "{change}");

        let ended = client.connection().unwrap().execute_batch("COMMIT");

        assert_eq!(ended.is_ok(), succeeds, "{change}: {ended:?}");
        assert_eq!(case.count(), rows, "{change}");
        assert_eq!(case.position(0), (0, 130), "{change}");
        assert_dense(&mut case);
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
    let table = "events".parse().unwrap();
    let mut found = lake.find_table(&table).unwrap().unwrap();
    let mut from = 0;
    while Instant::now() < end {
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
        match lake.commit(&commit).unwrap() {
            CommitOutcome::Committed(_) => from += 10,
            CommitOutcome::TableChanged => found = lake.find_table(&table).unwrap().unwrap(),
            other => panic!("{other:?}"),
        }
        thread::sleep(Duration::from_millis(40));
    }
    from
}

/// Repeats a statement until the deadline. Returns how often it succeeded.
fn repeat(
    mut lake: DuckLake,
    pause: Duration,
    end: Instant,
    statement: impl Fn(u32) -> String,
) -> u32 {
    let mut succeeded = 0;
    while Instant::now() < end {
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

#[test]
#[ignore = "needs PostgreSQL"]
fn commits_among_ordinary_clients_lose_and_double_nothing() {
    let mut case = Case::new(CatalogKind::Postgres);
    let id = case.source.id;
    let source = id.0;
    let starts: Vec<_> = (2..5).map(|partition| (Partition(partition), Offset(0))).collect();
    case.lake().start_partitions(id, &starts).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    let client = || DuckLake::open(&case.config, Access::Operate).unwrap();
    let pause = Duration::from_millis;

    let (rows, inserted, others) = thread::scope(|scope| {
        let workers: Vec<_> = (2..5)
            .map(|partition| {
                let (harness, lake) = (DuckLakeHarness::new(case.config.clone()), case.another());
                scope.spawn(move || work(harness, lake, source, partition, end))
            })
            .collect();
        let (inserts, alters, merges) = (client(), client(), client());
        let (expiries, updates, drops) = (client(), client(), client());
        let insert = scope.spawn(move || {
            repeat(inserts, pause(60), end, |n| {
                format!("INSERT INTO lake.events(id) VALUES (-{n} - 1)")
            })
        });
        let others = [
            scope.spawn(move || {
                let column = |n| format!("ALTER TABLE lake.events ADD COLUMN added_{n} BIGINT");
                repeat(alters, pause(1_500), end, column)
            }),
            scope.spawn(move || repeat(merges, pause(300), end, |_| MERGE.to_owned())),
            scope.spawn(move || {
                let older = "older_than => now() - INTERVAL 1 SECOND";
                let statement = format!("CALL ducklake_expire_snapshots('lake', {older})");
                repeat(expiries, pause(400), end, |_| statement.clone())
            }),
            scope.spawn(move || {
                let update = "UPDATE lake.events SET _kafka_topic = 'client' WHERE id = -1";
                repeat(updates, pause(200), end, |_| update.to_owned())
            }),
            scope.spawn(move || {
                let replace = "CREATE OR REPLACE TABLE lake.other(id BIGINT)";
                repeat(drops, pause(300), end, |_| replace.to_owned())
            }),
        ];
        let rows: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        (rows, insert.join().unwrap(), others.map(|other| other.join().unwrap()))
    });

    println!("rows of the workers {rows:?}, inserted {inserted}, others {others:?}");
    assert!(rows.iter().all(|rows| *rows > 0) && inserted > 0);
    for (partition, rows) in (2..5).zip(&rows) {
        let mut number = |what: &str, of: &str| {
            case.number(&format!("SELECT {what} FROM lake.events WHERE {of}"))
        };
        let of = format!("_kafka_partition = {partition}");
        assert_eq!([number("count(*)", &of), number("count(DISTINCT id)", &of)], [*rows; 2]);
        assert_eq!(case.position(partition), (0, *rows));
    }
    let clients = case.number("SELECT count(*) FROM lake.events WHERE id < 0");
    assert_eq!(clients, i64::from(inserted));
    let row_ids = "SELECT count(*) - count(DISTINCT rowid) FROM lake.events";
    assert_eq!(case.number(row_ids), 0);
}
