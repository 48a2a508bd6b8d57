//! Topics with unusual records, offsets or partitions.

use ducktide_testbed::{
    catalog::CatalogKind,
    kafka_admin::{add_partitions, delete_records, first_offset},
    on_both_catalogs,
    pipeline::WAIT_TIMEOUT,
    pipeline::{PARTITIONS, Pipeline, TABLE},
    raw_records::{NumberRecord, publish, publish_and_abort, publish_tombstones, register},
    services::shared_kafka,
    wait,
};

on_both_catalogs!(
    aborted_transactions_advance_progress,
    compacted_records_are_gaps,
    a_replay_of_compacted_records_needs_accept_loss,
    tombstones_advance_progress_and_are_counted,
    invalid_timestamps_share_one_partition,
    more_dates_than_open_files_are_committed,
    no_record_content_is_in_the_catalog,
);

/// Returns a pipeline with an empty topic, and the ID of its registered schema.
fn with_registered_schema(test: &str, kind: CatalogKind) -> (Pipeline, u32) {
    let pipeline = Pipeline::on_shared_services(test, kind).unwrap();
    shared_kafka().create_topic(&pipeline.topic, PARTITIONS, &[]).unwrap();
    let id = register(&pipeline.schema_registry_url, &pipeline.topic, test).unwrap();
    (pipeline, id)
}

fn records(count: i64, schema_id: u32, at: impl Fn(i64) -> i64) -> Vec<Vec<u8>> {
    let record = |number| NumberRecord { number, at_micros: at(number) }.encode(schema_id);
    (0..count).map(record).collect()
}

fn rows(pipeline: &Pipeline) -> i64 {
    let count = format!("SELECT count(*) FROM {TABLE}");
    pipeline.lake().unwrap().scalar(&count).unwrap().as_i64().unwrap()
}

/// Control records and aborted records are never delivered: only the end of the partition shows
/// their offsets.
fn aborted_transactions_advance_progress(kind: CatalogKind) {
    let (pipeline, id) = with_registered_schema("aborted", kind);
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    publish(servers, topic, 0, records(100, id, |_| 0)).unwrap();
    publish_and_abort(servers, topic, 0, records(500, id, |_| 0)).unwrap();
    publish_and_abort(servers, topic, 1, records(500, id, |_| 0)).unwrap();

    pipeline.drain(&[]).unwrap();

    let ends = shared_kafka().end_offsets(topic).unwrap();
    let mut catalog = pipeline.catalog().unwrap();
    assert_eq!((ends[0] > 600, ends[1] > 500), (true, true), "markers use offsets: {ends:?}");
    for partition in [0, 1] {
        let end = ends[usize::try_from(partition).unwrap()];
        assert_eq!(catalog.next_offset(partition).unwrap(), end, "partition {partition}");
    }
    assert_eq!(rows(&pipeline), 100);

    // Retention removes the aborted records at the end; no offset is out of range.
    delete_records(servers, topic, 1, ends[1]).unwrap();
    publish(servers, topic, 1, records(10, id, |_| 0)).unwrap();
    pipeline.drain(&[]).unwrap();
    assert_eq!(rows(&pipeline), 110);
}

/// Older records of a key are removed before the first worker starts, and between two workers.
fn compacted_records_are_gaps(kind: CatalogKind) {
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
    ];
    let pipeline = Pipeline::on_shared_services("compacted", kind).unwrap();
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    shared_kafka().create_topic(topic, PARTITIONS, &compacted).unwrap();
    let id = register(&pipeline.schema_registry_url, topic, "compacted").unwrap();
    let mut catalog = pipeline.catalog().unwrap();
    let mut end = 0;
    for round in 1..=2 {
        publish(servers, topic, 0, records(500, id, |_| 0)).unwrap();
        let is_compacted = || {
            // The last segment is never compacted.
            publish(servers, topic, 0, records(1, id, |_| 0))?;
            Ok(first_offset(servers, topic, 0)? > end + 400)
        };
        wait::until("the topic is compacted", WAIT_TIMEOUT, is_compacted).unwrap();

        pipeline.drain(&[]).unwrap();

        end = shared_kafka().end_offsets(topic).unwrap()[0];
        assert_eq!(catalog.next_offset(0).unwrap(), end, "round {round}");
        let gaps = catalog.number("SELECT sum(gaps) FROM ducktide_ledger").unwrap();
        assert!(gaps > 400 * round, "{gaps}");
        assert_eq!(rows(&pipeline) + gaps, end);
    }
    pipeline.run_ducktide(&["verify", "--deep"]).unwrap();
}

