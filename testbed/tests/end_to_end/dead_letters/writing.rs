//! Writing of dead letters.

use ducktide_testbed::{
    catalog::CatalogKind,
    on_both_catalogs,
    pipeline::{CONTINUOUS, Pipeline, WAIT_TIMEOUT},
    raw_records::{publish, publish_tombstones},
    services::{Registry, Service as _, log_folder, shared_kafka},
    wait,
};
use uuid::Uuid;

use super::{DEAD_LETTERS, classes, number, records, rows, with_registered_schema};

on_both_catalogs!(
    poison_records_become_dead_letters_and_all_others_rows,
    dead_letters_are_exact_across_a_kill,
    each_kind_of_undecodable_record_has_its_class,
    no_content_of_a_dead_letter_is_in_the_catalog,
    a_topic_of_undecodable_records_stops_its_worker,
);

fn poison_records_become_dead_letters_and_all_others_rows(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("dead_letters", kind).unwrap();
    pipeline.produce(50_000, &["--poison", "0.001", "--seed", "5"]).unwrap();

    pipeline.drain(&[]).unwrap();

    check_dead_letters(&pipeline);
}

/// Checks that the rows equal the acknowledged events, the dead letters the acknowledged poison
/// records, and that the lake's ledger counts both.
fn check_dead_letters(pipeline: &Pipeline) {
    let comparison = pipeline.compare().unwrap();
    assert!(comparison.is_exact() && comparison.poison > 0, "{comparison}");
    let poison = i64::try_from(comparison.poison).unwrap();
    let distinct = format!("SELECT count(DISTINCT (partition, \"offset\")) FROM {DEAD_LETTERS}");
    let both =
        [&distinct, &format!("SELECT count(*) FROM {DEAD_LETTERS}")].map(|q| number(pipeline, q));
    assert_eq!(both, [poison, poison]);
    pipeline.verify().unwrap();
}

fn dead_letters_are_exact_across_a_kill(kind: CatalogKind) {
    const FAST: &[&str] = &["--flush-interval", "100ms"];
    let pipeline = Pipeline::on_shared_services("dead_letters_kill", kind).unwrap();
    let poison = [CONTINUOUS, &["--poison", "0.01"]].concat();
    let mut producer = pipeline.start_producer(&poison).unwrap();
    for run in 0..3 {
        let mut victim = pipeline.start_consumer(&format!("victim_{run}"), FAST).unwrap();
        let mut catalog = pipeline.catalog().unwrap();
        let before = catalog.committed_offsets().unwrap_or(0);
        let moved = || Ok(catalog.committed_offsets().unwrap_or(0) > before);
        wait::until("the victim has committed", WAIT_TIMEOUT, moved).unwrap();
        victim.kill().unwrap();
    }

    let published = pipeline.stop_producer(&mut producer).unwrap();
    let _worker = pipeline.start_consumer("worker", FAST).unwrap();
    pipeline.await_committed(published).unwrap();

    check_dead_letters(&pipeline);
}

fn each_kind_of_undecodable_record_has_its_class(kind: CatalogKind) {
    let (pipeline, id) = with_registered_schema("dead_letter_classes", kind);
    let mut values = records(5, id);
    values[0].truncate(6);
    values[1].push(0);
    values[2][0] = 7;
    values[3][1] = 0x7f;
    values.extend([vec![0, 1], [&values[4][..5], &[0xff; 11]].concat()]);
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    publish(servers, topic, 0, values).unwrap();
    publish_tombstones(servers, topic, 0, 2).unwrap();

    pipeline.drain(&[]).unwrap();

    assert_eq!(
        classes(&pipeline),
        "malformed 1, no_schema_id 2, trailing_bytes 1, truncated 1, unknown_schema 1"
    );
    assert_eq!(rows(&pipeline), 1);
    let whole = format!(
        "SELECT count(*) FROM {DEAD_LETTERS} WHERE decode(key) = 'k' AND value IS NOT NULL \
         AND headers IS NOT NULL AND failed_at IS NOT NULL AND timestamp IS NOT NULL"
    );
    assert_eq!(number(&pipeline, &whole), 6);
    pipeline.verify().unwrap();
}

