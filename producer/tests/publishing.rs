//! Runs against librdkafka's mock cluster and a minimal schema registry.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use clap::Parser as _;
use ducktide_producer::event::TimestampMicros;
use ducktide_producer::generator::Generator;
use ducktide_producer::{Args, Config, ProducerError, RunSummary};
use ducktide_registry::RegistryUrls;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

const TOPIC: &str = "events";
const PARTITIONS: i32 = 3;

/// Mock cluster and mock registry.
struct Services {
    kafka: MockCluster<'static, DefaultProducerContext>,
    registry_url: String,
}

impl Services {
    fn start() -> Self {
        let kafka = MockCluster::new(1).expect("a mock cluster");
        kafka.create_topic(TOPIC, PARTITIONS, 1).expect("a topic");
        Self { kafka, registry_url: start_registry() }
    }

    fn config(&self, flags: &[&str]) -> Config {
        let brokers = self.kafka.bootstrap_servers();
        let addresses =
            ["", "--bootstrap-servers", &brokers, "--schema-registry-url", &self.registry_url];
        let args = Args::try_parse_from(addresses.iter().chain(flags)).expect("valid flags");
        Config::try_from(args).expect("a valid configuration")
    }

    async fn run(&self, flags: &[&str]) -> RunSummary {
        let run = ducktide_producer::run(self.config(flags), std::future::pending());
        run.await.expect("published")
    }

    /// Returns the first `count` records of the topic, by partition and offset.
    fn records(&self, count: u64) -> BTreeMap<(i32, i64), PublishedRecord> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.kafka.bootstrap_servers())
            .set("group.id", "reader")
            .create()
            .expect("a consumer");
        let mut assignment = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            let added = assignment.add_partition_offset(TOPIC, partition, Offset::Beginning);
            added.expect("a valid offset");
        }
        consumer.assign(&assignment).expect("assigned");
        let mut records = BTreeMap::new();
        while (records.len() as u64) < count {
            let polled = consumer.poll(Duration::from_secs(10)).expect("a record in time");
            let message = polled.expect("no error");
            let record = PublishedRecord {
                key: message.key().expect("each record has a key").to_vec(),
                value: message.payload().expect("each record has a value").to_vec(),
            };
            records.insert((message.partition(), message.offset()), record);
        }
        records
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PublishedRecord {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl PublishedRecord {
    /// Returns the event id that an Avro library reads; empty if there is no event.
    fn event_id(&self) -> String {
        let [0, 0, 0, 0, 7, datum @ ..] = self.value.as_slice() else {
            return String::new();
        };
        let schema = Schema::parse_str(ducktide_schemas::EVENTS).expect("the schema is valid");
        let reader = GenericDatumReader::builder(&schema).build().expect("a reader");
        match reader.read_value(&mut &*datum) {
            Ok(Value::Record(fields)) => match &fields[0] {
                (name, Value::Uuid(event_id)) if name == "event_id" => event_id.to_string(),
                other => unreachable!("the first field of the schema is not `event_id`: {other:?}"),
            },
            _ => String::new(),
        }
    }
}

/// Starts a registry that accepts every schema with the id 7.
fn start_registry() -> String {
    start_http("200 OK", r#"{"id":7}"#)
}

/// Starts an HTTP server that answers every request alike; returns its URL.
fn start_http(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            let mut request = BufReader::new(&stream);
            let (mut line, mut body_bytes) = (String::new(), 0);
            while request.read_line(&mut line).expect("a line") > 2 {
                if let Some(length) = line.to_lowercase().strip_prefix("content-length:") {
                    body_bytes = length.trim().parse().expect("a length");
                }
                line.clear();
            }
            request.read_exact(&mut vec![0; body_bytes]).expect("a body");
            let length = body.len();
            write!(
                &stream,
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            )
            .expect("answered");
        }
    });
    url
}

/// Returns the event ids of the topic, by partition and offset.
fn event_ids(records: &BTreeMap<(i32, i64), PublishedRecord>) -> BTreeMap<(i32, i64), String> {
    records.iter().map(|(position, record)| (*position, record.event_id())).collect()
}

