//! One worker for several topics: a list, or a pattern that includes topics created later.

use std::fs;
use std::path::PathBuf;

use ducktide_testbed::{
    catalog::CatalogKind,
    on_both_catalogs,
    pipeline::{Pipeline, Protocol},
    raw_records::{EncodedValue, publish, register_fields},
    services::shared_kafka,
    worker::Worker,
};
use serde_json::{Value, json};

on_both_catalogs!(
    each_topic_fills_its_own_table_in_one_commit,
    new_topics_of_a_pattern_are_consumed,
    new_topics_of_a_pattern_are_consumed_with_kip_848,
    topics_that_cannot_be_loaded_do_not_stop_the_others,
    a_pattern_is_drained_to_the_ends_of_its_topics,
    a_table_that_cannot_be_written_does_not_stop_the_others,
    until_end_ends_when_only_a_table_that_cannot_be_written_is_left,
);

/// Topics whose names begin with the name of a pipeline.
struct TopicsFixture {
    pipeline: Pipeline,
    /// Avro type of the number in their records.
    number: Value,
}

impl TopicsFixture {
    fn new(test: &str, kind: CatalogKind) -> Self {
        Self { pipeline: Pipeline::on_shared_services(test, kind).unwrap(), number: json!("long") }
    }

    fn topic(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.pipeline.topic)
    }

    /// Creates a topic of two partitions and publishes `count` numbers to each.
    fn create(&self, suffix: &str, count: i64) {
        let topic = self.topic(suffix);
        shared_kafka().create_topic(&topic, 2, &[]).unwrap();
        self.publish(suffix, count);
    }

    fn publish(&self, suffix: &str, count: i64) {
        let id = self.register(suffix, &[json!({"name": "number", "type": self.number})]);
        for partition in 0..2 {
            let values = (0..count).map(|n| EncodedValue::with_schema(id).long(n).bytes());
            publish(&self.pipeline.bootstrap_servers, &self.topic(suffix), partition, values)
                .unwrap();
        }
    }

    fn register(&self, suffix: &str, fields: &[Value]) -> u32 {
        let registry = &self.pipeline.schema_registry_url;
        register_fields(registry, &self.topic(suffix), "topics", fields).unwrap()
    }

    fn worker(&self, name: &str, topics: &str, arguments: &[&str]) -> Worker {
        let consumer = self.pipeline.consumer_of(topics, &self.pipeline.catalog).unwrap();
        let consumer = consumer
            .args(["--kafka-property", "topic.metadata.refresh.interval.ms=500"])
            .args(arguments)
            .env("DUCKTIDE_FLUSH_INTERVAL", "200ms");
        self.pipeline.start_worker(name, consumer).unwrap()
    }

    fn pattern(&self) -> String {
        format!("^{}-.*", self.pipeline.topic)
    }

    /// Returns the number of rows of a topic's table, and of their distinct partitions and offsets.
    fn rows(&self, suffix: &str) -> String {
        let table = self.topic(suffix);
        let sql = format!(
            "SELECT count(*) || ' ' || count(DISTINCT (_kafka_partition, _kafka_offset)) \
             FROM \"{table}\" WHERE _kafka_topic = '{table}'"
        );
        let found = self.pipeline.lake().unwrap().scalar(&sql).unwrap();
        found.as_str().unwrap_or_default().to_owned()
    }
}

fn each_topic_fills_its_own_table_in_one_commit(kind: CatalogKind) {
    let case = TopicsFixture::new("many", kind);
    case.create("a", 100);
    case.create("b", 100);
    let topics = format!("{},{}", case.topic("a"), case.topic("b"));

    case.worker("drain", &topics, &["--until-end", "--flush-interval", "5m"]).succeed().unwrap();

    assert_eq!((case.rows("a").as_str(), case.rows("b").as_str()), ("200 200", "200 200"));
    let both = "SELECT count(*) FROM lake.snapshots() WHERE \
                len(map_extract(changes, 'tables_inserted_into')[1]) = 2";
    assert_eq!(case.pipeline.lake().unwrap().scalar(both).unwrap(), json!(1));
    case.pipeline.verify().unwrap();
}