fn no_content_of_a_dead_letter_is_in_the_catalog(kind: CatalogKind) {
    let (pipeline, _) = with_registered_schema("dead_letter_content", kind);
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    publish(servers, topic, 0, [b"unique conflict".to_vec()]).unwrap();

    pipeline.drain(&[]).unwrap();

    let mut catalog = pipeline.catalog().unwrap();
    let sql = "SELECT count(*) FROM ducklake_file_column_stats s JOIN ducklake_column c \
               ON c.column_id = s.column_id AND c.table_id = s.table_id \
               JOIN ducklake_table t ON t.table_id = c.table_id \
               WHERE t.table_name = 'events_dead_letters' \
               AND (s.min_value IS NOT NULL OR s.max_value IS NOT NULL)";
    let of = |columns: &str| format!("{sql} AND c.column_name IN ({columns})");
    let kept = catalog.number(&of("'partition', 'offset', 'timestamp', 'failed_at'")).unwrap();
    assert_eq!((kept, catalog.number(sql).unwrap()), (4, 4));
}

fn a_topic_of_undecodable_records_stops_its_worker(kind: CatalogKind) {
    let (pipeline, id) = with_registered_schema("garbage", kind);
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    let garbage = || (0..3_000).map(|number| format!("garbage {number}").into_bytes());
    publish(servers, topic, 0, garbage()).unwrap();

    // Twice: an orchestrator restarts the worker.
    for run in 0..2 {
        let mut worker = pipeline.start_consumer(&format!("worker_{run}"), &[]).unwrap();
        assert_eq!(worker.exit_code().unwrap(), 3);
        let error = worker.last_error().unwrap();
        assert!(error.contains("--max-dead-letter-ratio"), "{error}");
        assert!(error.contains("no_schema_id") && !error.contains("garbage 1"), "{error}");
    }
    assert!(number(&pipeline, &format!("SELECT count(*) FROM {DEAD_LETTERS}")) < 1_000);
    pipeline.verify().unwrap();

    publish(servers, topic, 1, records(10, id)).unwrap();
    pipeline.drain(&["--max-dead-letter-ratio", "1"]).unwrap();
    assert_eq!((rows(&pipeline), classes(&pipeline).as_str()), (10, "no_schema_id 3000"));
    pipeline.verify().unwrap();
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn an_outage_of_the_registry_writes_no_dead_letters() {
    let name = format!("dead_letter_outage_{}", Uuid::new_v4().simple());
    let mut registry = Registry::start(&log_folder().unwrap().join(&name)).unwrap();
    let (kafka, registry_url) = (shared_kafka(), registry.url());
    let servers = kafka.bootstrap_servers();
    let pipeline = Pipeline::new(&name, &servers, &registry_url, None).unwrap();
    kafka.create_topic(&name, 1, &[]).unwrap();
    let ids = ["a", "b"].map(|namespace| {
        ducktide_testbed::raw_records::register(&registry_url, &name, namespace).unwrap()
    });
    publish(&servers, &name, 0, records(10, ids[0])).unwrap();
    let worker = pipeline.start_consumer("worker", &["--flush-interval", "100ms"]).unwrap();
    pipeline.await_committed(10).unwrap();

    registry.kill().unwrap();
    publish(&servers, &name, 0, records(1_000, ids[1])).unwrap();
    worker.await_logged("schema registry unavailable, retrying").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(worker.metric("dead_letters_total").unwrap() < 1.0);
    registry.restart().unwrap();

    pipeline.await_committed(1_010).unwrap();
    assert_eq!((rows(&pipeline), classes(&pipeline).as_str()), (1_010, ""));
    pipeline.verify().unwrap();
}
