//! Outages and faults: a worker waits for an unavailable service and reports it; a fault stops the
//! worker, and the error names its position. No record is lost or duplicated.
//!
//! A test that stops a service starts one for itself, and shares the others.

use std::{
    fs::Permissions,
    ops::Range,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use ducktide_testbed::{
    catalog::CatalogKind,
    compactor,
    faults::HeldCatalog,
    kafka_admin::delete_records,
    pipeline::{CONTINUOUS, PARTITIONS, Pipeline, TABLE, WAIT_TIMEOUT, unique},
    program::{Program, RunningProgram},
    raw_records::{NumberRecord, publish, register},
    services::{
        Kafka, Postgres, Registry, Service as _, log_folder, shared_kafka, shared_postgres,
        shared_registry,
    },
    wait,
    worker::Worker,
};
use serde_json::Value;

fn logs(service: &str) -> PathBuf {
    log_folder().unwrap().join(unique(service))
}

/// Arguments for frequent commits, so that an outage interrupts one.
const FAST: &[&str] = &["--flush-interval", "100ms"];

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_worker_waits_for_an_unavailable_registry() {
    let mut registry = Registry::start(&logs("registry")).unwrap();
    let kafka = shared_kafka();
    let (name, servers) = (unique("registry"), kafka.bootstrap_servers());
    let pipeline = Pipeline::new(&name, &servers, &registry.url(), None).unwrap();
    kafka.create_topic(&name, PARTITIONS, &[]).unwrap();
    let first = register(&registry.url(), &name, "first").unwrap();
    let second = register(&registry.url(), &name, "second").unwrap();
    publish(&servers, &name, 0, records(0..1_000, first)).unwrap();

    // Unavailable at the start: the worker does not know the schema of the table.
    registry.kill().unwrap();
    let worker = pipeline.start_consumer("worker", FAST).unwrap();
    worker.await_logged("waiting for the schema of").unwrap();
    worker.await_unready("waiting for the schema of").unwrap();
    registry.restart().unwrap();
    pipeline.await_committed(1_000).unwrap();

    // Unavailable later, when records have a schema that the worker has not read.
    registry.kill().unwrap();
    publish(&servers, &name, 0, records(1_000..2_000, second)).unwrap();
    worker.await_logged("schema registry unavailable, retrying").unwrap();
    worker.await_unready("waiting for the schema registry").unwrap();
    registry.restart().unwrap();
    worker.await_ready(true).unwrap();
    pipeline.await_committed(2_000).unwrap();

    let rows = format!("SELECT count(*) || ' ' || count(DISTINCT number) FROM {TABLE}");
    assert_eq!(pipeline.lake().unwrap().scalar(&rows).unwrap(), "2000 2000");
}

/// The consumer waits, since a proxy can return such a response during an outage; the producer
/// ends.
#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_registry_url_without_its_path_is_reported() {
    let (kafka, registry) = (shared_kafka(), shared_registry());
    let (name, servers) = (unique("path"), kafka.bootstrap_servers());
    let url = format!("http://127.0.0.1:{}", registry.port());
    let pipeline = Pipeline::new(&name, &servers, &url, None).unwrap();
    kafka.create_topic(&name, PARTITIONS, &[]).unwrap();
    register(&registry.url(), &name, "first").unwrap();

    let mut worker = pipeline.start_consumer("worker", &[]).unwrap();
    worker.await_logged("SCHEMA_REGISTRY_URL").unwrap();
    worker.await_unready("/apis/ccompat/v7").unwrap();
    worker.kill().unwrap();

    let refused = pipeline.produce(1, &[]).unwrap_err();
    assert!(format!("{refused:#}").contains("/apis/ccompat/v7"), "{refused:#}");
}

