//! A worker that is killed, or is paused and loses its partitions, at each step of the commit
//! protocol.
//!
//! In all cases the lake contains each acknowledged record once.

use std::os::unix::process::ExitStatusExt as _;

use ducktide_protocol::failpoint::Failpoint;
use ducktide_testbed::{
    catalog::CatalogKind,
    chaos::{FAILPOINTS as CHAOS_FAILPOINTS, MERGE_FAILPOINTS},
    faults::{CommitFault, CommitProxy},
    on_both_catalogs,
    pipeline::{PARTITIONS, Pipeline, WAIT_TIMEOUT},
    wait,
    worker::Worker,
};

/// Generates the tests of each failpoint: a crash, and a pause during which another worker takes
/// over. Only a worker with a SQLite catalog takes a lock file.
macro_rules! at_each_failpoint {
    ($($failpoint:ident),+; under_the_lock_file: $($within:ident),+ $(,)?) => {
        mod crash {
            use ducktide_testbed::catalog::CatalogKind;

            $(fn $failpoint(kind: CatalogKind) {
                super::check_crash(stringify!($failpoint), kind);
            })+

            super::on_both_catalogs!($($failpoint),+);

            mod under_the_lock_file {
                $(#[test]
                #[ignore = "needs Kafka and the schema registry"]
                fn $within() {
                    super::super::check_crash(stringify!($within), super::CatalogKind::Sqlite);
                })+
            }
        }

        mod pause_and_takeover {
            use ducktide_testbed::catalog::CatalogKind;

            $(fn $failpoint(kind: CatalogKind) {
                super::check_pause(stringify!($failpoint), kind);
            })+

            super::on_both_catalogs!($($failpoint),+);

            mod under_the_lock_file {
                $(#[test]
                #[ignore = "needs Kafka and the schema registry"]
                fn $within() {
                    super::super::check_pause(stringify!($within), super::CatalogKind::Sqlite);
                })+
            }
        }

        const FAILPOINTS: &[&str] = &[$(stringify!($failpoint),)+ $(stringify!($within)),+];
    };
}

at_each_failpoint!(
    file_writing,
    file_written,
    file_synced,
    message_set,
    commit_answered,
    offsets_mirroring,
    offsets_mirrored;
    under_the_lock_file: lock_taken,
);

on_both_catalogs!(
    a_commit_with_a_lost_response_is_not_written_twice,
    files_are_written_again_after_a_failed_fsync,
);

/// Arguments for a short session timeout, so that the partitions of a killed or paused worker are
/// soon reassigned.
const SESSION: [&str; 4] = [
    "--kafka-property",
    "session.timeout.ms=2000",
    "--kafka-property",
    "heartbeat.interval.ms=500",
];

/// Arguments for several commits in a test, so that every failpoint is reached twice.
const SEVERAL_COMMITS: [&str; 4] = ["--flush-rows", "1500", "--flush-interval", "200ms"];

#[test]
fn every_failpoint_of_the_protocol_has_tests() {
    let mut tested = FAILPOINTS.to_vec();
    let mut failpoints = Failpoint::COMMIT.map(Failpoint::name);
    tested.sort_unstable();
    failpoints.sort_unstable();
    assert_eq!(tested, failpoints);
    assert_eq!(CHAOS_FAILPOINTS, Failpoint::COMMIT.map(Failpoint::name));
    assert_eq!(MERGE_FAILPOINTS, Failpoint::MERGE.map(Failpoint::name));
}

fn victim(pipeline: &Pipeline, failpoints: &str) -> Worker {
    let arguments = [SESSION, SEVERAL_COMMITS].concat();
    pipeline.start_with_failpoints("victim", failpoints, &arguments).unwrap()
}

fn check_crash(failpoint: &str, kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services(failpoint, kind).unwrap();
    pipeline.produce(6_000, &[]).unwrap();

    let mut victim = victim(&pipeline, &format!("{failpoint}=crash@2"));
    let ended = victim.process().wait(WAIT_TIMEOUT).unwrap();
    assert_eq!(ended.status.signal(), Some(9), "it was killed at the failpoint");
    pipeline.drain(&SESSION).unwrap();

    pipeline.check_exact(6_000).unwrap();
}

fn check_pause(failpoint: &str, kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services(failpoint, kind).unwrap();
    pipeline.produce(6_000, &[]).unwrap();

    let mut zombie = victim(&pipeline, &format!("{failpoint}=pause@2"));
    wait::until("the worker is paused", WAIT_TIMEOUT, || Ok(zombie.process().is_stopped()))
        .unwrap();
    let mut successor = pipeline.start_consumer("successor", &SESSION).unwrap();
    // The first worker can have committed everything before the pause.
    successor.await_metric("assigned_partitions", f64::from(PARTITIONS)).unwrap();
    pipeline.await_committed(6_000).unwrap();
    zombie.process().resume().unwrap();
    if has_prepared_commit(failpoint) {
        zombie.await_logged("batch dropped").unwrap();
    }
    pipeline.produce(2_000, &[]).unwrap();
    pipeline.await_committed(8_000).unwrap();
    successor.stop().unwrap();
    zombie.stop().unwrap();

    pipeline.check_exact(8_000).unwrap();
}

/// Returns true if a worker that is paused here resumes in the middle of a commit, and sends it.
fn has_prepared_commit(failpoint: &str) -> bool {
    ["file_synced", "lock_taken", "message_set"].contains(&failpoint)
}

fn a_commit_with_a_lost_response_is_not_written_twice(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("lost_answer", kind).unwrap();
    pipeline.produce(6_000, &[]).unwrap();
    let mut worker = victim(&pipeline, "commit_answered=fail@2");

    worker.await_logged("only its answer was lost").unwrap();
    pipeline.await_committed(6_000).unwrap();
    worker.stop().unwrap();

    pipeline.check_exact(6_000).unwrap();
}

fn files_are_written_again_after_a_failed_fsync(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("lost_files", kind).unwrap();
    pipeline.produce(6_000, &[]).unwrap();
    let mut worker = victim(&pipeline, "file_synced=fail@2");

    worker.await_logged("cannot be made durable").unwrap();
    pipeline.await_committed(6_000).unwrap();
    worker.stop().unwrap();

    pipeline.check_exact(6_000).unwrap();
}

/// The COMMIT is delayed until after another worker has taken over.
#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn a_commit_that_arrives_after_a_takeover_is_rejected() {
    let mut pipeline = Pipeline::on_shared_services("in_flight", CatalogKind::Postgres).unwrap();
    let direct = pipeline.catalog.clone();
    let proxy = CommitProxy::start(&direct, CommitFault::CommitHeld).unwrap();
    pipeline.consumers_catalog = proxy.url(&direct).unwrap();
    pipeline.produce(3_000, &[]).unwrap();
    let mut zombie = victim(&pipeline, "");
    pipeline.await_committed(3_000).unwrap();
    proxy.arm(1);
    pipeline.produce(3_000, &[]).unwrap();
    wait::until("its COMMIT is delayed", WAIT_TIMEOUT, || Ok(proxy.injected() == 1)).unwrap();
    zombie.process().pause().unwrap();

    pipeline.consumers_catalog = direct;
    let mut successor = pipeline.start_consumer("successor", &SESSION).unwrap();
    pipeline.await_committed(6_000).unwrap();
    proxy.release();
    zombie.process().resume().unwrap();
    zombie.await_logged("batch dropped").unwrap();
    successor.stop().unwrap();
    zombie.stop().unwrap();

    pipeline.check_exact(6_000).unwrap();
}
