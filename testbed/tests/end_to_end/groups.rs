//! Consumer group of a worker: its default, and how a restarted worker rejoins it.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;

use ducktide_testbed::catalog::CatalogKind;
use ducktide_testbed::pipeline::{PARTITIONS, Pipeline, Protocol, TABLE, WAIT_TIMEOUT};
use ducktide_testbed::wait;
use ducktide_testbed::worker::Worker;
use ducktide_testbed::{on_both_catalogs, on_one_catalog};
use serde_json::Value;

on_both_catalogs!(
    lakes_of_one_topic_have_groups_of_their_own,
    the_group_of_the_last_worker_is_kept,
);

on_one_catalog!(
    a_killed_static_member_waits_for_its_name,
    partitions_without_an_owner_are_assigned_again,
    a_member_with_partitions_joins_again_for_one_without_an_owner,
    the_broker_assigns_each_partition_under_kip_848,
);

/// Returns another lake that is filled from the pipeline's topic.
fn another_lake(first: &Pipeline, kind: CatalogKind) -> Pipeline {
    let mut second = Pipeline::on_shared_services("another_lake", kind).unwrap();
    second.topic.clone_from(&first.topic);
    fs::copy(first.ledger(), second.ledger()).unwrap();
    second
}

/// Starts a worker without `--group-id`.
fn start(pipeline: &Pipeline, name: &str) -> Worker {
    let consumer = pipeline.consumer_without_group(&pipeline.topic, &pipeline.catalog).unwrap();
    pipeline.start_worker(name, consumer.args(["--table", TABLE])).unwrap()
}

fn group_of(worker: &Worker) -> String {
    let chosen = worker.await_logged("consumer group chosen").unwrap();
    chosen["group_id"].as_str().unwrap().to_owned()
}

fn lakes_of_one_topic_have_groups_of_their_own(kind: CatalogKind) {
    let first = Pipeline::on_shared_services("two_lakes", kind).unwrap();
    first.produce(3_000, &[]).unwrap();
    let second = another_lake(&first, kind);
    let workers = [start(&first, "first"), start(&second, "second")];

    for (pipeline, worker) in [&first, &second].into_iter().zip(&workers) {
        worker.await_metric("assigned_partitions", f64::from(PARTITIONS)).unwrap();
        worker.await_metric("topic_partitions", f64::from(PARTITIONS)).unwrap();
        pipeline.await_committed(3_000).unwrap();
        pipeline.check_exact(3_000).unwrap();
        let status = pipeline.run_ducktide(&["status"]).unwrap();
        let group = group_of(worker);
        assert!(status.contains(&format!("group {group} of 1 member\n")), "{status}");
        assert!(status.contains("all 3 partitions up to date"), "{status}");
    }
    assert_ne!(group_of(&workers[0]), group_of(&workers[1]));
}

