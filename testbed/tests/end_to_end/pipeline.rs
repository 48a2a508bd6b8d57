//! From the producer through Kafka to the lake: when workers join, leave or are killed, the lake
//! contains each acknowledged record once.
//!
//! The oracle reads the lake with DuckDB's command line, which shares no code with Ducktide.

use std::{fs, os::unix::process::ExitStatusExt as _};

use ducktide_testbed::{
    catalog::CatalogKind,
    duckdb_cli::quoted_path,
    kafka_admin::{group_offsets, set_group_offsets},
    on_both_catalogs, on_one_catalog,
    pipeline::{CONTINUOUS, PARTITIONS, Pipeline, Protocol, TABLE, WAIT_TIMEOUT},
    wait,
    worker::Worker,
};
use serde_json::Value;

on_both_catalogs!(
    the_lake_equals_the_ledger,
    every_field_of_every_event_is_stored,
    a_worker_killed_after_a_lake_commit_writes_no_duplicates,
    a_rebalance_during_production_is_exact,
    until_end_leaves_later_events_to_the_next_run,
    max_rows_is_exact,
    late_events_are_in_the_folder_of_their_date,
);

on_one_catalog!(
    the_consumer_protocol_survives_a_kill_after_a_lake_commit,
    a_rebalance_with_the_consumer_protocol_is_exact,
    one_of_two_workers_with_the_same_instance_id_ends,
    wrong_group_offsets_are_ignored,
    a_stopped_worker_commits_its_batch,
);

/// Arguments for frequent commits, which give many moments to interrupt.
const MANY_COMMITS: &[&str] = &["--flush-interval", "100ms"];

fn the_lake_equals_the_ledger(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("equal", kind).unwrap();
    pipeline.produce(100_000, &["--duplicates", "0.01"]).unwrap();

    pipeline.drain(&[]).unwrap();

    pipeline.check_exact(100_000).unwrap();
}

fn every_field_of_every_event_is_stored(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("fields", kind).unwrap();
    let same = ["--rows", "20000", "--seed", "7", "--start-time", "2026-01-01T00:00:00Z"];
    pipeline.produce(20_000, &same[2..]).unwrap();
    let printed = pipeline.file("printed.jsonl");
    let dry_run = pipeline.producer(&same).unwrap().args(["--dry-run"]);
    fs::write(&printed, dry_run.run(&pipeline.file("dry"), "dry", WAIT_TIMEOUT).unwrap()).unwrap();

    pipeline.drain(&["--partition-by", "event_timestamp"]).unwrap();

    let events = "event_id::VARCHAR, event_type::VARCHAR, event_timestamp::TIMESTAMPTZ, \
                  created_at::TIMESTAMPTZ, details::JSON::VARCHAR";
    let printed = format!(
        "SELECT {events} FROM read_json({}, format = 'newline_delimited', columns = {{\
         event_id: 'VARCHAR', event_type: 'VARCHAR', event_timestamp: 'TIMESTAMPTZ', \
         created_at: 'TIMESTAMPTZ', details: 'JSON'}})",
        quoted_path(&printed)
    );
    let stored = format!("SELECT {events} FROM {TABLE}");
    for (left, right) in [(&printed, &stored), (&stored, &printed)] {
        let sql = format!("FROM ({left} EXCEPT ALL {right}) LIMIT 3");
        assert_eq!(pipeline.lake().unwrap().query(&sql).unwrap(), Vec::<Value>::new());
    }
}

fn a_worker_killed_after_a_lake_commit_writes_no_duplicates(kind: CatalogKind) {
    check_kills_after_commits(kind, Protocol::Classic);
}

fn the_consumer_protocol_survives_a_kill_after_a_lake_commit(kind: CatalogKind) {
    check_kills_after_commits(kind, Protocol::Consumer);
}

/// Kills one of two workers, three times, between a commit to the lake and its offset commit to
/// Kafka. A worker that reads its position from Kafka writes that batch again.
fn check_kills_after_commits(kind: CatalogKind, protocol: Protocol) {
    let mut pipeline = Pipeline::on_shared_services("kill", kind).unwrap();
    pipeline.protocol = protocol;
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let _other = start(&pipeline, "other", "other", "");
    for victim in ["victim-0", "victim-1", "victim-2"] {
        let mut victim = start(&pipeline, victim, "victim", "offsets_mirroring=crash@2");
        let ended = victim.process().wait(WAIT_TIMEOUT).unwrap();
        assert_eq!(ended.status.signal(), Some(9), "it was killed at the failpoint");
    }
    let _again = start(&pipeline, "victim-3", "victim", "");

    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();

    pipeline.check_exact(published).unwrap();
}

/// Starts a static member, which gets its partitions immediately after a restart. With KIP-848
/// Kafka rejects the instance ID until the session of the killed member is over, so workers have
/// none.
fn start(pipeline: &Pipeline, log: &str, instance: &str, failpoints: &str) -> Worker {
    let instance = ["--group-instance-id", instance];
    let is_static = pipeline.protocol == Protocol::Classic;
    let arguments = [if is_static { &instance[..] } else { &[] }, MANY_COMMITS].concat();
    pipeline.start_with_failpoints(log, failpoints, &arguments).unwrap()
}

fn kafka_is_behind_the_lake(pipeline: &Pipeline, partition: i32) -> bool {
    let Pipeline { bootstrap_servers, group, topic, .. } = pipeline;
    let known = group_offsets(bootstrap_servers, group, topic, PARTITIONS).unwrap();
    let known = known[usize::try_from(partition).unwrap()].unwrap_or(0);
    known < pipeline.catalog().unwrap().next_offset(partition).unwrap()
}