/// Records that wait for their schema are neither rows nor counted in the ledger.
#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_worker_stopped_during_a_registry_outage_gives_up_no_records() {
    let mut registry = Registry::start(&logs("registry")).unwrap();
    let kafka = shared_kafka();
    let (name, servers) = (unique("stopped"), kafka.bootstrap_servers());
    let pipeline = Pipeline::new(&name, &servers, &registry.url(), None).unwrap();
    kafka.create_topic(&name, PARTITIONS, &[]).unwrap();
    let first = register(&registry.url(), &name, "first").unwrap();
    let second = register(&registry.url(), &name, "second").unwrap();
    publish(&servers, &name, 0, records(0..1_000, first)).unwrap();
    let mut worker = pipeline.start_consumer("worker", FAST).unwrap();
    pipeline.await_committed(1_000).unwrap();

    registry.kill().unwrap();
    publish(&servers, &name, 0, records(1_000..2_000, second)).unwrap();
    worker.await_logged("schema registry unavailable, retrying").unwrap();
    worker.stop().unwrap();
    assert_eq!(pipeline.catalog().unwrap().committed_offsets().unwrap(), 1_000);

    registry.restart().unwrap();
    pipeline.drain(&[]).unwrap();
    let rows = format!("SELECT count(*) || ' ' || count(DISTINCT number) FROM {TABLE}");
    assert_eq!(pipeline.lake().unwrap().scalar(&rows).unwrap(), "2000 2000");
}

