//! Workers that are late, doubled, or fenced by an operator, and answers that get lost on their way.

use std::process::{Command, Stdio};

use ducktide_testbed::{
    catalog::CatalogKind,
    duckdb_cli::{quoted, quoted_path},
    faults::{CommitFault, CommitProxy, HeldCommitLock},
    on_both_catalogs,
    pipeline::{CONTINUOUS, Pipeline, TABLE, WAIT_TIMEOUT},
    wait, workspace,
};

on_both_catalogs!(
    a_worker_paused_until_it_lost_its_partitions_adds_no_rows,
    two_groups_that_fill_one_table_write_each_record_once,
    a_running_worker_reads_replayed_records_once,
);

/// The classic zombie: stopped in the middle of a batch, out of its group, and then it wakes up.
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
    // Back in the group it would hold what it reads for ten minutes.
    zombie.stop().unwrap();
    pipeline.produce(10_000, &[]).unwrap();
    pipeline.await_committed(30_000).unwrap();
    drop(successor);
    pipeline.drain(&[]).unwrap();
    pipeline.check_exact(30_000).unwrap();
}

/// Each group reads every record; each record is taken from one of them.
fn two_groups_that_fill_one_table_write_each_record_once(kind: CatalogKind) {
    let mut pipeline = Pipeline::on_shared_services("groups", kind).unwrap();
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let fast = ["--flush-interval", "200ms"];
    let first = pipeline.start_consumer("first", &fast).unwrap();
    pipeline.group.push_str("_other");
    let second = pipeline.start_consumer("second", &fast).unwrap();
    // Both end as committed or as fenced: both are at it.
    first.await_metric("batches_total", 10.0).unwrap();
    second.await_metric("batches_total", 10.0).unwrap();
    let published = pipeline.stop_producer(&mut producer).unwrap();

    pipeline.await_committed(published).unwrap();

    pipeline.check_exact(published).unwrap();
}

/// An operator puts a partition back while workers fill it: the rows go, progress goes back, and the
/// workers, fenced, find out and read on from there.
fn a_running_worker_reads_replayed_records_once(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("replay", kind).unwrap();
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let worker = pipeline.start_consumer("worker", &["--flush-interval", "200ms"]).unwrap();
    pipeline.await_committed(8_000).unwrap();

    {
        // As an operator's tool would: a DELETE loses against every commit that comes in between.
        let _lock = HeldCommitLock::take(&pipeline.catalog).unwrap();
        wait::until("a replay gets its turn", WAIT_TIMEOUT, || replay(&pipeline).map(|()| true))
            .unwrap();
    }
    worker.await_logged("batch dropped").unwrap();
    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();

    pipeline.check_exact(published).unwrap();
    let epochs = "SELECT epoch FROM ducktide_progress WHERE partition = 0";
    assert_eq!(pipeline.catalog().unwrap().number(epochs).unwrap(), 1);
}

/// Removes all rows of partition 0 and swaps its progress back to 0, in one transaction of the
/// `DuckDB` command line. A worker may come in between; then nothing happens, and the error says so.
fn replay(pipeline: &Pipeline) -> anyhow::Result<()> {
    let next_offset = pipeline.catalog()?.next_offset(0)?;
    let load = |name| anyhow::Ok(format!("LOAD {};", quoted_path(&workspace::extension(name)?)));
    let address = match pipeline.catalog.strip_prefix("sqlite:") {
        Some(path) => format!("ducklake:sqlite:{path}"),
        None => format!("ducklake:postgres:{}", pipeline.catalog),
    };
    let statements = format!(
        "{}{}{} ATTACH {} AS lake; BEGIN; DELETE FROM lake.{TABLE} WHERE _kafka_partition = 0; \
         CALL lake.set_commit_message('test', 'replay', extra_info => '{{\"ducktide\":1,\
         \"kind\":\"replay\",\"progress\":[{{\"source\":1,\"partition\":0,\"epoch\":0,\
         \"from\":{next_offset},\"to\":0,\"rows\":-{next_offset}}}]}}'); COMMIT;",
        load("ducklake")?,
        load("sqlite_scanner")?,
        load("postgres_scanner")?,
        quoted(&address),
    );
    let output = Command::new(workspace::downloaded("duckdb-cli/duckdb")?)
        .args(["-no-init", "-bail", "-c", &statements])
        .stdin(Stdio::null())
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{errors}");
    Ok(())
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
    wait::until("five commits were broken", WAIT_TIMEOUT, || Ok(proxy.injected() == 5)).unwrap();
    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();

    pipeline.check_exact(published).unwrap();
    if fault == CommitFault::ResponseLost {
        worker.await_logged("only its answer was lost").unwrap();
    }
}
