//! Retrying and discarding dead letters: each is resolved once, also with concurrent retries and
//! lost commits.

use ducktide_testbed::{
    catalog::CatalogKind,
    faults::{CommitFault, CommitProxy},
    on_both_catalogs,
    pipeline::{Pipeline, WAIT_TIMEOUT},
    raw_records::{publish, register, register_fields},
    services::{Registry, log_folder, shared_kafka, shared_postgres},
};
use serde_json::json;
use uuid::Uuid;

use super::{DEAD_LETTERS, classes, number, records, rows, with_registered_schema};

on_both_catalogs!(
    dead_letters_are_retried_after_their_schema_is_registered,
    dead_letters_are_retried_after_their_column_is_changed,
    dead_letters_that_still_cannot_be_decoded_stay_open,
    discarded_dead_letters_count_as_given_up,
    concurrent_retries_write_each_row_once,
);

/// Pipeline with ten rows, and dead letters whose schema is not registered yet.
struct UnknownSchemaFixture {
    pipeline: Pipeline,
    registry: Registry,
    id: u32,
}

const UNKNOWN_RECORDS: i64 = 20;

impl UnknownSchemaFixture {
    /// Starts a separate registry, so that the next schema ID is known.
    fn new(kind: CatalogKind) -> Self {
        let name = format!("unregistered_{}", Uuid::new_v4().simple());
        let registry = Registry::start(&log_folder().unwrap().join(&name)).unwrap();
        let postgres = match kind {
            CatalogKind::Sqlite => None,
            CatalogKind::Postgres => Some(shared_postgres().create_database(&name).unwrap()),
        };
        let servers = shared_kafka().bootstrap_servers();
        let pipeline = Pipeline::new(&name, &servers, &registry.url(), postgres).unwrap();
        shared_kafka().create_topic(&name, 2, &[]).unwrap();
        let known = register(&registry.url(), &name, "known").unwrap();
        let id = known + 1;
        publish(&servers, &name, 0, records(10, known)).unwrap();
        publish(&servers, &name, 1, records(UNKNOWN_RECORDS, id)).unwrap();
        pipeline.drain(&[]).unwrap();
        assert_eq!(classes(&pipeline), format!("unknown_schema {UNKNOWN_RECORDS}"));
        assert_eq!(rows(&pipeline), 10);
        Self { pipeline, registry, id }
    }

    fn register(&self) {
        let id = register(&self.registry.url(), &self.pipeline.topic, "late").unwrap();
        assert_eq!(id, self.id);
    }

    fn check_moved(&self) {
        assert_eq!(rows(&self.pipeline), 10 + UNKNOWN_RECORDS);
        let distinct = "SELECT count(DISTINCT (_kafka_partition, _kafka_offset)) FROM events";
        assert_eq!(number(&self.pipeline, distinct), 10 + UNKNOWN_RECORDS);
        assert_eq!(resolutions(&self.pipeline, "retried"), UNKNOWN_RECORDS);
        self.pipeline.verify().unwrap();
    }
}

fn resolutions(pipeline: &Pipeline, word: &str) -> i64 {
    number(pipeline, &format!("SELECT count(*) FROM {DEAD_LETTERS} WHERE resolution = '{word}'"))
}

const RETRY: &[&str] = &["dead-letters", "retry", "--all"];

fn dead_letters_are_retried_after_their_schema_is_registered(kind: CatalogKind) {
    let case = UnknownSchemaFixture::new(kind);
    let status = case.pipeline.run_ducktide(&["status"]).unwrap();
    assert!(status.contains("20 open dead letters"), "{status}");
    case.register();

    let by_class = ["dead-letters", "retry", "--class", "unknown_schema"];
    let first = case.pipeline.run_ducktide(&by_class).unwrap();
    let again = case.pipeline.run_ducktide(RETRY).unwrap();

    assert_eq!(first, "20 dead letters moved to main.events\n");
    assert_eq!(again, "0 dead letters moved to main.events\n");
    case.check_moved();
    let status = case.pipeline.run_ducktide(&["status"]).unwrap();
    assert!(!status.contains("open dead letter"), "{status}");
}

/// The records have an additional field, and the table a column of another type for it.
fn dead_letters_are_retried_after_their_column_is_changed(kind: CatalogKind) {
    let (pipeline, id) = with_registered_schema("late_column", kind);
    let Pipeline { bootstrap_servers: servers, topic, schema_registry_url: registry, .. } =
        &pipeline;
    publish(servers, topic, 0, records(5, id)).unwrap();
    pipeline.drain(&["--partition-by", "at"]).unwrap();
    let alter = |what: &str| {
        let sql = format!("ALTER TABLE events {what}");
        pipeline.run_ducktide(&["sql", "--write", &sql]).unwrap();
    };
    alter("ADD COLUMN note BIGINT");
    let at = json!({"type": "long", "logicalType": "timestamp-micros"});
    let fields = [
        json!({"name": "number", "type": "long"}),
        json!({"name": "at", "type": at}),
        json!({"name": "note", "type": "string"}),
    ];
    let newer = register_fields(registry, topic, "note", &fields).unwrap();
    let with_note = |mut value: Vec<u8>| {
        value.extend([4, b'h', b'i']);
        value
    };
    publish(servers, topic, 1, records(7, newer).into_iter().map(with_note)).unwrap();
    pipeline.drain(&["--partition-by", "at", "--on-incompatible-schema", "dead-letter"]).unwrap();
    assert_eq!(classes(&pipeline), "schema_does_not_fit 7");
    alter("DROP COLUMN note");
    alter("ADD COLUMN note VARCHAR");

    let retry = [RETRY, &["--partition-by", "at"]].concat();
    let moved = pipeline.run_ducktide(&retry).unwrap();

    assert_eq!(moved, "7 dead letters moved to main.events\n");
    let notes = "SELECT count(*) FROM events WHERE note = 'hi' AND event_date IS NOT NULL";
    assert_eq!((number(&pipeline, notes), rows(&pipeline)), (7, 12));
    pipeline.verify().unwrap();
}

