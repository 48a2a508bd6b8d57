//! A lake in object storage: exactly once from Kafka to a bucket, with consumers, compactor, replay and
//! `verify`, on both catalogs. The store is versitygw; that of [`azure`] is Azurite, that
//! of [`gcs`] versitygw behind a proxy.

mod azure;
mod checks;
mod credentials;
mod data_path;
mod faults;
mod gcs;
mod versions;

use std::{fs, os::unix::process::ExitStatusExt as _};

use ducktide_testbed::{
    catalog::CatalogKind,
    certificates::Authority,
    compactor, on_both_catalogs,
    pipeline::{CONTINUOUS, Pipeline, WAIT_TIMEOUT},
    services::{BucketStore as _, Role, shared_s3},
    tls_proxy::{AcceptedClients, TlsProxy},
};

on_both_catalogs!(
    a_merged_lake_in_object_storage_equals_the_ledger,
    a_consumer_of_object_storage_that_is_killed_writes_no_duplicates,
    a_replay_in_object_storage_is_exact,
    each_wrong_setting_of_object_storage_is_one_clear_line,
    each_role_needs_the_permissions_of_its_policy_only,
    a_store_with_an_authority_of_its_own_is_trusted_by_setting,
);

#[test]
#[ignore = "needs an object store"]
fn the_object_store_conforms() {
    checks::check_conformance(shared_s3());
}

/// Arguments for frequent commits, which give many files to merge.
const MANY_COMMITS: &[&str] = &["--flush-interval", "100ms"];

fn pipeline(test: &str, kind: CatalogKind) -> Pipeline {
    Pipeline::on_shared_services(test, kind).unwrap().in_object_storage().unwrap()
}

fn a_merged_lake_in_object_storage_equals_the_ledger(kind: CatalogKind) {
    let pipeline = pipeline("s3equal", kind);
    pipeline.produce(50_000, &[]).unwrap();
    pipeline.drain(&["--flush-rows", "5000", "--partition-by", "event_timestamp"]).unwrap();
    pipeline.check_exact(50_000).unwrap();
    pipeline.verify().unwrap();

    for run in ["first", "second"] {
        let compactor = pipeline.compactor(compactor::ONCE).unwrap();
        compactor.run(pipeline.logs(), run, WAIT_TIMEOUT).unwrap();
        pipeline.check_exact(50_000).unwrap();
        pipeline.verify().unwrap();
    }
}

/// Kills consumers while a file is written, before it is committed, and after its commit.
fn a_consumer_of_object_storage_that_is_killed_writes_no_duplicates(kind: CatalogKind) {
    let failpoints = ["file_writing", "file_written", "commit_answered", "offsets_mirroring"];
    consume_with_crashes(&pipeline("s3kill", kind), &failpoints);
}

/// Publishes records while consumers run, one of which is killed at each of these points. Returns the number
/// of records.
fn consume_with_crashes(pipeline: &Pipeline, failpoints: &[&str]) -> u64 {
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let _other = pipeline.start_consumer("other", MANY_COMMITS).unwrap();
    for failpoint in failpoints {
        let crash = format!("{failpoint}=crash@2");
        let mut victim = pipeline.start_with_failpoints(failpoint, &crash, MANY_COMMITS).unwrap();
        let ended = victim.process().wait(WAIT_TIMEOUT).unwrap();
        assert_eq!(ended.status.signal(), Some(9), "it was killed at {failpoint}");
    }

    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();

    pipeline.check_exact(published).unwrap();
    pipeline.verify().unwrap();
    published
}

/// Consumers that share Kafka, the catalog's server and the bucket, but no folder.
#[test]
#[ignore = "needs real services"]
fn consumers_without_a_common_folder_are_exact_when_they_are_killed() {
    let pipeline = pipeline("s3isolated", CatalogKind::Postgres);
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let start = |name: &str, failpoints: &str| {
        let consumer = pipeline.consumer(&pipeline.catalog).unwrap().args(MANY_COMMITS);
        let consumer = consumer.env("DUCKTIDE_FAILPOINTS", failpoints).isolated();
        pipeline.start_worker(name, consumer).unwrap()
    };
    let _others = [start("first", ""), start("second", "")];
    for (name, failpoint) in [("third", "file_written"), ("fourth", "offsets_mirroring")] {
        let mut victim = start(name, &format!("{failpoint}=crash@2"));
        let ended = victim.process().wait(WAIT_TIMEOUT).unwrap();
        assert_eq!(ended.status.signal(), Some(9), "it was killed at {failpoint}");
    }
    let _last = start("last", "");

    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();

    pipeline.check_exact(published).unwrap();
    pipeline.verify().unwrap();
}

