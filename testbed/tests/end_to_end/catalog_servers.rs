//! A PostgreSQL catalog behind a connection pooler, and one with a standby that takes over.

use std::path::PathBuf;

use ducktide_testbed::{
    catalog::Catalog,
    pipeline::{CONTINUOUS, Pipeline, WAIT_TIMEOUT, unique},
    services::{
        PgBouncer, PoolMode, Postgres, Service as _, log_folder, shared_kafka, shared_postgres,
        shared_registry,
    },
};

fn logs(service: &str) -> PathBuf {
    log_folder().unwrap().join(unique(service))
}

fn pipeline(name: &str, catalog: String) -> Pipeline {
    let servers = shared_kafka().bootstrap_servers();
    Pipeline::new(name, &servers, &shared_registry().url(), Some(catalog)).unwrap()
}

/// Returns the number of committed offsets.
fn committed(catalog: &str) -> u64 {
    Catalog::at(catalog).unwrap().committed_offsets().unwrap().try_into().unwrap()
}

#[test]
#[ignore = "needs Kafka, the schema registry, PostgreSQL and PgBouncer"]
fn a_pooler_in_transaction_mode_is_refused() {
    let name = unique("transaction_pool");
    let direct = shared_postgres().create_database(&name).unwrap();
    let pooler =
        PgBouncer::start(&logs("pgbouncer"), shared_postgres(), PoolMode::Transaction).unwrap();
    let mut pipeline = pipeline(&name, direct);
    pipeline.produce(1_000, &[]).unwrap();
    pipeline.drain(&[]).unwrap();

    let direct = std::mem::replace(&mut pipeline.catalog, pooler.url(&name));
    let consumer = pipeline.consumer(&pipeline.catalog).unwrap();
    let compactor = pipeline.compactor(&["once"]).unwrap();
    let init = pipeline.ducktide(&["init"]).unwrap();
    for (program, log) in [(consumer, "consumer"), (compactor, "compactor"), (init, "init")] {
        let mut refused = program.start(pipeline.logs(), log).unwrap();
        let code = refused.wait(WAIT_TIMEOUT).unwrap().status.code();
        let printed = refused.log().unwrap();
        assert_eq!(code, Some(2), "{log}: {printed}");
        assert!(
            printed.contains("DUCKLAKE_CATALOG: a connection pooler in transaction"),
            "{printed}"
        );
        assert!(printed.contains("in session mode"), "{printed}");
    }
    pipeline.catalog = direct;
    pipeline.check_exact(1_000).unwrap();
}

#[test]
#[ignore = "needs Kafka, the schema registry, PostgreSQL and PgBouncer"]
fn a_pooler_in_session_mode_can_be_used() {
    let name = unique("session_pool");
    let direct = shared_postgres().create_database(&name).unwrap();
    let pooler =
        PgBouncer::start(&logs("pgbouncer"), shared_postgres(), PoolMode::Session).unwrap();
    let mut pipeline = pipeline(&name, pooler.url(&name));
    pipeline.produce(1_000, &[]).unwrap();

    pipeline.drain(&[]).unwrap();

    pipeline.catalog = direct;
    pipeline.check_exact(1_000).unwrap();
}

/// The standby misses the newest commits, as one without synchronous replication can. Their files are in the
/// lake's folder, but the catalog that takes over does not have them: the records are read again.
#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn a_standby_that_misses_commits_takes_over() {
    let name = unique("failover");
    let mut primary = Postgres::start(&logs("primary")).unwrap();
    let catalog = primary.create_database(&name).unwrap();
    let standby = primary.start_standby(&logs("standby")).unwrap();
    let hosts = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/{name}?target_session_attrs=read-write",
        primary.port(),
        standby.port()
    );
    let mut pipeline = pipeline(&name, hosts);
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let mut worker = pipeline.start_consumer("worker", &["--flush-interval", "100ms"]).unwrap();
    pipeline.catalog = catalog;
    pipeline.await_committed(3_000).unwrap();
    standby.stop_replication().unwrap();
    pipeline.await_committed(committed(&pipeline.catalog) + 3_000).unwrap();
    let missed = committed(&pipeline.catalog);

    primary.kill().unwrap();
    worker.await_ready(false).unwrap();
    standby.promote().unwrap();

    pipeline.catalog = standby.url(&name);
    assert!(committed(&pipeline.catalog) < missed, "the standby has every commit");
    worker.await_ready(true).unwrap();
    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();
    worker.stop().unwrap();
    pipeline.check_exact(published).unwrap();
}
