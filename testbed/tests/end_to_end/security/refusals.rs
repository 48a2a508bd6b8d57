//! Wrong settings and missing permissions: one clear line that names the setting, and a bounded end.

use std::path::Path;
use std::thread;
use std::time::Duration;

use ducktide_testbed::certificates::{EXPIRED, VALID};
use ducktide_testbed::pipeline::Pipeline;
use ducktide_testbed::services::{
    CONSUMER, PRODUCER, SecureKafka, User, log_folder, shared_registry,
};

use super::token_server::TokenServer;
use super::{Settings, mtls, oauth, plain, scram, text, tls, with};

/// Exit code of a consumer with `--until-end` that Kafka refuses.
const CONSUMER_REFUSED: i32 = 8;

struct Case {
    name: &'static str,
    settings: Settings,
    /// Texts of the last error.
    expected: &'static [&'static str],
}

/// Replaces a setting.
fn set(mut settings: Settings, name: &'static str, value: &str) -> Settings {
    settings.retain(|(existing, _)| *existing != name);
    settings.push((name, value.to_owned()));
    settings
}

/// Returns connections that fail, for programs with this user.
fn connections(kafka: &SecureKafka, tokens: &TokenServer, user: User) -> Vec<Case> {
    let case = |name, settings, expected| Case { name, settings, expected };
    let plain = plain(kafka, user);
    vec![
        case(
            "wrong-password",
            set(plain.clone(), "KAFKA_SASL_PASSWORD", "wr0ng-one"),
            &["SASL", "Authentication failed", "KAFKA_SASL_PASSWORD"],
        ),
        case(
            "wrong-scram",
            set(
                set(scram(kafka, user), "KAFKA_SASL_PASSWORD_FILE", ""),
                "KAFKA_SASL_PASSWORD",
                "wr0ng-one",
            ),
            &["SASL", "SCRAM-SHA-512", "KAFKA_SASL_PASSWORD"],
        ),
        case(
            "wrong-mechanism",
            set(plain.clone(), "KAFKA_SASL_MECHANISM", "SCRAM-SHA-256"),
            &["KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"],
        ),
        case(
            "unknown-authority",
            set(plain.clone(), "KAFKA_SSL_CA_LOCATION", &text(&kafka.other_ca_file())),
            &["certificate verify failed", "KAFKA_SSL_CA_LOCATION"],
        ),
        case(
            "expired-broker",
            set(plain.clone(), "KAFKA_BOOTSTRAP_SERVERS", &kafka.expired()),
            &["certificate verify failed", "expired"],
        ),
        case(
            "expired-client",
            mtls(kafka, user.name, EXPIRED),
            &["certificate", "KAFKA_SSL_CERTIFICATE_LOCATION"],
        ),
        case(
            "no-client-certificate",
            set(tls(kafka, "ssl"), "KAFKA_BOOTSTRAP_SERVERS", &kafka.mtls()),
            &["certificate", "KAFKA_SSL_CERTIFICATE_LOCATION"],
        ),
        case(
            "wrong-client-secret",
            oauth(kafka, &tokens.endpoint, user.name, "wr0ng-one"),
            &["invalid_client", "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET"],
        ),
    ]
}

fn check(error: &str, case: &Case) {
    for expected in case.expected {
        assert!(error.contains(expected), "{}: `{expected}` is missing: {error}", case.name);
    }
    assert!(!error.contains("wr0ng-one"), "{}: {error}", case.name);
    assert_eq!(error.lines().count(), 1, "{}: {error}", case.name);
}

fn pipeline(name: &str, settings: &Settings) -> Pipeline {
    let servers = settings.iter().find(|(name, _)| *name == "KAFKA_BOOTSTRAP_SERVERS").unwrap();
    let pipeline = Pipeline::new(name, &servers.1, &shared_registry().url(), None);
    pipeline.unwrap()
}

fn check_consumer(case: &Case) {
    let pipeline = pipeline(&format!("refused-{}", case.name), &case.settings);
    ducktide_testbed::raw_records::register(
        &pipeline.schema_registry_url,
        &pipeline.topic,
        "refused",
    )
    .unwrap();
    let consumer = pipeline.consumer(&pipeline.catalog).unwrap().args(["--until-end"]);
    let mut worker = pipeline.start_worker("consumer", with(consumer, &case.settings)).unwrap();
    assert_eq!(worker.exit_code().unwrap(), CONSUMER_REFUSED, "{}", case.name);
    check(&worker.last_error().unwrap(), case);
    // Attempts are repeated for ten seconds, and logged once.
    let log = worker.log().unwrap();
    let repeated = log.iter().filter(|line| {
        line["level"] == "WARN" && line["message"].as_str().is_some_and(|m| m.contains("retrying"))
    });
    assert!(repeated.count() <= 3, "{}: {log:?}", case.name);
}