fn a_replay_in_object_storage_is_exact(kind: CatalogKind) {
    let pipeline = pipeline("s3replay", kind);
    pipeline.produce(20_000, &[]).unwrap();
    pipeline.drain(&["--flush-rows", "3000"]).unwrap();

    let replay = ["replay", "--topic", &pipeline.topic, "--partition", "1", "--from-offset", "777"];
    pipeline.run_ducktide(&replay).unwrap();
    pipeline.drain(&[]).unwrap();

    pipeline.check_exact(20_000).unwrap();
    pipeline.verify().unwrap();
}

fn each_wrong_setting_of_object_storage_is_one_clear_line(kind: CatalogKind) {
    let pipeline = pipeline("s3wrong", kind);
    let init = || pipeline.ducktide(&["init"]).unwrap();
    for (name, value, expected) in [
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the store rejects the credentials"),
        ("DUCKLAKE_DATA_PATH", "s3://no-such-bucket/lake", "the bucket does not exist"),
        ("DUCKLAKE_DATA_PATH", "ftp://bucket/lake", "unknown scheme"),
    ] {
        let refused = init().env(name, value).run(pipeline.logs(), name, WAIT_TIMEOUT);
        let text = format!("{:?}", refused.unwrap_err());
        assert!(text.contains(expected), "{name}: {text}");
    }
    init().run(pipeline.logs(), "init", WAIT_TIMEOUT).unwrap();
}

/// Runs each program with the permissions of its policy in `deploy/s3`.
fn each_role_needs_the_permissions_of_its_policy_only(kind: CatalogKind) {
    let mut pipeline = pipeline("s3roles", kind);
    let data_path = pipeline.data_path().display().to_string();
    let bucket = data_path.trim_start_matches("s3://").trim_end_matches("/lake");
    shared_s3().apply_policies(bucket, "lake").unwrap();
    pipeline.produce(20_000, &[]).unwrap();

    pipeline.set_role(Role::Consumer);
    pipeline.run_ducktide(&["init"]).unwrap();
    pipeline.drain(&["--flush-rows", "2000"]).unwrap();
    let compactor = pipeline.compactor(compactor::ONCE).unwrap();
    let failed = compactor.run(pipeline.logs(), "without-delete", WAIT_TIMEOUT).unwrap_err();
    assert!(format!("{failed:?}").contains("the store denies this operation"), "{failed:?}");

    pipeline.set_role(Role::Reader);
    let refused = pipeline.drain(&[]).unwrap_err();
    assert!(format!("{refused:?}").contains("the store denies this operation"), "{refused:?}");
    pipeline.verify().unwrap();
    pipeline.run_ducktide(&["sql", "SELECT max(event_id) FROM events"]).unwrap();

    pipeline.set_role(Role::Maintenance);
    let compactor = pipeline.compactor(compactor::ONCE).unwrap();
    compactor.run(pipeline.logs(), "maintenance", WAIT_TIMEOUT).unwrap();
    let replay = ["replay", "--topic", &pipeline.topic, "--partition", "1", "--from-offset", "77"];
    pipeline.run_ducktide(&replay).unwrap();

    pipeline.set_role(Role::Consumer);
    pipeline.drain(&[]).unwrap();
    pipeline.check_exact(20_000).unwrap();
}

fn a_store_with_an_authority_of_its_own_is_trusted_by_setting(kind: CatalogKind) {
    let mut pipeline = pipeline("s3tls", kind);
    let (authority, ca_file) = (Authority::new("authority").unwrap(), pipeline.file("ca.pem"));
    fs::write(&ca_file, authority.pem().unwrap()).unwrap();
    let certificate = authority.issue("store", -60..3600).unwrap();
    let clients = AcceptedClients { authorization: None, with_certificate: false };
    let proxy = TlsProxy::start(shared_s3().port(), &certificate, &ca_file, clients).unwrap();
    pipeline.set_setting("AWS_ENDPOINT_URL", format!("https://127.0.0.1:{}", proxy.port()));
    pipeline.set_setting("AWS_ALLOW_HTTP", "false".to_owned());

    let refused = pipeline.run_ducktide(&["init"]).unwrap_err();
    assert!(format!("{refused:?}").contains("set AWS_CA_BUNDLE"), "{refused:?}");

    pipeline.set_setting("AWS_CA_BUNDLE", ca_file.display().to_string());
    pipeline.produce(5_000, &[]).unwrap();
    pipeline.drain(&["--flush-rows", "1000"]).unwrap();
    // DuckDB reads the store too.
    pipeline.run_ducktide(&["sql", "SELECT max(event_id) FROM events"]).unwrap();
    pipeline.check_exact(5_000).unwrap();
    pipeline.verify().unwrap();
}
