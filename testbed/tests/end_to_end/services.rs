//! Tests of the local services: they process requests, restart with their data, and never outlive
//! their owner.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ducktide_testbed::{
    services::{
        Kafka, Postgres, Registry, Service as _, log_folder, shared_kafka, shared_postgres,
    },
    workspace,
};
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

fn publish(kafka: &Kafka, topic: &str, records: usize) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.bootstrap_servers()).set("acks", "all");
    let producer: BaseProducer = config.create().unwrap();
    for number in 0..records {
        let payload = number.to_string();
        let record = BaseRecord::<str, str>::to(topic).partition(0).payload(&payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

#[test]
#[ignore = "needs Kafka"]
fn records_are_published_to_a_topic() {
    let kafka = shared_kafka();
    kafka.create_topic("reach", 3, &[("retention.ms", "-1")]).unwrap();
    publish(kafka, "reach", 100);
    assert_eq!(kafka.end_offsets("reach").unwrap(), [100, 0, 0]);
}

#[test]
#[ignore = "needs Kafka"]
fn a_topic_that_exists_is_not_created_again() {
    let kafka = shared_kafka();
    kafka.create_topic("twice", 1, &[]).unwrap();
    let error = kafka.create_topic("twice", 1, &[]).unwrap_err();
    assert!(format!("{error:#}").contains("create topic `twice`"), "{error:#}");
}

#[test]
#[ignore = "needs Kafka"]
fn a_restarted_kafka_has_its_records() {
    let mut kafka = Kafka::start(&log_folder().unwrap().join("killed")).unwrap();
    kafka.create_topic("kept", 1, &[]).unwrap();
    publish(&kafka, "kept", 10);
    kafka.kill().unwrap();
    assert!(kafka.check_ready().is_err());
    kafka.restart().unwrap();
    assert_eq!(kafka.end_offsets("kept").unwrap(), [10]);
}

#[test]
#[ignore = "needs the schema registry"]
fn an_empty_registry_has_no_subjects() {
    let registry = Registry::start(&log_folder().unwrap().join("empty")).unwrap();
    assert_eq!(registry.subjects().unwrap(), Vec::<String>::new());
}

#[test]
#[ignore = "needs the schema registry"]
fn a_paused_registry_does_not_respond_until_it_is_resumed() {
    let mut registry = Registry::start(&log_folder().unwrap().join("paused")).unwrap();
    registry.pause().unwrap();
    assert!(registry.check_ready().is_err());
    registry.resume().unwrap();
    // Connections opened in the meantime can still end without a response.
    registry.await_ready().unwrap();
}

#[test]
#[ignore = "needs PostgreSQL"]
fn databases_of_one_server_are_independent() {
    let postgres = shared_postgres();
    let first = postgres.create_database("first").unwrap();
    let second = postgres.create_database("second").unwrap();
    assert_ne!(first, second);
    assert!(postgres.create_database("first").is_err());
    assert!(postgres.create_database("no; DROP").is_err());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_restarted_postgres_has_its_databases() {
    let mut postgres = Postgres::start(&log_folder().unwrap().join("killed")).unwrap();
    postgres.create_database("kept").unwrap();
    postgres.kill().unwrap();
    postgres.restart().unwrap();
    assert!(postgres.create_database("kept").is_err(), "the database is still there");
    postgres.stop().unwrap();
    postgres.restart().unwrap();
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_postgres_left_running_is_stopped_by_the_returned_command() {
    let postgres = Postgres::start(&log_folder().unwrap().join("left")).unwrap();
    let url = postgres.create_database("left").unwrap();
    let end = postgres.leave_running();
    let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    client.batch_execute("SELECT 1").unwrap();
    drop(client);
    assert!(Command::new("sh").args(["-c", &end]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(10);
    while postgres::Client::connect(&url, postgres::NoTls).is_ok() {
        assert!(Instant::now() < deadline, "still running after `{end}`");
        thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
#[ignore = "needs Kafka and PostgreSQL"]
async fn services_can_be_used_within_a_runtime() {
    shared_postgres().create_database("within_a_runtime").unwrap();
    shared_kafka().create_topic("within-a-runtime", 1, &[]).unwrap();
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn services_end_with_a_killed_owner() {
    let logs = log_folder().unwrap().join("owner");
    fs::create_dir_all(&logs).unwrap();
    let mut owner = start_owner(&logs);
    let children = children_of(owner.id());
    assert!(children.len() >= 3, "{children:?}");
    owner.kill().unwrap();
    owner.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while children.iter().any(|child| is_alive(*child)) {
        assert!(Instant::now() < deadline, "still alive: {children:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Starts `cargo xtask services` in a process of its own, and waits until it has printed its
/// variables.
fn start_owner(logs: &Path) -> Child {
    let output = logs.join("exports");
    let owner = Command::new(workspace::program("ducktide-testbed").unwrap())
        .args(["services", "--logs"])
        .arg(logs)
        .stdout(fs::File::create(&output).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_mins(2);
    while !fs::read_to_string(&output).unwrap().contains("DUCKLAKE_CATALOG") {
        assert!(Instant::now() < deadline, "the services did not start");
        thread::sleep(Duration::from_millis(100));
    }
    owner
}

fn children_of(parent: u32) -> Vec<u32> {
    let ids = fs::read_dir("/proc").unwrap().flatten();
    ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|id| stat(*id).is_some_and(|(_, its_parent)| its_parent == parent))
        .collect()
}

fn is_alive(id: u32) -> bool {
    stat(id).is_some_and(|(state, _)| state != "Z")
}

/// Returns state and parent of a process, from `/proc/PID/stat`.
fn stat(id: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
