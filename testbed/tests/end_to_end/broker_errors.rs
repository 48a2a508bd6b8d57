//! Errors of Kafka: logs, readiness and status contain the client's reason, and a run with
//! `--until-end` ends.

use std::fs;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ducktide_testbed::catalog::CatalogKind;
use ducktide_testbed::pipeline::{Pipeline, WAIT_TIMEOUT};
use ducktide_testbed::raw_records::{NumberRecord, publish, register};
use ducktide_testbed::services::shared_kafka;
use ducktide_testbed::wait;
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::{X509, X509NameBuilder};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a pipeline whose topic has one partition with `count` records, and the ID of their
/// schema.
fn pipeline_with_records(test: &str, count: i64) -> (Pipeline, u32) {
    let pipeline = Pipeline::on_shared_services(test, CatalogKind::Sqlite).unwrap();
    shared_kafka().create_topic(&pipeline.topic, 1, &[]).unwrap();
    let schema = register(&pipeline.schema_registry_url, &pipeline.topic, "brokers").unwrap();
    let values = encode(0..count, schema);
    publish(&pipeline.bootstrap_servers, &pipeline.topic, 0, values).unwrap();
    (pipeline, schema)
}

fn encode(numbers: Range<i64>, schema: u32) -> impl Iterator<Item = Vec<u8>> {
    numbers.map(move |number| NumberRecord { number, at_micros: number }.encode(schema))
}

/// Runs `body` while a consumer with the range assignor, the default of Java clients, is a member
/// of the pipeline's group.
fn with_other_client(pipeline: &Pipeline, body: impl FnOnce()) {
    let other: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &pipeline.bootstrap_servers)
        .set("group.id", &pipeline.group)
        .set("partition.assignment.strategy", "range")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    other.subscribe(&[&pipeline.topic]).unwrap();
    wait::until("the other client has joined", WAIT_TIMEOUT, || {
        other.poll(Duration::from_millis(100));
        Ok(other.assignment()?.count() == 1)
    })
    .unwrap();
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !has_ended.load(Ordering::Relaxed) {
                other.poll(Duration::from_millis(100));
            }
        });
        body();
        has_ended.store(true, Ordering::Relaxed);
    });
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_group_with_another_assignor_is_reported_until_that_member_leaves() {
    let (pipeline, _) = pipeline_with_records("other_assignor", 100);
    let mut worker = None;
    with_other_client(&pipeline, || {
        let started = pipeline.start_consumer("worker", &[]).unwrap();
        started.await_unready("choose another --group-id").unwrap();
        assert!((started.metric("kafka_refused").unwrap() - 1.0).abs() < f64::EPSILON);
        let mut until_end = pipeline.start_consumer("until_end", &["--until-end"]).unwrap();
        assert_eq!(until_end.exit_code().unwrap(), 8);
        let error = until_end.last_error().unwrap();
        assert!(error.contains("--group-id"), "{error}");
        // The refusal was repeated every few seconds, but logged once.
        let refusals = started.log().unwrap().into_iter();
        let refusals = refusals.filter(|line| line.to_string().contains("another --group-id"));
        assert_eq!(refusals.count(), 1);
        worker = Some(started);
    });

    pipeline.await_committed(100).unwrap();
    let worker = worker.unwrap();
    worker.await_ready(true).unwrap();
    assert!(worker.metric("kafka_refused").unwrap().abs() < f64::EPSILON);
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn an_unreachable_broker_is_reported_in_log_readiness_and_status() {
    let (mut pipeline, _) = pipeline_with_records("unreachable", 10);
    pipeline.drain(&[]).unwrap();
    // No process listens on this port.
    "127.0.0.1:1".clone_into(&mut pipeline.bootstrap_servers);
    let reason = "127.0.0.1:1: connection failed: Connection refused";

    let status = pipeline.run_ducktide(&["status", "--kafka-timeout", "2s"]).unwrap();
    assert!(status.contains(reason), "{status}");
    let worker = pipeline.start_consumer("worker", &[]).unwrap();
    worker.await_unready(reason).unwrap();
    let logged = worker.await_logged(reason).unwrap()["level"].clone();
    assert_eq!(logged, "WARN");
}

/// Returns a key and a self-signed certificate.
fn self_signed() -> Result<(PKey<Private>, X509), ErrorStack> {
    let key = PKey::from_rsa(Rsa::generate(2048)?)?;
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_text("CN", "127.0.0.1")?;
    let name = name.build();
    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(&name)?;
    certificate.set_pubkey(&key)?;
    certificate.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    certificate.set_not_after(&*Asn1Time::days_from_now(1)?)?;
    certificate.sign(&key, MessageDigest::sha256())?;
    Ok((key, certificate.build()))
}

/// Accepts TLS handshakes on a free port until the test ends. Returns the port.
fn serve_tls() -> u16 {
    let (key, certificate) = self_signed().unwrap();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    acceptor.set_private_key(&key).unwrap();
    acceptor.set_certificate(&certificate).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            // Errors are expected: one side rejects the handshake.
            drop(connection.map(|connection| acceptor.accept(connection).map(drop)));
        }
    });
    port
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn plaintext_to_a_tls_port_and_an_unknown_certificate_are_reported() {
    let (mut pipeline, _) = pipeline_with_records("tls", 10);
    pipeline.bootstrap_servers = format!("127.0.0.1:{}", serve_tls());
    let authority = pipeline.file("authority.pem");
    fs::write(&authority, self_signed().unwrap().1.to_pem().unwrap()).unwrap();
    let authority = format!("ssl.ca.location={}", authority.display());
    let tls = ["--kafka-property", "security.protocol=ssl", "--kafka-property", &authority];

    for (name, properties, reason) in [
        ("plaintext", &[][..], "check KAFKA_SECURITY_PROTOCOL"),
        ("unknown", &tls[..], "certificate verify failed"),
    ] {
        let worker = pipeline.start_consumer(name, properties).unwrap();
        worker.await_unready(reason).unwrap();
        let first = worker.await_logged(reason).unwrap()["level"].clone();
        assert_eq!(first, "WARN");
    }
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn until_end_stops_at_an_open_transaction() {
    let (pipeline, schema) = pipeline_with_records("open_transaction", 100);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &pipeline.bootstrap_servers)
        .set("transactional.id", &pipeline.topic)
        .create()
        .unwrap();
    producer.init_transactions(TIMEOUT).unwrap();
    producer.begin_transaction().unwrap();
    for value in encode(100..110, schema) {
        let record = BaseRecord::<[u8], [u8]>::to(&pipeline.topic).partition(0).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(TIMEOUT).unwrap();
    // Readers do not receive these records before the transaction ends, although they are
    // committed.
    publish(&pipeline.bootstrap_servers, &pipeline.topic, 0, encode(110..120, schema)).unwrap();

    pipeline.drain(&[]).unwrap();
    assert_eq!(pipeline.catalog().unwrap().next_offset(0).unwrap(), 100);

    producer.commit_transaction(TIMEOUT).unwrap();
    pipeline.drain(&[]).unwrap();
    // 120 records and the transaction marker.
    assert_eq!(pipeline.catalog().unwrap().next_offset(0).unwrap(), 121);
    pipeline.verify().unwrap();
}