fn the_group_of_the_last_worker_is_kept(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("kept", kind).unwrap();
    pipeline.produce(10, &[]).unwrap();
    let mut first = start(&pipeline, "first");
    let own = group_of(&first);
    assert!(own.starts_with("ducktide-"), "{own}");
    pipeline.await_committed(10).unwrap();
    first.stop().unwrap();
    let replay = ["replay", "--topic", &pipeline.topic, "--from-beginning", "--into", "shadow"];
    let printed = pipeline.run_ducktide(&replay).unwrap();
    assert!(printed.contains(&format!("--group-id {own}-main.shadow ")), "{printed}");

    pipeline.drain(&[]).unwrap();

    let groups = |pipeline: &Pipeline| {
        let status = pipeline.run_ducktide(&["status", "--json"]).unwrap();
        let status: Value = serde_json::from_str(&status).unwrap();
        let sources = status["sources"].as_array().unwrap().iter();
        sources.map(|source| source["group_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(groups(&pipeline), [pipeline.group.clone(), format!("{own}-main.shadow")]);
    assert_eq!(group_of(&start(&pipeline, "again")), pipeline.group);

    // As in a lake of an earlier version, which recorded no group.
    let forget = "DELETE FROM ducktide_meta WHERE key LIKE 'group_id%'";
    pipeline.catalog().unwrap().execute(forget).unwrap();
    assert_eq!(group_of(&start(&pipeline, "older")), "ducktide");
}

/// With KIP-848 Kafka rejects an instance ID until the session of the killed member is over.
fn a_killed_static_member_waits_for_its_name(kind: CatalogKind) {
    const HELD: &str = "another member of the group has this worker's";
    let mut pipeline = Pipeline::on_shared_services("name_held", kind).unwrap();
    pipeline.protocol = Protocol::Consumer;
    pipeline.produce(1_000, &[]).unwrap();
    let start = |log: &str, arguments: &[&str]| {
        let arguments = [&["--group-instance-id", "one"], arguments].concat();
        pipeline.start_consumer(log, &arguments).unwrap()
    };
    let mut held = start("killed", &[]);
    pipeline.await_committed(1_000).unwrap();
    // On a busy machine the session can be over before the next process asks for the name.
    let returned = (0..5).find_map(|attempt| {
        held.kill().unwrap();
        let returned = start(&format!("returned-{attempt}"), &[]);
        let is_held = || returned.logged(HELD).map(|line| line.is_some());
        let is_free = || returned.metric("assigned_partitions").map(|count| count > 0.0);
        wait::until("the name is held or free", WAIT_TIMEOUT, || Ok(is_held()? || is_free()?))
            .unwrap();
        if is_held().unwrap() {
            return Some(returned);
        }
        held = returned;
        None
    });
    let mut returned = returned.expect("the name was held at one of five restarts");
    returned.await_metric("assigned_partitions", f64::from(PARTITIONS)).unwrap();
    returned.await_ready(true).unwrap();
    let warnings = returned.log().unwrap();
    let warnings = warnings.iter().filter(|line| line["level"] != "INFO");
    assert_eq!(warnings.count(), 1, "it is logged once");
    pipeline.produce(1_000, &[]).unwrap();
    pipeline.await_committed(2_000).unwrap();
    returned.stop().unwrap();

    // A member that has left releases its instance ID, even if its last batch was not committed in
    // time.
    let mut late = start("late", &["--shutdown-timeout", "1ms", "--flush-interval", "1h"]);
    late.await_metric("assigned_partitions", f64::from(PARTITIONS)).unwrap();
    pipeline.produce(1_000, &[]).unwrap();
    late.await_metric("records_total", 1.0).unwrap();
    late.process().terminate().unwrap();
    assert_eq!(late.exit_code().unwrap(), 6);
    let last = start("last", &[]);
    pipeline.await_committed(3_000).unwrap();
    for worker in [&late, &last] {
        assert!(worker.logged(HELD).unwrap().is_none());
    }
    pipeline.check_exact(3_000).unwrap();
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn two_lakes_in_one_group_are_told_so() {
    let first = Pipeline::on_shared_services("one_group", CatalogKind::Sqlite).unwrap();
    first.produce(3_000, &[]).unwrap();
    let mut second = another_lake(&first, CatalogKind::Sqlite);
    second.group.clone_from(&first.group);
    let mut reader = first.start_consumer("reader", &[]).unwrap();
    first.await_committed(3_000).unwrap();

    let mut waiting = second.start_consumer("waiting", &["--until-end"]).unwrap();

    let logged = waiting.await_logged("another lake's consumers read").unwrap();
    let partitions = logged["partitions"].as_str().unwrap();
    assert!(partitions.contains(&second.topic), "{logged}");
    let status = second.run_ducktide(&["status"]).unwrap();
    assert!(status.contains("a consumer of another lake reads it"), "{status}");
    reader.stop().unwrap();
    waiting.succeed().unwrap();
    second.check_exact(3_000).unwrap();
    let log = waiting.log().unwrap();
    let waits = log.iter().filter(|line| line.to_string().contains("--until-end waits"));
    assert_eq!(waits.count(), 1);
}

/// Kills a static member after it has given partitions up and before it joins the group again, restarts
/// it, and waits until all partitions are read. Returns the member that joined meanwhile, and the one
/// that returned.
fn kill_between_the_phases(pipeline: &Pipeline, second: &[&str]) -> [Worker; 2] {
    // A member keeps its name and partitions for longer than the test lasts.
    let session = ["--kafka-property", "session.timeout.ms=300000"];
    let session = if pipeline.protocol == Protocol::Classic { &session[..] } else { &[] };
    let start = |log, failpoints, arguments: &[&str]| {
        let arguments = [arguments, &["--revocation-timeout", "1s"], session].concat();
        pipeline.start_with_failpoints(log, failpoints, &arguments).unwrap()
    };
    let first = ["--group-instance-id", "first"];
    pipeline.produce(3_000, &[]).unwrap();
    let mut killed = start("killed", "partitions_revoked=crash", &first);
    killed.await_metric("assigned_partitions", f64::from(PARTITIONS)).unwrap();
    pipeline.await_committed(3_000).unwrap();
    let second = start("second", "", second);
    let ended = killed.process().wait(WAIT_TIMEOUT).unwrap();
    assert_eq!(ended.status.signal(), Some(9), "it died at the failpoint");

    let returned = start("returned", "", &first);
    pipeline.produce(3_000, &[]).unwrap();
    pipeline.await_committed(6_000).unwrap();

    for worker in [&second, &returned] {
        worker.await_metric("assigned_partitions", 1.0).unwrap();
    }
    pipeline.check_exact(6_000).unwrap();
    [second, returned]
}

/// Errors if a member found partitions without an owner more than once; whether it did.
fn rejoined(worker: &Worker) -> bool {
    let log = worker.log().unwrap();
    let warnings = log.iter().filter(|line| line["level"] != "INFO").collect::<Vec<_>>();
    let is_expected =
        |line: &&Value| line["message"].to_string().contains("partitions without an owner");
    assert!(warnings.len() <= 1 && warnings.iter().all(is_expected), "{warnings:?}");
    !warnings.is_empty()
}

/// The broker answers the member that returns with the assignment in which the partition that it gave up
/// belongs to no one.
fn partitions_without_an_owner_are_assigned_again(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("unowned", kind).unwrap();

    let members = kill_between_the_phases(&pipeline, &["--group-instance-id", "second"]);

    assert_eq!(members.iter().filter(|member| rejoined(member)).count(), 1);
}

/// It leaves the group for that, so its own partitions are revoked.
fn a_member_with_partitions_joins_again_for_one_without_an_owner(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("unowned_by_dynamic", kind).unwrap();

    let [second, returned] = kill_between_the_phases(&pipeline, &[]);

    assert!(!rejoined(&second) && rejoined(&returned));
    returned.await_logged("revoked").unwrap();
}

/// Under KIP-848 the broker itself assigns it.
fn the_broker_assigns_each_partition_under_kip_848(kind: CatalogKind) {
    let mut pipeline = Pipeline::on_shared_services("owned", kind).unwrap();
    pipeline.protocol = Protocol::Consumer;

    let [second, returned] = kill_between_the_phases(&pipeline, &["--group-instance-id", "second"]);

    for worker in [second, returned] {
        assert!(worker.logged("partitions without an owner").unwrap().is_none());
    }
}