fn dead_letters_that_still_cannot_be_decoded_stay_open(kind: CatalogKind) {
    let (pipeline, id) = with_registered_schema("bad_still", kind);
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    let mut values = records(3, id);
    values[1].truncate(6);
    publish(servers, topic, 0, values).unwrap();
    pipeline.drain(&[]).unwrap();

    let mut retry =
        pipeline.ducktide(RETRY).unwrap().start(&pipeline.file("tool"), "retry").unwrap();

    assert_eq!(retry.wait(WAIT_TIMEOUT).unwrap().status.code(), Some(1));
    let printed = retry.output().unwrap();
    assert!(printed.contains("truncated") && printed.contains("1 still open"), "{printed}");
    assert_eq!((rows(&pipeline), resolutions(&pipeline, "retried")), (2, 0));
    let show = ["dead-letters", "show", "--topic", topic, "--partition", "0", "--offset", "1"];
    let shown = pipeline.run_ducktide(&show).unwrap();
    assert!(shown.contains("truncated") && shown.contains("remedy: "), "{shown}");
    pipeline.verify().unwrap();
}

fn discarded_dead_letters_count_as_given_up(kind: CatalogKind) {
    let (pipeline, id) = with_registered_schema("discarded", kind);
    let Pipeline { bootstrap_servers: servers, topic, .. } = &pipeline;
    publish(servers, topic, 0, records(3, id)).unwrap();
    publish(servers, topic, 1, (0..5).map(|n| format!("garbage {n}").into_bytes())).unwrap();
    pipeline.drain(&[]).unwrap();

    let one = ["dead-letters", "discard", "--partition", "1", "--offset", "2"];
    assert_eq!(pipeline.run_ducktide(&one).unwrap(), "1 dead letter of main.events discarded\n");
    let all = ["dead-letters", "discard", "--class", "no_schema_id"];
    assert!(pipeline.run_ducktide(&all).is_err(), "rejected without --yes");
    assert_eq!(resolutions(&pipeline, "discarded"), 1);
    let discarded = pipeline.run_ducktide(&[&all[..], &["--yes"]].concat()).unwrap();

    assert_eq!(discarded, "4 dead letters of main.events discarded\n");
    let mut catalog = pipeline.catalog().unwrap();
    let sums = "SELECT sum(given_up) * 10 + sum(dead) FROM ducktide_ledger";
    assert_eq!(catalog.number(sums).unwrap(), 50, "five given up, none dead");
    let list = pipeline.run_ducktide(&["dead-letters", "list", "--json"]).unwrap();
    assert!(list.contains(r#""open": 0"#) && list.contains(r#""letters": []"#), "{list}");
    let all = pipeline.run_ducktide(&["dead-letters", "list", "--all"]).unwrap();
    assert!(all.contains("discarded") && all.contains("5 dead letters listed"), "{all}");
    pipeline.verify().unwrap();
}

fn concurrent_retries_write_each_row_once(kind: CatalogKind) {
    let case = UnknownSchemaFixture::new(kind);
    case.register();
    let logs = case.pipeline.file("tool");
    let start = |name: &str| case.pipeline.ducktide(RETRY).unwrap().start(&logs, name).unwrap();

    let mut both = [start("first"), start("second")];
    for retry in &mut both {
        retry.succeed(WAIT_TIMEOUT).unwrap();
    }

    let moved = both.map(|retry| retry.output().unwrap());
    assert!(moved.iter().any(|text| text.starts_with("20 dead letters")), "{moved:?}");
    assert!(moved.iter().any(|text| text.starts_with("0 dead letters")), "{moved:?}");
    case.check_moved();
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn a_retry_with_a_lost_response_writes_each_row_once() {
    retry_through_proxy(CommitFault::ResponseLost);
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn a_retry_with_a_lost_commit_is_repeated() {
    retry_through_proxy(CommitFault::CommitLost);
}

fn retry_through_proxy(fault: CommitFault) {
    let case = UnknownSchemaFixture::new(CatalogKind::Postgres);
    case.register();
    let proxy = CommitProxy::start(&case.pipeline.catalog, fault).unwrap();
    let catalog = proxy.url(&case.pipeline.catalog).unwrap();
    proxy.arm(1);

    let tool = case.pipeline.ducktide(RETRY).unwrap().env("DUCKLAKE_CATALOG", catalog);
    let moved = tool.run(&case.pipeline.file("tool"), "retry", WAIT_TIMEOUT).unwrap();

    assert_eq!((proxy.injected(), moved.as_str()), (1, "20 dead letters moved to main.events\n"));
    case.check_moved();
}
