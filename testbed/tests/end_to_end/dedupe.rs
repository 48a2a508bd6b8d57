//! Deduplication of events, with a producer that publishes one of twenty events again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use ducktide_testbed::{
    catalog::CatalogKind,
    on_both_catalogs, on_one_catalog, oracle,
    pipeline::{CONTINUOUS, Pipeline, TABLE, WAIT_TIMEOUT},
    wait,
};

on_both_catalogs!(a_replay_writes_the_same_rows_again);

on_one_catalog!(
    duplicates_are_dropped_across_a_kill_and_a_rebalance,
    ids_of_a_failed_batch_are_not_duplicates,
);

const DUPLICATES: [&str; 2] = ["--duplicates", "0.05"];

const DEDUPE: [&str; 4] = ["--dedupe-by", "event_id", "--flush-interval", "200ms"];

/// Arguments for a session timeout of two seconds, after which a killed worker's partitions are
/// reassigned.
const SHORT_SESSION: [&str; 4] = [
    "--kafka-property",
    "session.timeout.ms=2000",
    "--kafka-property",
    "heartbeat.interval.ms=500",
];

/// Returns the expected content of the table: of each partition's acknowledged records, the first
/// with each ID.
fn first_records(ledger: &str) -> String {
    let mut lines = ledger.lines();
    let mut first_records = lines.next().unwrap().to_owned() + "\n";
    let by_position = |line: &str| {
        let mut cells = line.split(',').skip(1).map(str::to_owned);
        let partition_and_offset =
            (cells.next().unwrap(), cells.next().unwrap().parse::<i64>().unwrap());
        (partition_and_offset, cells.next().unwrap())
    };
    let records: BTreeMap<_, _> = lines.map(|line| (by_position(line), line)).collect();
    let mut seen = BTreeSet::new();
    for (((partition, _), id), line) in records {
        if seen.insert((partition, id)) {
            first_records.push_str(line);
            first_records.push('\n');
        }
    }
    first_records
}

/// Checks that the table has exactly these records, and that the lake's ledger counts the others.
fn check_first_records(pipeline: &Pipeline, published: u64) {
    let expected = pipeline.file("first_records.csv");
    fs::write(&expected, first_records(&fs::read_to_string(pipeline.ledger()).unwrap())).unwrap();
    let comparison = oracle::compare(&expected, &pipeline.lake().unwrap(), TABLE).unwrap();
    assert!(comparison.is_exact(), "{comparison}");
    let duplicates = published - comparison.acknowledged;
    assert!(duplicates > published / 40, "the producer duplicates one in twenty: {duplicates}");
    let sql = "SELECT sum(duplicates) FROM ducktide_ledger";
    let counted = pipeline.catalog().unwrap().number(sql).unwrap();
    assert_eq!(u64::try_from(counted).unwrap(), duplicates);
    pipeline.verify().unwrap();
}

fn duplicates_are_dropped_across_a_kill_and_a_rebalance(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("duplicates", kind).unwrap();
    let mut producer = pipeline.start_producer(&[CONTINUOUS, &DUPLICATES].concat()).unwrap();
    let arguments = [DEDUPE, SHORT_SESSION].concat();
    let mut first = pipeline.start_consumer("first", &arguments).unwrap();
    pipeline.await_committed(6_000).unwrap();

    // A rebalance: partitions are assigned to the second worker.
    let second = pipeline.start_consumer("second", &arguments).unwrap();
    second.await_metric("rows_total", 1.0).unwrap();
    pipeline.await_committed(12_000).unwrap();
    first.process().kill().unwrap();
    let _third = pipeline.start_consumer("third", &arguments).unwrap();
    pipeline.await_committed(24_000).unwrap();
    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();

    let dropped = || Ok(second.metric("duplicates_total")? >= 1.0);
    wait::until("the metric counts them", WAIT_TIMEOUT, dropped).unwrap();
    check_first_records(&pipeline, published);
}

/// The window contains the IDs of the rows that the replay removes.
fn a_replay_writes_the_same_rows_again(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("repeats_replayed", kind).unwrap();
    pipeline.produce(20_000, &DUPLICATES).unwrap();
    // A window whose start is before year 1000.
    let arguments = [DEDUPE.as_slice(), &["--dedupe-window", "5000000d"]].concat();
    let mut worker = pipeline.start_consumer("worker", &arguments).unwrap();
    pipeline.await_committed(20_000).unwrap();

    for partition in
        [["--partition", "0", "--from-offset", "5000"].as_slice(), &["--from-beginning"]]
    {
        let verb = ["replay", "--topic", &pipeline.topic];
        pipeline.run_ducktide(&[&verb, partition].concat()).unwrap();
        pipeline.await_committed(20_000).unwrap();
        check_first_records(&pipeline, 20_000);
    }

    worker.stop().unwrap();
}

/// A failed batch is read again: its IDs are not those of rows.
fn ids_of_a_failed_batch_are_not_duplicates(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("repeats_failed", kind).unwrap();
    pipeline.produce(6_000, &DUPLICATES).unwrap();
    let arguments = [DEDUPE.as_slice(), &["--flush-rows", "1500"]].concat();
    let mut worker =
        pipeline.start_with_failpoints("worker", "file_synced=fail@2", &arguments).unwrap();

    worker.await_logged("cannot be made durable").unwrap();
    pipeline.await_committed(6_000).unwrap();
    worker.stop().unwrap();

    check_first_records(&pipeline, 6_000);
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_column_without_ids_is_rejected_at_the_start() {
    let pipeline = Pipeline::on_shared_services("repeats_by", CatalogKind::Sqlite).unwrap();
    pipeline.produce(10, &[]).unwrap();

    for (column, what) in [
        ("event_ids", "is not a column of the table"),
        ("event_timestamp", "is a column of another type"),
        ("_kafka_offset", "is a column that Ducktide fills"),
    ] {
        let mut worker = pipeline.start_consumer("worker", &["--dedupe-by", column]).unwrap();
        let ended = worker.process().wait(WAIT_TIMEOUT).unwrap();

        assert_eq!(ended.status.code(), Some(4), "{ended:?}");
        worker.await_logged(what).unwrap();
    }
}
