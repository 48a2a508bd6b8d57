//! A consumer on PostgreSQL uses DuckDB only for what needs it.

use std::fs;

use ducktide_testbed::{catalog::CatalogKind, on_one_catalog, pipeline::Pipeline, worker::Worker};

on_one_catalog!(
    a_consumer_of_an_existing_table_does_not_load_ducklake,
    a_consumer_closes_duckdb_after_it_has_read_recent_rows,
);

fn a_consumer_of_an_existing_table_does_not_load_ducklake(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("no_duckdb", kind).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    pipeline.drain(&[]).unwrap();
    pipeline.produce(20_000, &["--seed", "2"]).unwrap();

    let mut worker = pipeline.start_consumer("again", &["--flush-interval", "100ms"]).unwrap();
    pipeline.await_committed(40_000).unwrap();
    worker.await_ready(true).unwrap();

    assert!(!has_ducklake(&mut worker), "the extension is loaded");
    worker.stop().unwrap();
    pipeline.check_exact(40_000).unwrap();
}

fn a_consumer_closes_duckdb_after_it_has_read_recent_rows(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("closed_duckdb", kind).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    pipeline.drain(&[]).unwrap();

    let consumer = pipeline.consumer(&pipeline.consumers_catalog).unwrap();
    let consumer =
        consumer.args(["--dedupe-by", "event_id"]).env("RUST_LOG", "info,ducktide_lake=debug");
    let mut worker = pipeline.start_worker("dedupe", consumer).unwrap();
    worker.await_logged("DuckDB instance closed").unwrap();
    assert!(has_ducklake(&mut worker), "recent rows are read with DuckDB");
    pipeline.produce(20_000, &["--seed", "2"]).unwrap();
    pipeline.await_committed(40_000).unwrap();

    worker.stop().unwrap();
    pipeline.check_exact(40_000).unwrap();
}

/// Returns whether a consumer has loaded DuckLake: a loaded extension stays mapped.
fn has_ducklake(worker: &mut Worker) -> bool {
    let maps = fs::read_to_string(format!("/proc/{}/maps", worker.process().id())).unwrap();
    maps.contains("ducklake.duckdb_extension")
}