fn new_topics_of_a_pattern_are_consumed(kind: CatalogKind) {
    check_new_topics(&TopicsFixture::new("pattern", kind));
}

fn new_topics_of_a_pattern_are_consumed_with_kip_848(kind: CatalogKind) {
    let mut case = TopicsFixture::new("pattern_848", kind);
    case.pipeline.protocol = Protocol::Consumer;
    check_new_topics(&case);
}

fn check_new_topics(case: &TopicsFixture) {
    case.create("first", 50);
    let latest = ["--start-from", "latest"];
    let workers = ["one", "two"].map(|name| case.worker(name, &case.pattern(), &latest));
    for worker in &workers {
        worker.await_ready(true).unwrap();
    }
    case.publish("first", 50);
    case.pipeline.await_committed(100 + 100).unwrap();

    // The topic has records before a worker discovers it: none of them may be skipped.
    case.create("second", 70);
    case.pipeline.await_committed(200 + 140).unwrap();

    assert_eq!((case.rows("first").as_str(), case.rows("second").as_str()), ("100 100", "140 140"));
    for worker in workers {
        worker.check_alive().unwrap();
        worker.await_ready(true).unwrap();
    }
    case.pipeline.verify().unwrap();
}

fn topics_that_cannot_be_loaded_do_not_stop_the_others(kind: CatalogKind) {
    let case = TopicsFixture::new("unloadable", kind);
    for topic in ["no-schema", "no-schema-either"] {
        shared_kafka().create_topic(&case.topic(topic), 1, &[]).unwrap();
    }
    shared_kafka().create_topic(&case.topic("reserved"), 1, &[]).unwrap();
    case.register("reserved", &[json!({"name": "_kafka_offset", "type": "long"})]);
    case.create("good", 30);

    let worker = case.worker("worker", &case.pattern(), &[]);
    case.pipeline.await_committed(60).unwrap();

    assert_eq!(case.rows("good"), "60 60");
    let stopped = worker.await_logged("topic stopped; other topics continue").unwrap().to_string();
    assert!(stopped.contains("reserved") && stopped.contains("_kafka_offset"), "{stopped}");
    worker.await_unready("stopped").unwrap();
    // After several attempts to read both schemas, one of them is registered.
    worker.await_metric("retries_total", 8.0).unwrap();
    case.register("no-schema", &[json!({"name": "number", "type": "long"})]);
    let id = case.register("no-schema", &[json!({"name": "number", "type": "long"})]);
    let values = [EncodedValue::with_schema(id).long(1).bytes()];
    let topic = case.topic("no-schema");
    publish(&case.pipeline.bootstrap_servers, &topic, 0, values).unwrap();
    case.pipeline.await_committed(61).unwrap();
    assert_eq!(case.rows("no-schema"), "1 1");
    let log = worker.log().unwrap();
    let other = format!("waiting for the schema of {}-value", case.topic("no-schema-either"));
    let logged = log.iter().filter(|line| line.to_string().contains(&other)).count();
    assert_eq!(logged, 1, "{log:?}");
    worker.check_alive().unwrap();
}

fn a_pattern_is_drained_to_the_ends_of_its_topics(kind: CatalogKind) {
    let case = TopicsFixture::new("drained", kind);
    case.create("a", 20);
    case.create("b", 20);

    let shared = ["--until-end", "--table", "everything"];
    case.worker("drain", &case.pattern(), &shared).succeed().unwrap();

    let rows =
        "SELECT count(DISTINCT (_kafka_topic, _kafka_partition, _kafka_offset)) FROM everything";
    assert_eq!(case.pipeline.lake().unwrap().scalar(rows).unwrap(), json!(80));
}

