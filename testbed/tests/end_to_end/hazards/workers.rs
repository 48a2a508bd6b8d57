//! Workers that are paused, duplicated or fenced by a replay, and commits or responses that are
//! lost.

use ducktide_testbed::{
    catalog::CatalogKind,
    faults::{CommitFault, CommitProxy, HeldCommitLock},
    on_both_catalogs, on_one_catalog,
    pipeline::{CONTINUOUS, Pipeline, TABLE, WAIT_TIMEOUT},
    wait,
};

on_both_catalogs!(
    two_groups_that_fill_one_table_write_each_record_once,
    a_running_worker_reads_replayed_records_once,
);

on_one_catalog!(a_worker_paused_until_it_lost_its_partitions_adds_no_rows,);

/// A zombie: paused in the middle of a batch, removed from its group, and resumed.
fn a_worker_paused_until_it_lost_its_partitions_adds_no_rows(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("zombie", kind).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    let mut zombie = pipeline.start_consumer("zombie", &["--flush-interval", "600"]).unwrap();
    zombie.await_metric("records_total", 20_000.0).unwrap();
    zombie.process().pause().unwrap();

    let successor = pipeline.start_consumer("successor", &["--flush-interval", "100ms"]).unwrap();
    pipeline.await_committed(20_000).unwrap();
    zombie.process().resume().unwrap();

    zombie.await_logged("revoked").unwrap();
    // As a member again it would not commit its batch for ten minutes.
    zombie.stop().unwrap();
    pipeline.produce(10_000, &[]).unwrap();
    pipeline.await_committed(30_000).unwrap();
    drop(successor);
    pipeline.drain(&[]).unwrap();
    pipeline.check_exact(30_000).unwrap();
}

/// Both groups read every record; only one of them commits it.
fn two_groups_that_fill_one_table_write_each_record_once(kind: CatalogKind) {
    let mut pipeline = Pipeline::on_shared_services("groups", kind).unwrap();
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let fast = ["--flush-interval", "200ms"];
    let first = pipeline.start_consumer("first", &fast).unwrap();
    pipeline.group.push_str("_other");
    let second = pipeline.start_consumer("second", &fast).unwrap();
    // Batches end as committed or as fenced: both groups are running.
    first.await_metric("batches_total", 10.0).unwrap();
    second.await_metric("batches_total", 10.0).unwrap();
    let published = pipeline.stop_producer(&mut producer).unwrap();

    pipeline.await_committed(published).unwrap();

    pipeline.check_exact(published).unwrap();
}

/// A replay while a worker commits: it removes the rows and moves progress back; the worker is
/// fenced and continues at the new position.
fn a_running_worker_reads_replayed_records_once(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("replay", kind).unwrap();
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let worker = pipeline.start_consumer("worker", &["--flush-interval", "200ms"]).unwrap();
    pipeline.await_committed(8_000).unwrap();

    {
        // As `ducktide replay` does: without the lock, a DELETE conflicts with every concurrent
        // commit.
        let _lock = HeldCommitLock::take(&pipeline.catalog).unwrap();
        wait::until("a replay succeeds", WAIT_TIMEOUT, || replay(&pipeline).map(|()| true))
            .unwrap();
    }
    // It notices the replay by a rejected batch, or by a refresh of the positions between two batches.
    worker.await_logged("\"epoch\":1").unwrap();
    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();

    pipeline.check_exact(published).unwrap();
    let epochs = "SELECT epoch FROM ducktide_progress WHERE partition = 0";
    assert_eq!(pipeline.catalog().unwrap().number(epochs).unwrap(), 1);
}

/// Removes all rows of partition 0 and moves its progress back to 0, in one transaction of DuckDB's
/// command line. Fails without changes if a worker commits concurrently.
fn replay(pipeline: &Pipeline) -> anyhow::Result<()> {
    let next_offset = pipeline.catalog()?.next_offset(0)?;
    pipeline.lake()?.write(&[format!(
        "BEGIN; DELETE FROM lake.{TABLE} WHERE _kafka_partition = 0; \
         CALL lake.set_commit_message('test', 'replay', extra_info => '{{\"ducktide\":1,\
         \"kind\":\"replay\",\"progress\":[{{\"source\":1,\"partition\":0,\"epoch\":0,\
         \"from\":{next_offset},\"to\":0,\"rows\":-{next_offset}}}]}}'); COMMIT;"
    )])
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn lost_responses_to_commits_cause_no_duplicates() {
    fill_through_proxy(CommitFault::ResponseLost);
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn lost_commits_cause_no_loss() {
    fill_through_proxy(CommitFault::CommitLost);
}

fn fill_through_proxy(fault: CommitFault) {
    let mut pipeline = Pipeline::on_shared_services("proxy", CatalogKind::Postgres).unwrap();
    let proxy = CommitProxy::start(&pipeline.catalog, fault).unwrap();
    pipeline.consumers_catalog = proxy.url(&pipeline.catalog).unwrap();
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let worker = pipeline.start_consumer("worker", &["--flush-interval", "200ms"]).unwrap();
    pipeline.await_committed(3_000).unwrap();

    proxy.arm(5);
    wait::until("five commits had a fault", WAIT_TIMEOUT, || Ok(proxy.injected() == 5)).unwrap();
    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();

    pipeline.check_exact(published).unwrap();
    if fault == CommitFault::ResponseLost {
        worker.await_logged("only its answer was lost").unwrap();
    }
}