fn check_producer(case: &Case, logs: &Path) {
    let pipeline = pipeline(&format!("refused-{}", case.name), &case.settings);
    let producer = pipeline.producer(&["--rows", "5", "--connect-timeout", "5"]).unwrap();
    let producer = with(producer, &case.settings).env("DUCKTIDE_LOG_FORMAT", "text");
    let label = format!("producer-{}", case.name);
    let mut running = producer.start(logs, &label).unwrap();
    let status = running.wait(Duration::from_mins(1)).unwrap().status;
    assert!(matches!(status.code(), Some(1 | 3)), "{}: {status}", case.name);
    let log = running.log().unwrap();
    check(log.lines().next_back().unwrap_or_default(), case);
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn each_failed_connection_names_the_setting_and_ends() {
    let logs = log_folder().unwrap().join("refused");
    let kafka = SecureKafka::start(&logs).unwrap();
    let tokens = TokenServer::start().unwrap();
    let consumers = connections(&kafka, &tokens, CONSUMER);
    let producers = connections(&kafka, &tokens, PRODUCER);
    // Each waits for most of its time.
    thread::scope(|scope| {
        for case in &consumers {
            scope.spawn(|| check_consumer(case));
        }
    });
    thread::scope(|scope| {
        for case in &producers {
            scope.spawn(|| check_producer(case, &logs));
        }
    });
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn each_missing_permission_is_named() {
    let logs = log_folder().unwrap().join("permissions");
    let kafka = SecureKafka::start(&logs).unwrap();
    let servers = "kafka-acls.sh --bootstrap-server \"$KAFKA_BOOTSTRAP_SERVERS\"";
    let topic = "--resource-pattern-type prefixed --topic refused-group";
    let add = format!(
        "{servers} --add --allow-principal User:consumer --operation Read --operation Describe {topic}\n\
         {servers} --add --allow-principal User:producer --operation Describe --topic refused-write"
    );
    kafka.run_acl_commands(&logs, &add).unwrap();
    for name in ["refused-topic", "refused-group", "refused-write", "refused-describe"] {
        kafka.admin().create_topic(name, 1, &[]).unwrap();
    }
    // A consumer of an empty topic ends without joining its group.
    let servers = kafka.admin().bootstrap_servers();
    ducktide_testbed::raw_records::publish(&servers, "refused-group", 0, [vec![0; 3]]).unwrap();
    let case = |name, settings, expected| Case { name, settings, expected };
    let topic = case("topic", plain(&kafka, CONSUMER), &["Describe on the topic"]);
    let group = case("group", mtls(&kafka, CONSUMER.name, VALID), &["Read on the group"]);
    let write = case(
        "write",
        scram(&kafka, PRODUCER),
        &["Cluster authorization failed", "Write on the topic"],
    );
    let describe = case("describe", plain(&kafka, PRODUCER), &["Describe on the topic"]);
    thread::scope(|scope| {
        scope.spawn(|| check_consumer(&topic));
        scope.spawn(|| check_consumer(&group));
        scope.spawn(|| check_denied_producer(&write, &logs));
        scope.spawn(|| check_denied_producer(&describe, &logs));
    });
}

/// Runs a producer that does not create its topic.
fn check_denied_producer(case: &Case, logs: &Path) {
    let pipeline = pipeline(&format!("refused-{}", case.name), &case.settings);
    let producer = ducktide_testbed::program::Program::named("ducktide-producer").unwrap();
    let producer = producer
        .args(["--topic", &pipeline.topic, "--rows", "5", "--connect-timeout", "5"])
        .args(["--kafka-property", "message.timeout.ms=5000"])
        .args(["--schema-registry-url", &pipeline.schema_registry_url]);
    let producer = with(producer, &case.settings).env("DUCKTIDE_LOG_FORMAT", "text");
    let mut running = producer.start(logs, &format!("producer-{}", case.name)).unwrap();
    let status = running.wait(Duration::from_mins(1)).unwrap().status;
    assert_eq!(status.code(), Some(1), "{}", case.name);
    let log = running.log().unwrap();
    check(log.lines().next_back().unwrap_or_default(), case);
}