/// Directory replaced by a plain file, so that no file can be created in it.
struct BlockedDirectory {
    directory: PathBuf,
    aside: PathBuf,
}

impl BlockedDirectory {
    fn new(case: &TopicsFixture, suffix: &str) -> Self {
        let files = format!("FROM ducklake_list_files('lake', '{}')", case.topic(suffix));
        let directory = "SELECT regexp_extract(any_value(data_file), '(.*/main/[^/]*)/', 1)";
        let found = case.pipeline.lake().unwrap().scalar(&format!("{directory} {files}")).unwrap();
        let directory = PathBuf::from(found.as_str().unwrap());
        let aside = directory.with_extension("aside");
        fs::rename(&directory, &aside).unwrap();
        fs::write(&directory, "no directory").unwrap();
        Self { directory, aside }
    }

    fn remove(self) {
        fs::remove_file(&self.directory).unwrap();
        fs::rename(&self.aside, &self.directory).unwrap();
    }
}

fn a_table_that_cannot_be_written_does_not_stop_the_others(kind: CatalogKind) {
    let case = TopicsFixture::new("held", kind);
    case.create("blocked", 20);
    case.create("free", 20);
    let topics = format!("{},{}", case.topic("blocked"), case.topic("free"));
    case.worker("first", &topics, &["--until-end"]).succeed().unwrap();
    let blocked = BlockedDirectory::new(&case, "blocked");

    let worker = case.worker("worker", &topics, &[]);
    case.publish("blocked", 30);
    case.publish("free", 30);
    case.pipeline.await_committed(80 + 60).unwrap();
    worker.await_unready("files cannot be written").unwrap();
    worker.await_metric("held_topics", 1.0).unwrap();
    // The topic is still held after another failed attempt.
    let retries = worker.metric("retries_total").unwrap();
    worker.await_metric("retries_total", retries + 1.0).unwrap();
    case.publish("free", 10);
    case.pipeline.await_committed(140 + 20).unwrap();
    assert_eq!(case.rows("free"), "120 120");

    blocked.remove();
    case.pipeline.await_committed(160 + 60).unwrap();

    worker.await_ready(true).unwrap();
    assert_eq!(case.rows("blocked"), "100 100");
    assert!(worker.metric("held_topics").unwrap() < 1.0);
    let log = worker.log().unwrap();
    let logged = log.iter().filter(|line| line.to_string().contains("topic held and retried"));
    let logged = logged.map(|line| line["topic"].clone()).collect::<Vec<_>>();
    assert_eq!(logged, [case.topic("blocked")], "{log:?}");
    case.pipeline.verify().unwrap();
}

fn until_end_ends_when_only_a_table_that_cannot_be_written_is_left(kind: CatalogKind) {
    let number = json!({"type": "long", "logicalType": "timestamp-micros"});
    let case = TopicsFixture { number, ..TopicsFixture::new("held_drain", kind) };
    case.create("blocked", 20);
    case.create("free", 20);
    let topics = format!("{},{}", case.topic("blocked"), case.topic("free"));
    let arguments = ["--until-end", "--partition-by", "number"];
    case.worker("first", &topics, &arguments).succeed().unwrap();
    let blocked = BlockedDirectory::new(&case, "blocked");
    case.publish("blocked", 30);
    case.publish("free", 30);

    let mut worker = case.worker("second", &topics, &arguments);

    assert_eq!(worker.exit_code().unwrap(), 4);
    let error = worker.last_error().unwrap();
    assert!(error.contains("files of a table cannot be written"), "{error}");
    assert!(error.contains(&case.topic("blocked")), "{error}");
    assert_eq!(case.rows("free"), "100 100");
    blocked.remove();
    case.worker("third", &topics, &arguments).succeed().unwrap();
    assert_eq!(case.rows("blocked"), "100 100");
    case.pipeline.verify().unwrap();
}
