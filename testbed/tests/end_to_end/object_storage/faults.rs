//! A store that refuses requests, loses answers, tears connections or is unreachable: it delays records,
//! and no record is lost or duplicated.

use std::time::{Duration, Instant};

use ducktide_testbed::{
    catalog::CatalogKind,
    compactor,
    faults::{RequestKind, StoreFault, StoreFaultProxy},
    on_both_catalogs,
    pipeline::{CONTINUOUS, Pipeline, WAIT_TIMEOUT},
    services::{BucketStore as _, shared_s3},
    wait,
};

use super::MANY_COMMITS;

on_both_catalogs!(
    a_throttled_store_delays_records,
    lost_answers_of_the_store_duplicate_no_record,
    torn_connections_to_the_store_duplicate_no_record,
    errors_of_the_store_end_with_it,
    an_unreachable_store_is_waited_for,
    a_list_that_is_behind_hides_no_file,
);

/// Longer than the client repeats a request.
const OUTAGE: Duration = Duration::from_secs(40);

/// Rows of a backlog whose files are uploaded in several parts.
pub(super) const BACKLOG: u64 = 1_000_000;

/// Arguments for large files from a backlog.
pub(super) const LARGE_FILES: &[&str] = &["--batchers", "1", "--flush-interval", "60s"];

/// Returns a pipeline whose programs find the store through a proxy.
pub(super) fn pipeline(test: &str, kind: CatalogKind) -> (Pipeline, StoreFaultProxy) {
    let proxy = StoreFaultProxy::start(shared_s3().port()).unwrap();
    let pipeline = Pipeline::on_shared_services(test, kind).unwrap();
    (pipeline.in_store(shared_s3(), proxy.port()).unwrap(), proxy)
}

/// Writes large files from a backlog under the fault, then small ones concurrently with a producer.
fn check_exact_under(fault: fn(u64) -> StoreFault, test: &str, kind: CatalogKind) {
    let (pipeline, proxy) = pipeline(test, kind);
    pipeline.produce(BACKLOG, &[]).unwrap();
    let until_end = [LARGE_FILES, &["--until-end"]].concat();
    let mut worker = pipeline.start_consumer("large", &until_end).unwrap();
    let is_begun = || Ok(proxy.received().of(RequestKind::Post) > 0);
    wait::until("an upload is begun", WAIT_TIMEOUT, is_begun).unwrap();
    proxy.set_fault(fault(2));
    worker.succeed().unwrap();
    assert!(proxy.disturbed().of(RequestKind::Part) > 0, "{}", proxy.disturbed());

    let before = proxy.disturbed().total();
    proxy.set_fault(fault(5));
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let start = |name| pipeline.start_consumer(name, MANY_COMMITS).unwrap();
    let _workers = ["first", "second"].map(start);
    pipeline.await_committed(BACKLOG + 4_000).unwrap();
    let is_hit = || Ok(proxy.disturbed().total() > before + 5);
    wait::until("the fault has hit more requests", WAIT_TIMEOUT, is_hit).unwrap();
    proxy.set_fault(StoreFault::None);
    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();

    pipeline.check_exact(published).unwrap();
    pipeline.verify().unwrap();
}

fn a_throttled_store_delays_records(kind: CatalogKind) {
    check_exact_under(|every| StoreFault::Throttled { every }, "s3slow", kind);
}

fn lost_answers_of_the_store_duplicate_no_record(kind: CatalogKind) {
    check_exact_under(|every| StoreFault::AnswersLost { every }, "s3lost", kind);
}

fn torn_connections_to_the_store_duplicate_no_record(kind: CatalogKind) {
    check_exact_under(|every| StoreFault::Torn { every }, "s3torn", kind);
}

/// `verify` and the compactor, which list objects, find all files that the catalog names.
fn a_list_that_is_behind_hides_no_file(kind: CatalogKind) {
    let (pipeline, proxy) = pipeline("s3behind", kind);
    proxy.set_fault(StoreFault::ListsBehind);
    pipeline.produce(20_000, &[]).unwrap();
    pipeline.drain(&["--flush-rows", "2000"]).unwrap();
    pipeline.verify().unwrap();

    let compactor = pipeline.compactor(compactor::ONCE).unwrap();
    compactor.run(pipeline.logs(), "compactor", WAIT_TIMEOUT).unwrap();
    pipeline.verify().unwrap();
    assert!(proxy.disturbed().of(RequestKind::List) > 0, "{}", proxy.disturbed());
    pipeline.check_exact(20_000).unwrap();
}

#[test]
#[ignore = "needs real services and an object store"]
fn a_lake_in_object_storage_is_exact_after_random_faults() {
    crate::chaos::assert_exact_after_faults(44, CatalogKind::Postgres, true);
}

fn errors_of_the_store_end_with_it(kind: CatalogKind) {
    let (pipeline, proxy) = pipeline("s3fail", kind);
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let worker = pipeline.start_consumer("worker", MANY_COMMITS).unwrap();
    pipeline.await_committed(1_000).unwrap();

    proxy.set_fault(StoreFault::Failing);
    worker.await_unready("the lake does not answer").unwrap();
    worker.check_alive().unwrap();
    proxy.set_fault(StoreFault::None);

    worker.await_ready(true).unwrap();
    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();
    pipeline.check_exact(published).unwrap();
    pipeline.verify().unwrap();
}

fn an_unreachable_store_is_waited_for(kind: CatalogKind) {
    let (pipeline, proxy) = pipeline("s3away", kind);
    // About 60 MB of records that cannot be written.
    let mut producer = pipeline.start_producer(&["--continuous", "--rate", "10000"]).unwrap();
    let limits = [MANY_COMMITS, &["--memory-limit", "64MiB"]].concat();
    let mut worker = pipeline.start_consumer("worker", &limits).unwrap();
    pipeline.await_committed(1_000).unwrap();
    worker.await_ready(true).unwrap();

    proxy.set_fault(StoreFault::Unreachable);
    let began = Instant::now();
    let joined = pipeline.start_consumer("joined", MANY_COMMITS).unwrap();
    worker.await_unready("the lake does not answer").unwrap();
    joined.await_logged("cannot open the lake yet").unwrap();
    let is_over = || Ok(began.elapsed() > OUTAGE);
    wait::until("the outage is longer than the retries", WAIT_TIMEOUT, is_over).unwrap();
    worker.check_alive().unwrap();
    assert!(worker.check_ready().is_err());
    let peak = worker.process().usage().peak_memory_bytes;
    proxy.set_fault(StoreFault::None);

    worker.await_ready(true).unwrap();
    joined.await_ready(true).unwrap();
    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();
    pipeline.check_exact(published).unwrap();
    pipeline.verify().unwrap();
    // DuckDB and the program's code use memory in addition to the limit.
    assert!(peak < 350 << 20, "{} MiB", peak >> 20);
}