fn a_rebalance_during_production_is_exact(kind: CatalogKind) {
    check_rebalances(kind, Protocol::Classic);
}

fn a_rebalance_with_the_consumer_protocol_is_exact(kind: CatalogKind) {
    check_rebalances(kind, Protocol::Consumer);
}

fn check_rebalances(kind: CatalogKind, protocol: Protocol) {
    let mut pipeline = Pipeline::on_shared_services("rebalance", kind).unwrap();
    pipeline.protocol = protocol;
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let first = pipeline.start_consumer("first", MANY_COMMITS).unwrap();
    let _second = pipeline.start_consumer("second", MANY_COMMITS).unwrap();
    first.await_metric("rows_total", 1.0).unwrap();
    let mut third = pipeline.start_consumer("third", MANY_COMMITS).unwrap();
    third.await_metric("rows_total", 1.0).unwrap();
    third.stop().unwrap();

    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();

    pipeline.check_exact(published).unwrap();
}

/// The protocol decides which one: the classic protocol fences the first worker, the consumer
/// protocol rejects the second.
fn one_of_two_workers_with_the_same_instance_id_ends(kind: CatalogKind) {
    for (protocol, ends) in [(Protocol::Classic, 0), (Protocol::Consumer, 1)] {
        let mut pipeline = Pipeline::on_shared_services("one_name", kind).unwrap();
        pipeline.protocol = protocol;
        pipeline.produce(1_000, &[]).unwrap();
        let start = |log| pipeline.start_consumer(log, &["--group-instance-id", "one"]).unwrap();
        let first = start("first");
        first.await_metric("rows_total", 1.0).unwrap();
        let mut workers = [first, start("second")];

        assert_eq!(workers[ends].exit_code().unwrap(), 7, "{protocol:?}");

        workers[1 - ends].await_metric("assigned_partitions", 3.0).unwrap();
        pipeline.await_committed(1_000).unwrap();
        pipeline.check_exact(1_000).unwrap();
    }
}

fn wrong_group_offsets_are_ignored(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("offsets_wrong", kind).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    pipeline.drain(&[]).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    // With these offsets 10,000 records would be skipped.
    let Pipeline { bootstrap_servers, group, topic, .. } = &pipeline;
    let set =
        || set_group_offsets(bootstrap_servers, group, topic, PARTITIONS, 9_999).map(|()| true);
    wait::until("the group is empty and its offsets are set", WAIT_TIMEOUT, set).unwrap();

    pipeline.drain(&[]).unwrap();

    pipeline.check_exact(40_000).unwrap();
}

fn until_end_leaves_later_events_to_the_next_run(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("to_the_end", kind).unwrap();
    for events in [20_000, 30_000] {
        pipeline.produce(10_000, &[]).unwrap();
        if events == 20_000 {
            pipeline.produce(10_000, &[]).unwrap();
        }
        // The ends are reached long before this interval.
        pipeline.drain(&["--flush-interval", "1h"]).unwrap();
        pipeline.check_exact(events).unwrap();
        for partition in 0..PARTITIONS {
            let behind = kafka_is_behind_the_lake(&pipeline, partition);
            assert!(!behind, "the group offset is the offset in the lake: partition {partition}");
        }
    }
}

fn max_rows_is_exact(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("max_rows", kind).unwrap();
    pipeline.produce(20_000, &[]).unwrap();

    let mut worker = pipeline.start_consumer("first", &["--max-rows", "12345"]).unwrap();
    worker.succeed().unwrap();
    let rows = format!("SELECT count(*) FROM {TABLE}");
    assert_eq!(pipeline.lake().unwrap().scalar(&rows).unwrap(), 12_345);
    let comparison = pipeline.compare().unwrap();
    assert_eq!((comparison.duplicates.count, comparison.unexpected.count), (0, 0), "{comparison}");

    let mut worker = pipeline.start_consumer("second", &["--max-rows", "7655"]).unwrap();
    worker.succeed().unwrap();
    pipeline.check_exact(20_000).unwrap();
}

fn a_stopped_worker_commits_its_batch(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("stopped", kind).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    let mut worker = pipeline.start_consumer("worker", &["--flush-interval", "600"]).unwrap();
    worker.await_metric("records_total", 20_000.0).unwrap();
    let mut catalog = pipeline.catalog().unwrap();
    assert_eq!(catalog.committed_offsets().unwrap(), 0, "the flush interval is not over");

    worker.stop().unwrap();

    assert_eq!(catalog.committed_offsets().unwrap(), 20_000);
    pipeline.check_exact(20_000).unwrap();
}

fn late_events_are_in_the_folder_of_their_date(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("late", kind).unwrap();
    let data = ["--late", "0.3", "--start-time", "2026-03-01T22:00:00Z", "--event-interval", "1s"];
    pipeline.produce(20_000, &data).unwrap();

    pipeline.drain(&["--partition-by", "event_timestamp"]).unwrap();

    pipeline.check_exact(20_000).unwrap();
    let lake = pipeline.lake().unwrap();
    let dates = format!("SELECT count(DISTINCT event_date) FROM {TABLE}");
    assert!(lake.scalar(&dates).unwrap().as_i64().unwrap() >= 7, "late by up to a week");
    let in_the_right_folder = format!(
        "SELECT count(*) FROM (SELECT event_date, event_timestamp, filename FROM {TABLE}) \
         WHERE event_date = (event_timestamp AT TIME ZONE 'UTC')::DATE \
         AND contains(filename, '/event_date=' || event_date || '/ducktide-')"
    );
    assert_eq!(lake.scalar(&in_the_right_folder).unwrap(), 20_000);
}