/// Kafka's log cleaner has removed records whose rows are in the table: a replay loses these rows.
fn a_replay_of_compacted_records_needs_accept_loss(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("compacted_since", kind).unwrap();
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("min.compaction.lag.ms", "5000"),
    ];
    shared_kafka().create_topic(topic, PARTITIONS, &compacted).unwrap();
    let id = register(&pipeline.schema_registry_url, topic, "compacted_since").unwrap();
    publish(servers, topic, 0, records(500, id, |_| 0)).unwrap();
    pipeline.drain(&[]).unwrap();
    assert_eq!(rows(&pipeline), 500);
    let is_compacted = || {
        publish(servers, topic, 0, records(1, id, |_| 0))?;
        Ok(first_offset(servers, topic, 0)? >= 500)
    };
    wait::until("the topic is compacted", WAIT_TIMEOUT, is_compacted).unwrap();
    let replay = ["replay", "--topic", topic, "--partition", "0", "--from-offset", "100"];

    let shown = pipeline.run_ducktide(&[&replay[..], &["--dry-run"]].concat()).unwrap();
    let refused = pipeline.run_ducktide(&replay).unwrap_err().to_string();

    assert!(shown.contains("400 of 400 records are no longer in Kafka"), "{shown}");
    assert!(refused.contains("--accept-loss 400"), "{refused}");
    assert_eq!(rows(&pipeline), 500);

    pipeline.run_ducktide(&[&replay[..], &["--accept-loss", "400"]].concat()).unwrap();
    pipeline.drain(&[]).unwrap();
    let added = shared_kafka().end_offsets(topic).unwrap()[0] - 500;
    let found = rows(&pipeline);
    assert!((101..=100 + added).contains(&found), "{found}");
    pipeline.run_ducktide(&["verify", "--deep"]).unwrap();
}

fn tombstones_advance_progress_and_are_counted(kind: CatalogKind) {
    let (pipeline, id) = with_registered_schema("tombstones", kind);
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    publish_tombstones(servers, topic, 0, 50).unwrap();
    publish_tombstones(servers, topic, 1, 20).unwrap();
    publish(servers, topic, 1, records(30, id, |_| 0)).unwrap();

    pipeline.drain(&[]).unwrap();

    let mut catalog = pipeline.catalog().unwrap();
    let positions = [0, 1].map(|partition| catalog.next_offset(partition).unwrap());
    assert_eq!(positions, [50, 50]);
    let tombstones = catalog.number("SELECT sum(tombstones) FROM ducktide_ledger").unwrap();
    assert_eq!((tombstones, rows(&pipeline)), (70, 30));
}

const DAY: i64 = 24 * 60 * 60 * 1_000_000;

