//! Checks that lakes in all kinds of stores pass.

use std::fs;

use ducktide_testbed::{
    compactor, duckdb_cli,
    pipeline::{Pipeline, WAIT_TIMEOUT},
    program::Program,
    services::BucketStore,
    wait, workspace,
};

/// Points at which consumers are killed.
pub(super) const FAILPOINTS: [&str; 3] = ["file_writing", "file_written", "commit_answered"];

/// Runs the conformance suite in a new bucket.
pub(super) fn check_conformance(store: &dyn BucketStore) {
    check_conformance_below(&store.create_bucket("conformance").unwrap(), &store.settings());
}

pub(super) fn check_conformance_below(bucket: &str, settings: &[(&'static str, String)]) {
    let logs = tempfile::tempdir().unwrap();
    let suite = Program::named("examples/conformance").unwrap();
    let suite = suite.envs(settings).args([format!("{bucket}/lake")]);
    suite.run(logs.path(), "conformance", WAIT_TIMEOUT).unwrap();
}

/// Merges files, expires snapshots, removes files and orphans, and replays a partition.
pub(super) fn check_maintenance(pipeline: &Pipeline, published: u64) {
    let mut run = 0;
    wait::until("only the files of the lake remain", WAIT_TIMEOUT, || {
        run += 1;
        let once = pipeline.compactor(compactor::ONCE)?;
        once.run(pipeline.logs(), &format!("compactor-{run}"), WAIT_TIMEOUT)?;
        let lake = pipeline.lake()?;
        let listed = lake.scalar("SELECT count(*) FROM ducklake_list_files('lake', 'events')")?;
        let pattern = format!("{}/main/**/*.parquet", pipeline.data_path().display());
        let stored = lake.scalar(&format!("SELECT count(*) FROM glob('{pattern}')"))?;
        Ok(listed == stored)
    })
    .unwrap();
    pipeline.check_exact(published).unwrap();
    pipeline.verify().unwrap();

    let replay = ["replay", "--topic", &pipeline.topic, "--partition", "1", "--from-offset", "77"];
    pipeline.run_ducktide(&replay).unwrap();
    pipeline.drain(&[]).unwrap();
    pipeline.check_exact(published).unwrap();
    pipeline.verify().unwrap();
}

/// Counts the rows with `ducktide sql`, and with DuckDB's command line by the statements of `attach`.
pub(super) fn check_queries(pipeline: &Pipeline, rows: u64) {
    const QUERY: &str = "SELECT 'rows: ' || count(*) FROM events";
    let expected = format!("rows: {rows}");
    let found = pipeline.run_ducktide(&["sql", QUERY]).unwrap();
    assert!(found.contains(&expected), "{found}");

    let extensions = workspace::downloaded("extensions").unwrap();
    let attach = pipeline.ducktide(&["attach"]).unwrap().env("DUCKTIDE_EXTENSION_DIR", extensions);
    let statements = attach.run(pipeline.logs(), "attach", WAIT_TIMEOUT).unwrap();
    let script = pipeline.file("attach.sql");
    fs::write(&script, format!("{statements}{QUERY};\n")).unwrap();
    let shell = duckdb_cli::program(&script).unwrap().envs(pipeline.settings());
    let found = shell.run(pipeline.logs(), "duckdb", WAIT_TIMEOUT).unwrap();
    assert!(found.contains(&expected), "{found}");
}

/// Checks that a setting makes `init` fail, with one line that contains the remedy.
pub(super) fn check_refused(pipeline: &Pipeline, name: &str, value: &str, expected: &str) {
    let init = pipeline.ducktide(&["init"]).unwrap().env(name, value);
    let log = pipeline.logs().join("refused.log");
    let _ = fs::remove_file(&log);
    init.run(pipeline.logs(), "refused", WAIT_TIMEOUT).unwrap_err();
    let text = fs::read_to_string(log).unwrap();
    assert!(text.contains(expected), "{name}=`{value}`: {text}");
    assert_eq!(text.trim().lines().count(), 1, "{name}=`{value}`: {text}");
}