fn records(numbers: Range<i64>, schema_id: u32) -> impl Iterator<Item = Vec<u8>> {
    numbers.map(move |number| NumberRecord { number, at_micros: number }.encode(schema_id))
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn a_worker_waits_for_an_unavailable_broker() {
    let mut kafka = Kafka::start(&logs("kafka")).unwrap();
    let name = unique("broker");
    let registry = shared_registry().url();
    let postgres = shared_postgres().create_database(&name).unwrap();
    let pipeline =
        Pipeline::new(&name, &kafka.bootstrap_servers(), &registry, Some(postgres)).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    kafka.kill().unwrap();

    // Unavailable at the start.
    let worker = pipeline.start_consumer("worker", FAST).unwrap();
    worker.await_logged("cannot find the topic yet").unwrap();
    worker.await_unready("cannot find the topic yet").unwrap();
    kafka.restart().unwrap();
    pipeline.await_committed(20_000).unwrap();

    // Killed while a producer publishes.
    let mut producer = pipeline.start_producer(&["--rows", "30000", "--rate", "5000"]).unwrap();
    pipeline.await_committed(25_000).unwrap();
    worker.await_ready(true).unwrap();
    kafka.kill().unwrap();
    worker.await_unready("Kafka does not answer").unwrap();
    worker.check_alive().unwrap();
    kafka.restart().unwrap();
    worker.await_ready(true).unwrap();
    producer.succeed(WAIT_TIMEOUT).unwrap();
    pipeline.await_committed(50_000).unwrap();

    pipeline.check_exact(50_000).unwrap();
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn a_crash_of_the_catalog_delays_commits_and_is_reported_by_readiness() {
    let mut postgres = Postgres::start(&logs("postgres")).unwrap();
    let name = unique("catalog");
    let url = postgres.create_database(&name).unwrap();
    let servers = shared_kafka().bootstrap_servers();
    let pipeline = Pipeline::new(&name, &servers, &shared_registry().url(), Some(url)).unwrap();
    let mut producer = pipeline.start_producer(&["--rows", "60000", "--rate", "4000"]).unwrap();
    let worker = pipeline.start_consumer("worker", FAST).unwrap();
    pipeline.await_committed(4_000).unwrap();
    worker.await_ready(true).unwrap();

    postgres.kill().unwrap();
    worker.await_unready("the lake does not answer").unwrap();
    worker.check_alive().unwrap();
    // A worker that joins meanwhile is assigned partitions before it can read their positions.
    let joined = pipeline.start_consumer("joined", FAST).unwrap();
    joined.await_logged("cannot open the lake yet").unwrap();
    postgres.restart().unwrap();

    worker.await_ready(true).unwrap();
    assert!(worker.metric("retries_total").unwrap() > 0.0);
    producer.succeed(WAIT_TIMEOUT).unwrap();
    pipeline.await_committed(60_000).unwrap();
    pipeline.check_exact(60_000).unwrap();
}

/// Until the password file has the new password, the server refuses new connections.
#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn programs_continue_with_a_changed_password_of_the_password_file() {
    const REFUSED: &str = "password authentication failed";
    let postgres = Postgres::start(&logs("postgres")).unwrap();
    let name = unique("password");
    let url = postgres.create_database(&name).unwrap();
    postgres.create_user_with_password("keeper", "first").unwrap();
    let servers = shared_kafka().bootstrap_servers();
    let (registry, catalog) = (shared_registry().url(), url.replace("postgres@", "keeper@"));
    let mut pipeline = Pipeline::new(&name, &servers, &registry, Some(catalog)).unwrap();
    let file = pipeline.file("pgpass");
    let write_password = |password: &str| {
        std::fs::write(&file, format!("*:*:*:keeper:{password}")).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    };
    write_password("first");
    let with_file = |program: Program| program.env("PGPASSFILE", file.as_os_str());
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let worker = pipeline.consumer(&pipeline.catalog).unwrap().args(FAST);
    let mut worker = pipeline.start_worker("worker", with_file(worker)).unwrap();
    let compactor = with_file(pipeline.compactor(compactor::RUN).unwrap());
    // The test itself needs no password.
    pipeline.catalog = url;
    pipeline.await_committed(1_000).unwrap();
    let mut compactor = compactor.start(pipeline.logs(), "compactor").unwrap();
    let await_compactor = |compactor: &RunningProgram, text: &str| {
        wait::until(text, WAIT_TIMEOUT, || Ok(compactor.log()?.contains(text))).unwrap();
    };
    await_compactor(&compactor, "leadership acquired");

    postgres.change_password("keeper", "second").unwrap();
    worker.await_logged(REFUSED).unwrap();
    await_compactor(&compactor, REFUSED);
    worker.await_ready(false).unwrap();
    write_password("second");

    worker.await_ready(true).unwrap();
    await_compactor(&compactor, "lake available again");
    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();
    worker.stop().unwrap();
    compactor.terminate().unwrap();
    compactor.succeed(WAIT_TIMEOUT).unwrap();
    pipeline.check_exact(published).unwrap();
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_worker_waits_for_a_data_path_that_is_not_mounted() {
    let pipeline = Pipeline::on_shared_services("mount", CatalogKind::Sqlite).unwrap();
    let mut producer = pipeline.start_producer(&["--rows", "40000", "--rate", "5000"]).unwrap();
    let worker = pipeline.start_consumer("worker", FAST).unwrap();
    pipeline.await_committed(4_000).unwrap();
    let (mount_point, mount) = (pipeline.data_path(), pipeline.file("unmounted"));

    std::fs::rename(&mount_point, &mount).unwrap();
    std::fs::create_dir(&mount_point).unwrap();
    worker.await_unready("its mount is away").unwrap();
    let joined = pipeline.start_consumer("joined", FAST).unwrap();
    joined.await_unready("cannot open the lake yet").unwrap();
    joined.await_logged("its mount is away").unwrap();
    worker.check_alive().unwrap();
    assert_eq!(
        std::fs::read_dir(&mount_point).unwrap().count(),
        0,
        "no file is written to the mount point"
    );
    std::fs::remove_dir(&mount_point).unwrap();
    std::fs::rename(&mount, &mount_point).unwrap();

    worker.await_ready(true).unwrap();
    producer.succeed(WAIT_TIMEOUT).unwrap();
    pipeline.await_committed(40_000).unwrap();
    pipeline.check_exact(40_000).unwrap();
    pipeline.verify().unwrap();
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn memory_is_bounded_while_the_catalog_accepts_no_commits() {
    let pipeline = Pipeline::on_shared_services("memory", CatalogKind::Postgres).unwrap();
    pipeline.produce(1_000, &[]).unwrap();
    let limits = ["--memory-limit", "64MiB", "--flush-interval", "100ms"];
    let mut worker = pipeline.start_consumer("worker", &limits).unwrap();
    pipeline.await_committed(1_000).unwrap();

    let held = HeldCatalog::hold(&pipeline.catalog).unwrap();
    // About 250 MB of records that cannot be committed.
    pipeline.produce(1_500_000, &[]).unwrap();
    await_reading_paused(&worker);
    let read = worker.metric("records_total").unwrap();
    assert!(read < 1_501_000.0, "reading is paused: {read}");
    let peak = worker.process().usage().peak_memory_bytes;
    held.release();

    pipeline.await_committed(1_501_000).unwrap();
    pipeline.check_exact(1_501_000).unwrap();
    // DuckDB and the program's code use memory in addition to the limit.
    assert!(peak < 350 << 20, "{} MiB", peak >> 20);
}

/// Waits until no record has been read for a second.
fn await_reading_paused(worker: &Worker) {
    let (mut read, mut since) = (0.0, Instant::now());
    let is_paused = || {
        let now = worker.metric("records_total")?;
        if now > read {
            (read, since) = (now, Instant::now());
        }
        Ok(since.elapsed() > Duration::from_secs(1))
    };
    wait::until("reading is paused", WAIT_TIMEOUT, is_paused).unwrap();
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn an_undecodable_record_stops_the_worker_and_is_reported() {
    let pipeline = Pipeline::on_shared_services("poison", CatalogKind::Sqlite).unwrap();
    pipeline.produce(20_000, &["--poison", "0.0005", "--seed", "3"]).unwrap();

    let stop = [FAST, &["--on-bad-record", "stop"]].concat();
    let mut worker = pipeline.start_consumer("worker", &stop).unwrap();
    assert_eq!(worker.exit_code().unwrap(), 3);

    let error = worker.last_error().unwrap();
    let value = |name: &str| {
        let from = error.split_once(&format!("{name}=`")).unwrap().1;
        from.split_once('`').unwrap().0.to_owned()
    };
    assert_eq!(value("topic"), pipeline.topic);
    let (partition, offset) = (value("partition"), value("offset").parse::<i64>().unwrap());
    let first_bad = format!(
        "SELECT min(\"offset\") FROM read_csv('{}', header = true) \
         WHERE event_id IS NULL AND \"partition\" = {partition}",
        pipeline.ledger().display()
    );
    let lake = pipeline.lake().unwrap();
    assert_eq!(lake.scalar(&first_bad).unwrap(), offset, "{error}");
    let before_it = format!(
        "SELECT count(*) || ' rows up to ' || max(_kafka_offset) FROM {TABLE} \
         WHERE _kafka_partition = {partition}"
    );
    let expected = if offset == 0 {
        Value::Null
    } else {
        format!("{offset} rows up to {}", offset - 1).into()
    };
    assert_eq!(lake.scalar(&before_it).unwrap(), expected);
    let comparison = pipeline.compare().unwrap();
    assert_eq!((comparison.duplicates.count, comparison.unexpected.count), (0, 0), "{comparison}");

    // A restarted worker stops at the same record.
    let mut again = pipeline.start_consumer("again", &stop).unwrap();
    assert_eq!(again.exit_code().unwrap(), 3);
}

/// Deletes and recreates the topic, with more records than before: the offsets in the lake exist,
/// but are those of other records.
fn recreate_topic(pipeline: &Pipeline) {
    let kafka = shared_kafka();
    kafka.delete_topic(&pipeline.topic).unwrap();
    // Immediately, so that no client notices that the topic does not exist.
    let created = || kafka.create_topic(&pipeline.topic, PARTITIONS, &[]).map(|()| true);
    wait::until("the topic is recreated", WAIT_TIMEOUT, created).unwrap();
    pipeline.produce(6_000, &[]).unwrap();
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn a_recreated_topic_is_not_read_by_a_new_worker() {
    let pipeline = Pipeline::on_shared_services("again", CatalogKind::Postgres).unwrap();
    pipeline.produce(3_000, &[]).unwrap();
    pipeline.drain(&[]).unwrap();
    recreate_topic(&pipeline);

    let mut worker = pipeline.start_consumer("worker", &["--until-end"]).unwrap();

    assert_eq!(worker.exit_code().unwrap(), 5);
    let error = worker.last_error().unwrap();
    assert!(error.contains("deleted and recreated") && error.contains(&pipeline.topic), "{error}");
    assert_eq!(pipeline.catalog().unwrap().committed_offsets().unwrap(), 3_000);
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_recreated_topic_stops_a_running_worker() {
    let pipeline = Pipeline::on_shared_services("again", CatalogKind::Sqlite).unwrap();
    pipeline.produce(3_000, &[]).unwrap();
    let mut worker = pipeline.start_consumer("worker", &[]).unwrap();
    pipeline.await_committed(3_000).unwrap();
    recreate_topic(&pipeline);

    assert_eq!(worker.exit_code().unwrap(), 5);
    assert!(worker.last_error().unwrap().contains(&pipeline.topic));
    assert_eq!(pipeline.catalog().unwrap().committed_offsets().unwrap(), 3_000);
}

/// A paused worker never sees the topic missing: when it resumes, the topic has the same number of
/// partitions and the requested offsets, and there is no rebalance.
#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_topic_recreated_while_its_worker_is_paused_stops_the_worker() {
    let pipeline = Pipeline::on_shared_services("paused", CatalogKind::Sqlite).unwrap();
    pipeline.produce(3_000, &[]).unwrap();
    let mut worker = pipeline.start_consumer("worker", &[]).unwrap();
    pipeline.await_committed(3_000).unwrap();
    worker.process().pause().unwrap();
    recreate_topic(&pipeline);
    worker.process().resume().unwrap();

    assert_eq!(worker.exit_code().unwrap(), 5);
    assert!(worker.last_error().unwrap().contains(&pipeline.topic));
    assert_eq!(pipeline.catalog().unwrap().committed_offsets().unwrap(), 3_000);
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn another_cluster_behind_the_same_address_stops_the_worker() {
    let pipeline = Pipeline::on_shared_services("cluster", CatalogKind::Sqlite).unwrap();
    pipeline.produce(3_000, &[]).unwrap();
    pipeline.drain(&[]).unwrap();
    // As if the table had been filled from another cluster.
    let set_cluster = "UPDATE ducktide_source SET cluster_id = 'another cluster', topic_id = NULL";
    pipeline.catalog().unwrap().execute(set_cluster).unwrap();

    let mut worker = pipeline.start_consumer("worker", &["--until-end"]).unwrap();

    assert_eq!(worker.exit_code().unwrap(), 5);
    assert!(worker.last_error().unwrap().contains("another Kafka cluster"));
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_partition_without_its_offsets_stops_and_the_others_continue() {
    let pipeline = Pipeline::on_shared_services("retention", CatalogKind::Sqlite).unwrap();
    pipeline.produce(3_000, &[]).unwrap();
    pipeline.drain(&[]).unwrap();
    pipeline.produce(30_000, &[]).unwrap();
    let mut catalog = pipeline.catalog().unwrap();
    let next_offset = catalog.next_offset(1).unwrap();
    delete_records(&pipeline.bootstrap_servers, &pipeline.topic, 1, next_offset + 100).unwrap();

    let mut worker = pipeline.start_consumer("worker", FAST).unwrap();
    let logged = worker.await_logged("Kafka does not have the lake's offset").unwrap();

    assert_eq!(logged["level"], "ERROR");
    assert_eq!(logged["topic"], pipeline.topic);
    assert_eq!((&logged["partition"], &logged["offset"]), (&1.into(), &next_offset.into()));
    assert_eq!(logged["low_watermark"], next_offset + 100);
    let ends = shared_kafka().end_offsets(&pipeline.topic).unwrap();
    assert_eq!(logged["high_watermark"], ends[1]);
    let others = (0..PARTITIONS).filter(|partition| *partition != 1);
    for partition in others {
        let end = ends[usize::try_from(partition).unwrap()];
        wait::until("the others are read", WAIT_TIMEOUT, || {
            Ok(catalog.next_offset(partition)? == end)
        })
        .unwrap();
    }
    assert_eq!(catalog.next_offset(1).unwrap(), next_offset, "the position does not change");
    worker.await_ready(false).unwrap();
    worker.stop().unwrap();

    // A run with --until-end reports it with its exit code.
    let mut worker = pipeline.start_consumer("to_the_end", &["--until-end"]).unwrap();
    assert_eq!(worker.exit_code().unwrap(), 5);
}
