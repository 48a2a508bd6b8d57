//! Every program with each kind of authentication, and the documented ACLs only.

use std::thread;
use std::time::Duration;

use ducktide_testbed::certificates::VALID;
use ducktide_testbed::pipeline::{CONTINUOUS, Pipeline, Protocol, WAIT_TIMEOUT};
use ducktide_testbed::services::{
    CONSUMER, OPERATOR, PRODUCER, SecureKafka, log_folder, shared_registry,
};

use super::token_server::{SECRET, TokenServer};
use super::{Settings, documented_commands, mtls, oauth, plain, scram, with};

/// Records of each producer.
const RECORDS: u64 = 200;

/// Settings of the three programs.
struct Clients {
    name: &'static str,
    producer: Settings,
    consumer: Settings,
    operator: Settings,
    protocol: Protocol,
}

fn clients(kafka: &SecureKafka, tokens: &TokenServer) -> [Clients; 4] {
    let users = [PRODUCER, CONSUMER, OPERATOR];
    let of = |name, protocol, [producer, consumer, operator]: [Settings; 3]| Clients {
        name,
        producer,
        consumer,
        operator,
        protocol,
    };
    let endpoint = &tokens.endpoint;
    [
        of("plain", Protocol::Classic, users.map(|user| plain(kafka, user))),
        of("scram", Protocol::Consumer, users.map(|user| scram(kafka, user))),
        of("mtls", Protocol::Classic, users.map(|user| mtls(kafka, user.name, VALID))),
        of("oauth", Protocol::Classic, users.map(|user| oauth(kafka, endpoint, user.name, SECRET))),
    ]
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn every_program_authenticates_in_each_way_with_the_documented_acls() {
    let logs = log_folder().unwrap().join("secure");
    let kafka = SecureKafka::start(&logs).unwrap();
    let tokens = TokenServer::start().unwrap();
    kafka.run_acl_commands(&logs, &documented_commands("## ACLs")).unwrap();
    let mut pipeline = Pipeline::new("events", "", &shared_registry().url(), None).unwrap();
    "ducktide".clone_into(&mut pipeline.group);

    let all = clients(&kafka, &tokens);
    for (round, clients) in (1..).zip(&all) {
        pipeline.protocol = clients.protocol;
        kafka_settings(&mut pipeline, &clients.producer);
        let rows = RECORDS.to_string();
        let producer = with(pipeline.producer(&["--rows", &rows]).unwrap(), &clients.producer);
        producer.run(&logs, &format!("producer-{}", clients.name), WAIT_TIMEOUT).unwrap();
        let consumer = pipeline.consumer(&pipeline.catalog).unwrap().args(["--until-end"]);
        let consumer = with(consumer, &clients.consumer);
        consumer.run(&logs, &format!("consumer-{}", clients.name), WAIT_TIMEOUT).unwrap();
        let status = with(pipeline.ducktide(&["status"]).unwrap(), &clients.operator);
        let status = status.run(&logs, &format!("status-{}", clients.name), WAIT_TIMEOUT).unwrap();
        assert!(status.contains("lag"), "{status}");
        pipeline.check_exact(RECORDS * round).unwrap();
    }
    check_refused_tool(&pipeline, &all[0].operator);
    check_replaced_tokens(&mut pipeline, &tokens, &all[3]);
    pipeline.verify().unwrap();
}

/// A wrong password of the operator's tool is named.
fn check_refused_tool(pipeline: &Pipeline, settings: &Settings) {
    let wrong = |arguments: &[&str], code| {
        let tool = with(pipeline.ducktide(arguments).unwrap(), settings);
        let tool = tool.env("KAFKA_SASL_PASSWORD", "wr0ng-one");
        let mut running = tool.start(pipeline.logs(), arguments[0]).unwrap();
        let status = running.wait(WAIT_TIMEOUT).unwrap().status;
        let text = running.log().unwrap() + &running.output().unwrap();
        assert_eq!(status.code(), Some(code), "{text}");
        assert!(text.contains("KAFKA_SASL_PASSWORD") && !text.contains("wr0ng-one"), "{text}");
    };
    wrong(&["status"], 0);
    wrong(&["replay", "--topic", "events", "--from-beginning", "--dry-run"], 3);
}

/// Sets the address that arguments of the programs take from the pipeline.
fn kafka_settings(pipeline: &mut Pipeline, settings: &Settings) {
    let servers = settings.iter().find(|(name, _)| *name == "KAFKA_BOOTSTRAP_SERVERS").unwrap();
    servers.1.clone_into(&mut pipeline.bootstrap_servers);
}

/// A worker and a producer that run longer than a token is valid replace it, and continue.
fn check_replaced_tokens(pipeline: &mut Pipeline, tokens: &TokenServer, clients: &Clients) {
    kafka_settings(pipeline, &clients.producer);
    let issued = tokens.issued();
    let producer = with(pipeline.producer(CONTINUOUS).unwrap(), &clients.producer);
    let mut producer = producer.start(pipeline.logs(), "producer-tokens").unwrap();
    let consumer = with(pipeline.consumer(&pipeline.catalog).unwrap(), &clients.consumer);
    let mut worker = pipeline.start_worker("worker-tokens", consumer).unwrap();
    worker.await_ready(true).unwrap();
    thread::sleep(Duration::from_secs(9));
    let records = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(records).unwrap();
    worker.check_ready().unwrap();
    worker.stop().unwrap();
    // Worker: two clients; each token lasts for three seconds of its four.
    let replaced = tokens.issued() - issued;
    assert!(replaced >= 6, "only {replaced} tokens in nine seconds");
    pipeline.check_exact(records).unwrap();
}