/// Reads the event ids of the ledger, by partition and offset.
fn ledger(path: &Path) -> BTreeMap<(i32, i64), String> {
    let text = fs::read_to_string(path).expect("a ledger");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("topic,partition,offset,event_id"));
    let entry = |line: &str| {
        let [topic, partition, offset, event_id] =
            line.split(',').collect::<Vec<_>>().try_into().expect("four columns");
        assert_eq!(topic, TOPIC);
        let position = (partition.parse().expect("a number"), offset.parse().expect("a number"));
        (position, event_id.to_owned())
    };
    let entries: Vec<_> = lines.map(entry).collect();
    let count = entries.len();
    let ledger = BTreeMap::from_iter(entries);
    assert_eq!(ledger.len(), count, "an offset is listed twice");
    ledger
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_lists_exactly_what_is_in_the_topic() {
    let services = Services::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("ledger.csv");
    let path_text = path.to_str().expect("UTF-8");
    let flags = ["--rows", "4000", "--loops", "2", "--delay", "0", "--ledger", path_text];

    let mix = ["--duplicates", "0.1", "--poison", "0.1", "--late", "0.1"];
    let summary = services.run(&[&flags[..], &mix].concat()).await;

    assert_eq!((summary.records, summary.not_acknowledged, summary.exit_code()), (8000, 0, 0));
    let records = services.records(8000);
    assert!(ledger(&path) == event_ids(&records), "ledger and topic differ");
    let bytes: usize = records.values().map(|record| record.value.len()).sum();
    assert_eq!(summary.bytes, bytes as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_with_one_key_share_a_partition_and_keep_their_order() {
    let services = Services::start();
    services.run(&["--rows", "5000", "--seed", "3"]).await;

    let mut generator = Generator::new(3);
    let mut in_order: HashMap<Vec<u8>, Vec<String>> = HashMap::new();
    for _ in 0..5000 {
        let event = generator.event(TimestampMicros(0));
        let ids = in_order.entry(event.key().to_string().into_bytes()).or_default();
        ids.push(event.event_id.to_string());
    }

    let (mut published, mut partitions) = (HashMap::new(), HashSet::new());
    for ((partition, _), record) in services.records(5000) {
        let ids: &mut Vec<String> = published.entry(record.key.clone()).or_default();
        ids.push(record.event_id());
        partitions.insert((record.key, partition));
    }
    assert!(published == in_order, "order or keys differ");
    assert_eq!(partitions.len(), published.len(), "a key is in two partitions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_and_a_start_time_give_identical_topics() {
    let (one, other) = (Services::start(), Services::start());
    let flags = [
        "--rows",
        "2000",
        "--seed",
        "5",
        "--start-time",
        "2026-01-01T00:00:00Z",
        "--late",
        "0.1",
        "--duplicates",
        "0.1",
        "--poison",
        "0.1",
    ];
    one.run(&flags).await;
    other.run(&flags).await;
    assert!(one.records(2000) == other.records(2000), "the topics differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_run_stops_on_request_and_loses_nothing() {
    let services = Services::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("ledger.csv");
    let flags = ["--continuous", "--rate", "2000", "--ledger", path.to_str().expect("UTF-8")];

    let first_acknowledged = async {
        // The first line is the header.
        while std::fs::read_to_string(&path).map_or(0, |ledger| ledger.lines().count()) < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let run = ducktide_producer::run(services.config(&flags), first_acknowledged);
    let summary = run.await.expect("stopped");

    assert!(summary.records > 0);
    assert_eq!(summary.not_acknowledged, 0);
    let records = services.records(summary.records);
    assert!(ledger(&path) == event_ids(&records), "ledger and topic differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_kafka_rejects_is_counted_and_not_in_the_ledger() {
    let services = Services::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("ledger.csv");
    let rejection = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    services.kafka.request_errors(RDKafkaApiKey::Produce, &[rejection]);

    let flags = ["--rows", "300", "--ledger", path.to_str().expect("UTF-8")];
    let summary = services.run(&flags).await;

    assert!(summary.not_acknowledged > 0);
    assert_eq!(summary.records + summary.not_acknowledged, 300);
    assert_eq!(summary.exit_code(), 4);
    assert_eq!(ledger(&path).len() as u64, summary.records);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_for_an_unavailable_service_names_its_setting() {
    let services = Services::start();
    let mut no_kafka = services.config(&["--connect-timeout", "1"]);
    let mut no_registry = no_kafka.clone();
    no_kafka.kafka.bootstrap_servers = "127.0.0.1:1".to_owned();
    no_registry.registry.schema_registry_url =
        RegistryUrls::parse("http://127.0.0.1:1").expect("a URL");

    for (config, variable) in
        [(no_kafka, "KAFKA_BOOTSTRAP_SERVERS"), (no_registry, "SCHEMA_REGISTRY_URL")]
    {
        let run = ducktide_producer::run(config, std::future::pending());
        let error = run.await.expect_err("the service is unavailable");
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains(variable), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_without_its_path_and_a_rejected_schema_give_different_errors() {
    let services = Services::start();
    let of_apicurio = r#"{"detail":"NotFoundException","status":404}"#;
    let of_confluent = r#"{"error_code":409,"message":"incompatible"}"#;
    for (status, body, lacks_path) in [
        ("404 Not Found", of_apicurio, true),
        ("404 Not Found", r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#, true),
        ("404 Not Found", "", true),
        ("200 OK", "<html></html>", true),
        ("409 Conflict", of_confluent, false),
    ] {
        let mut config = services.config(&[]);
        config.registry.schema_registry_url =
            RegistryUrls::parse(&start_http(status, body)).expect("a URL");

        let run = ducktide_producer::run(config, std::future::pending());
        let error = run.await.expect_err("no schema id");

        assert_eq!(error.to_string().contains("/apis/ccompat/v7"), lacks_path, "{error}");
        assert!(std::error::Error::source(&error).is_none(), "the text would be logged twice");
        assert_eq!(error.to_string().contains("--topic"), !lacks_path, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_written_stops_the_run() {
    let services = Services::start();
    let config = services.config(&["--continuous", "--rows", "100000", "--ledger", "/dev/full"]);
    let error = ducktide_producer::run(config, std::future::pending()).await.expect_err("full");
    assert!(matches!(error, ProducerError::Ledger { .. }), "{error}");
}
