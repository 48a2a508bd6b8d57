//! A lake in object storage: exactly once from Kafka to a bucket, with consumers, compactor, replay and
//! `verify`, on both catalogs. The store is versitygw.

use ducktide_testbed::{
    catalog::CatalogKind,
    compactor, on_both_catalogs,
    pipeline::{CONTINUOUS, Pipeline, WAIT_TIMEOUT},
    program::Program,
    services::shared_s3,
};

on_both_catalogs!(
    a_merged_lake_in_object_storage_equals_the_ledger,
    a_consumer_of_object_storage_that_is_killed_writes_no_duplicates,
    a_replay_in_object_storage_is_exact,
    each_wrong_setting_of_object_storage_is_one_clear_line,
);

#[test]
#[ignore = "needs an object store"]
fn the_object_store_conforms() {
    let (s3, logs) = (shared_s3(), tempfile::tempdir().unwrap());
    let path = format!("{}/lake", s3.create_bucket("conformance").unwrap());

    let suite = Program::named("examples/conformance").unwrap().envs(&s3.settings()).args([path]);

    suite.run(logs.path(), "conformance", WAIT_TIMEOUT).unwrap();
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

fn a_consumer_of_object_storage_that_is_killed_writes_no_duplicates(kind: CatalogKind) {
    let pipeline = pipeline("s3kill", kind);
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let _other = pipeline.start_consumer("other", MANY_COMMITS).unwrap();
    for run in 0..3 {
        let mut victim = pipeline.start_consumer(&format!("victim-{run}"), MANY_COMMITS).unwrap();
        let before = pipeline.catalog().unwrap().committed_offsets().unwrap();
        pipeline.await_committed(u64::try_from(before).unwrap() + 3_000).unwrap();
        victim.kill().unwrap();
    }

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