fn invalid_timestamps_share_one_partition(kind: CatalogKind) {
    let (pipeline, id) = with_registered_schema("broken_dates", kind);
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    // From the year 2100 to the year 9999, and before 1970: an invalid clock.
    let broken = |number: i64| {
        if number % 2 == 0 { (50_000 + 40 * number) * DAY } else { -number * 100 * DAY }
    };
    publish(servers, topic, 0, records(2_000, id, broken)).unwrap();
    publish(servers, topic, 1, records(2_000, id, |_| 20_000 * DAY)).unwrap();

    pipeline.drain(&["--partition-by", "at"]).unwrap();

    let lake = pipeline.lake().unwrap();
    let by_date = format!(
        "SELECT count(*) || ' of ' || (SELECT count(*) FROM {TABLE}) FROM {TABLE} \
         WHERE event_date IS NULL"
    );
    assert_eq!(lake.scalar(&by_date).unwrap(), "2000 of 4000");
    let folders = format!(
        "SELECT count(DISTINCT regexp_extract(filename, 'event_date=[^/]*')) FROM \
         (SELECT filename FROM {TABLE})"
    );
    assert_eq!(lake.scalar(&folders).unwrap(), 2);
}

fn more_dates_than_open_files_are_committed(kind: CatalogKind) {
    let (pipeline, id) = with_registered_schema("many_dates", kind);
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    publish(servers, topic, 0, records(400, id, |number| (10_000 + number) * DAY)).unwrap();

    pipeline.drain(&["--partition-by", "at"]).unwrap();

    let dates = format!("SELECT count(DISTINCT event_date) FROM {TABLE}");
    assert_eq!(pipeline.lake().unwrap().scalar(&dates).unwrap(), 400);
    assert_eq!(rows(&pipeline), 400);
}

/// Minimum and maximum values are in the catalog, and in PostgreSQL's log when a commit fails.
fn no_record_content_is_in_the_catalog(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("words", kind).unwrap();
    pipeline.produce(1_000, &[]).unwrap();

    pipeline.drain(&[]).unwrap();

    let mut catalog = pipeline.catalog().unwrap();
    let with_statistics = |column: &str| {
        let sql = format!(
            "SELECT count(*) FROM ducklake_file_column_stats s JOIN ducklake_column c \
             ON c.column_id = s.column_id AND c.table_id = s.table_id \
             WHERE c.column_name = '{column}' AND (s.min_value IS NOT NULL OR s.max_value IS NOT NULL)"
        );
        catalog.number(&sql).unwrap()
    };
    let found =
        ["details", "_kafka_topic", "_kafka_offset", "event_timestamp"].map(with_statistics);
    assert_eq!(found[..2], [0, 0]);
    assert!(found[2] > 0 && found[3] > 0, "numbers and times have statistics: {found:?}");
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn added_partitions_are_read_from_their_beginning() {
    add_partitions_while_a_worker_runs("earliest", 4_000);
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn added_partitions_are_read_from_their_beginning_with_start_from_latest() {
    add_partitions_while_a_worker_runs("latest", 3_000);
}

/// Records that are in a new partition before a worker discovers it are not skipped.
fn add_partitions_while_a_worker_runs(start_from: &str, expected_rows: i64) {
    let (pipeline, id) = with_registered_schema("late_partitions", CatalogKind::Sqlite);
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    let publish =
        |partition| publish(servers, topic, partition, records(1_000, id, |_| 0)).unwrap();
    publish(0);
    let refresh = "topic.metadata.refresh.interval.ms=500";
    let arguments = ["--start-from", start_from, "--kafka-property", refresh];
    let worker = pipeline.start_consumer("worker", &arguments).unwrap();
    worker.await_ready(true).unwrap();
    worker.await_metric("assigned_partitions", f64::from(PARTITIONS)).unwrap();

    add_partitions(servers, topic, 5).unwrap();
    wait::until("the partitions exist", WAIT_TIMEOUT, || {
        Ok(shared_kafka().end_offsets(topic)?.len() == 5)
    })
    .unwrap();
    for partition in [1, 3, 4] {
        publish(partition);
    }

    let mut catalog = pipeline.catalog().unwrap();
    for partition in [1, 3, 4] {
        let read = || Ok(catalog.next_offset(partition)? == 1_000);
        wait::until(&format!("partition {partition} is read"), WAIT_TIMEOUT, read).unwrap();
    }
    drop(worker);
    pipeline.drain(&[]).unwrap();
    assert_eq!(rows(&pipeline), expected_rows);
}
