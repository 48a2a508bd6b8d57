//! Replay and skip with the real programs, while consumers and a producer run.

use std::{os::unix::process::ExitStatusExt as _, time::Duration};

use ducktide_testbed::{
    catalog::CatalogKind,
    compactor,
    kafka_admin::delete_records,
    on_both_catalogs,
    pipeline::{CONTINUOUS, PARTITIONS, Pipeline, TABLE, WAIT_TIMEOUT},
    program::{Program, RunningProgram},
    wait,
};
use jiff::Timestamp;

on_both_catalogs!(
    a_replay_with_running_consumers_and_producer_is_exact,
    an_idle_consumer_reads_replayed_records_without_a_restart,
    a_replay_by_timestamp_removes_later_records,
    a_replay_during_maintenance_is_exact,
    the_printed_command_fills_another_table,
    a_killed_replay_is_applied_completely_or_not_at_all,
    a_replay_with_a_lost_response_is_applied_once,
    a_replay_paused_before_its_commit_does_not_block_workers,
    a_replay_overtaken_by_another_has_nothing_to_do,
    a_replay_of_deleted_offsets_is_rejected_without_changes,
    missing_files_are_replayed_with_a_running_consumer,
    a_replay_killed_after_it_ended_a_missing_file_is_completed_by_another,
    a_stopped_partition_continues_after_a_skip_without_a_restart,
);

const FAST: &[&str] = &["--flush-interval", "100ms"];

fn replay(pipeline: &Pipeline, arguments: &[&str]) -> anyhow::Result<String> {
    pipeline.run_ducktide(&[&["replay", "--topic", &pipeline.topic], arguments].concat())
}

fn replays(pipeline: &Pipeline) -> i64 {
    let sql = "SELECT count(*) FROM ducktide_ledger WHERE kind = 'replay'";
    pipeline.catalog().unwrap().number(sql).unwrap()
}

fn a_replay_with_running_consumers_and_producer_is_exact(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("replayed", kind).unwrap();
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    let _first = pipeline.start_consumer("first", FAST).unwrap();
    let _second = pipeline.start_consumer("second", FAST).unwrap();
    pipeline.await_committed(15_000).unwrap();

    let printed = replay(&pipeline, &["--partition", "1", "--from-offset", "777"]).unwrap();
    assert!(printed.contains("AT (VERSION => "), "{printed}");
    pipeline.await_committed(20_000).unwrap();
    replay(&pipeline, &["--from-beginning"]).unwrap();

    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();
    pipeline.check_exact(published).unwrap();
    pipeline.verify().unwrap();
    assert_eq!(replays(&pipeline), 1 + i64::from(PARTITIONS));
}

fn an_idle_consumer_reads_replayed_records_without_a_restart(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("idle", kind).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    let mut worker = pipeline.start_consumer("worker", FAST).unwrap();
    pipeline.await_committed(20_000).unwrap();

    replay(&pipeline, &["--from-beginning"]).unwrap();

    pipeline.await_committed(20_000).unwrap();
    worker.await_logged("replayed or skipped").unwrap();
    worker.stop().unwrap();
    pipeline.check_exact(20_000).unwrap();
    pipeline.verify().unwrap();
}

fn a_replay_by_timestamp_removes_later_records(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("by_time", kind).unwrap();
    pipeline.produce(6_000, &[]).unwrap();
    // No record has a timestamp between the two.
    std::thread::sleep(Duration::from_millis(50));
    let since = Timestamp::now().to_string();
    std::thread::sleep(Duration::from_millis(50));
    pipeline.produce(9_000, &[]).unwrap();
    pipeline.drain(&[]).unwrap();

    let planned = replay(&pipeline, &["--from-timestamp", &since, "--dry-run"]).unwrap();
    assert!(planned.contains("would remove 9,000 rows"), "{planned}");
    let did = replay(&pipeline, &["--from-timestamp", &since]).unwrap();
    assert!(did.contains("removed 9,000 rows"), "{did}");

    let rows = format!("SELECT count(*) FROM {TABLE}");
    assert_eq!(pipeline.lake().unwrap().scalar(&rows).unwrap(), 6_000);
    pipeline.drain(&[]).unwrap();
    pipeline.check_exact(15_000).unwrap();
    pipeline.verify().unwrap();
}

fn a_replay_during_maintenance_is_exact(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("maintained", kind).unwrap();
    let mut producer = pipeline.start_producer(CONTINUOUS).unwrap();
    // Each small file of a commit has rows of all partitions, and a replay of one partition rewrites it.
    let _worker = pipeline.start_consumer("worker", &["--flush-interval", "500ms"]).unwrap();
    pipeline.await_committed(6_000).unwrap();
    let mut compactor =
        pipeline.compactor(compactor::RUN).unwrap().start(pipeline.logs(), "compactor").unwrap();

    for partition in ["0", "1", "2"] {
        replay(&pipeline, &["--partition", partition, "--from-offset", "1000"]).unwrap();
    }

    let published = pipeline.stop_producer(&mut producer).unwrap();
    pipeline.await_committed(published).unwrap();
    compactor.kill().unwrap();
    pipeline.check_exact(published).unwrap();
    pipeline.verify().unwrap();
}

fn the_printed_command_fills_another_table(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("shadow", kind).unwrap();
    pipeline.produce(10_000, &[]).unwrap();
    pipeline.drain(&[]).unwrap();

    let printed = replay(&pipeline, &["--from-beginning", "--into", "shadow"]).unwrap();
    let again = replay(&pipeline, &["--from-beginning", "--into", "shadow"]);
    assert!(again.is_err(), "it is registered now");

    let command =
        printed.lines().find(|line| line.trim().starts_with("ducktide-consumer")).unwrap();
    let words = command.split_whitespace().skip(1).map(|word| word.trim_matches('\''));
    let consumer = Program::named("ducktide-consumer")
        .unwrap()
        .args(words)
        .args(["--until-end", "--listen", "127.0.0.1:0"])
        .env("SCHEMA_REGISTRY_URL", &pipeline.schema_registry_url);
    consumer.run(pipeline.logs(), "shadow", WAIT_TIMEOUT).unwrap();

    let lake = pipeline.lake().unwrap();
    let differ = format!("SELECT count(*) FROM (FROM {TABLE} EXCEPT ALL FROM shadow)");
    assert_eq!(lake.scalar("SELECT count(*) FROM shadow").unwrap(), 10_000);
    assert_eq!(lake.scalar(&differ).unwrap(), 0);
    pipeline.verify().unwrap();
    let ambiguous = replay(&pipeline, &["--from-beginning"]);
    assert!(ambiguous.is_err(), "two tables, and none was named");
}

/// Starts a replay of a part of the rows in files, which are rewritten, with failpoints. Workers
/// wait one second for a killed replay.
fn failing_replay(pipeline: &Pipeline, failpoints: &str) -> RunningProgram {
    let what = ["replay", "--topic", &pipeline.topic, "--partition", "1", "--from-offset", "777"];
    let tool = pipeline.ducktide(&[&what[..], &["--max-transaction", "1"]].concat()).unwrap();
    let tool = tool.env("DUCKTIDE_FAILPOINTS", failpoints);
    tool.start(pipeline.logs(), "victim").unwrap()
}

/// Returns the number of rows, and checks that the progress is equal to it.
fn checked_row_count(pipeline: &Pipeline) -> i64 {
    let rows = pipeline.lake().unwrap().scalar(&format!("SELECT count(*) FROM {TABLE}")).unwrap();
    assert_eq!(rows, pipeline.catalog().unwrap().committed_offsets().unwrap());
    rows.as_i64().unwrap()
}

/// Kills at each step: kills at random moments do not hit them.
fn a_killed_replay_is_applied_completely_or_not_at_all(kind: CatalogKind) {
    const BEFORE: [&str; 6] = [
        "file_written",
        "file_synced",
        "lock_taken",
        "transaction_begun",
        "files_added",
        "message_set",
    ];
    let pipeline = Pipeline::on_shared_services("killed", kind).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    pipeline.drain(FAST).unwrap();
    for failpoint in BEFORE.into_iter().chain(["commit_answered"]) {
        let ended =
            failing_replay(&pipeline, &format!("{failpoint}=crash")).wait(WAIT_TIMEOUT).unwrap();
        assert_eq!(ended.status.signal(), Some(9), "it was killed at {failpoint}");

        let rows = checked_row_count(&pipeline);
        assert_eq!(rows == 20_000, failpoint != "commit_answered", "{failpoint}: {rows}");
        // The intent of a killed replay blocks the next one until it expires.
        std::thread::sleep(Duration::from_millis(1_100));
    }
    pipeline.drain(FAST).unwrap();
    pipeline.check_exact(20_000).unwrap();
    pipeline.verify().unwrap();
    assert_eq!(replays(&pipeline), 1);
}

fn a_replay_with_a_lost_response_is_applied_once(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("unheard", kind).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    pipeline.drain(FAST).unwrap();

    failing_replay(&pipeline, "commit_answered=fail").succeed(WAIT_TIMEOUT).unwrap();

    assert!(checked_row_count(&pipeline) < 20_000);
    assert_eq!(replays(&pipeline), 1);
    pipeline.drain(FAST).unwrap();
    pipeline.check_exact(20_000).unwrap();
    pipeline.verify().unwrap();
}

/// The replay is paused before COMMIT with its locks held. Workers continue, and the replay is
/// fenced when it resumes.
fn a_replay_paused_before_its_commit_does_not_block_workers(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("paused", kind).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    let _worker = pipeline.start_consumer("worker", FAST).unwrap();
    pipeline.await_committed(20_000).unwrap();

    let mut paused = failing_replay(&pipeline, "message_set=pause");
    wait::until("the replay is paused", WAIT_TIMEOUT, || Ok(paused.is_stopped())).unwrap();
    pipeline.produce(10_000, &[]).unwrap();
    let all = || Ok(pipeline.catalog()?.committed_offsets()? == 30_000);
    wait::until("workers continue", WAIT_TIMEOUT, all).unwrap();
    paused.resume().unwrap();
    paused.succeed(WAIT_TIMEOUT).unwrap();

    pipeline.await_committed(30_000).unwrap();
    assert_eq!(replays(&pipeline), 1, "fenced once, applied once");
    pipeline.check_exact(30_000).unwrap();
    pipeline.verify().unwrap();
}

/// The ledger that it has read is outdated when it reads the table.
fn a_replay_overtaken_by_another_has_nothing_to_do(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("overtaken", kind).unwrap();
    pipeline.produce(20_000, &[]).unwrap();
    pipeline.drain(FAST).unwrap();

    let mut overtaken = failing_replay(&pipeline, "progress_read=pause");
    wait::until("the replay is paused", WAIT_TIMEOUT, || Ok(overtaken.is_stopped())).unwrap();
    replay(&pipeline, &["--partition", "1", "--from-offset", "777"]).unwrap();
    overtaken.resume().unwrap();
    overtaken.succeed(WAIT_TIMEOUT).unwrap();

    assert_eq!(replays(&pipeline), 1);
    assert!(checked_row_count(&pipeline) < 20_000);
    pipeline.drain(FAST).unwrap();
    pipeline.check_exact(20_000).unwrap();
    pipeline.verify().unwrap();
}

fn a_replay_of_deleted_offsets_is_rejected_without_changes(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("lost", kind).unwrap();
    pipeline.produce(9_000, &[]).unwrap();
    pipeline.drain(&[]).unwrap();
    delete_records(&pipeline.bootstrap_servers, &pipeline.topic, 1, 500).unwrap();

    let one = ["--partition", "1", "--from-offset"];
    let refused = [
        vec!["--from-beginning"],
        [&one[..], &["499"]].concat(),
        // Close to the deleted offsets: Kafka can delete it before it is read.
        [&one[..], &["501"]].concat(),
        [&one[..], &["999999"]].concat(),
        vec!["--from-offset", "7"],
        vec!["--from-beginning", "--partition", "77"],
    ];
    for arguments in refused {
        assert!(replay(&pipeline, &arguments).is_err(), "{arguments:?}");
    }
    assert_eq!(replays(&pipeline), 0);
    pipeline.check_exact(9_000).unwrap();

    replay(&pipeline, &[&one[..], &["501", "--force"]].concat()).unwrap();
    pipeline.drain(&[]).unwrap();
    pipeline.check_exact(9_000).unwrap();
    pipeline.verify().unwrap();
}

/// Removes the newest data file of the lake.
fn remove_a_file(pipeline: &Pipeline) {
    let sql = "SELECT data_file FROM ducklake_list_files('lake', 'events') ORDER BY 1 DESC LIMIT 1";
    let file = pipeline.lake().unwrap().scalar(sql).unwrap();
    std::fs::remove_file(file.as_str().unwrap()).unwrap();
    let found = verify_output(pipeline);
    assert!(found.contains("`ducktide replay --topic TOPIC --from-missing-files`"), "{found}");
}

/// Returns the output of `ducktide verify --json`.
fn verify_output(pipeline: &Pipeline) -> String {
    let tool = pipeline.ducktide(&["verify", "--json"]).unwrap();
    let mut running = tool.start(pipeline.logs(), "verify_output").unwrap();
    running.wait(WAIT_TIMEOUT).unwrap();
    running.output().unwrap()
}

fn missing_files_are_replayed_with_a_running_consumer(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("missing", kind).unwrap();
    let _worker = pipeline.start_consumer("worker", FAST).unwrap();
    for round in 1..=2 {
        pipeline.produce(9_000, &[]).unwrap();
        pipeline.await_committed(round * 9_000).unwrap();
    }
    remove_a_file(&pipeline);

    let planned = replay(&pipeline, &["--from-missing-files", "--dry-run"]).unwrap();
    let did = replay(&pipeline, &["--from-missing-files"]).unwrap();

    assert!(planned.contains("in 1 missing file"), "{planned}");
    assert!(did.contains("in 1 missing file: earlier snapshots"), "{did}");
    pipeline.await_committed(18_000).unwrap();
    pipeline.check_exact(18_000).unwrap();
    pipeline.verify().unwrap();
    let again = replay(&pipeline, &["--from-missing-files"]).unwrap();
    assert!(again.contains("nothing to do"), "{again}");
}

fn a_replay_killed_after_it_ended_a_missing_file_is_completed_by_another(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("half_missing", kind).unwrap();
    pipeline.produce(9_000, &[]).unwrap();
    pipeline.drain(FAST).unwrap();
    remove_a_file(&pipeline);
    let missing = ["replay", "--topic", &pipeline.topic, "--from-missing-files"];
    let victim = pipeline.ducktide(&[&missing[..], &["--max-transaction", "1"]].concat()).unwrap();
    let victim = victim.env("DUCKTIDE_FAILPOINTS", "missing_files_ended=crash");

    let ended = victim.start(pipeline.logs(), "victim").unwrap().wait(WAIT_TIMEOUT).unwrap();

    assert_eq!(ended.status.signal(), Some(9));
    let rows = format!("SELECT count(*) FROM (FROM {TABLE} WHERE _kafka_offset >= 0)");
    assert!(pipeline.lake().unwrap().scalar(&rows).unwrap().as_i64().unwrap() < 9_000);
    let found = verify_output(&pipeline);
    assert!(found.contains("\"rows_missing\": 1"), "{found}");
    // The intent of a killed replay blocks the next one until it expires.
    std::thread::sleep(Duration::from_millis(1_100));
    replay(&pipeline, &["--from-beginning"]).unwrap();
    pipeline.drain(FAST).unwrap();
    pipeline.check_exact(9_000).unwrap();
    pipeline.verify().unwrap();
}

fn a_stopped_partition_continues_after_a_skip_without_a_restart(kind: CatalogKind) {
    let pipeline = Pipeline::on_shared_services("skipped", kind).unwrap();
    pipeline.produce(3_000, &[]).unwrap();
    pipeline.drain(&[]).unwrap();
    pipeline.produce(30_000, &[]).unwrap();
    let mut catalog = pipeline.catalog().unwrap();
    let next_offset = catalog.next_offset(1).unwrap();
    delete_records(&pipeline.bootstrap_servers, &pipeline.topic, 1, next_offset + 100).unwrap();
    let mut worker = pipeline.start_consumer("worker", FAST).unwrap();
    let logged = worker.await_logged("Kafka does not have the lake's offset").unwrap();
    worker.await_ready(false).unwrap();

    // With the command in the log line.
    let command = logged["resolve_with"].as_str().unwrap().to_owned();
    let words: Vec<_> = command.split_whitespace().skip(1).collect();
    assert_eq!(words[0], "skip");
    let printed = pipeline.run_ducktide(&words).unwrap();

    assert!(printed.contains("gave up 100 offsets"), "{printed}");
    pipeline.await_committed(33_000).unwrap();
    worker.await_ready(true).unwrap();
    worker.stop().unwrap();
    let rows = format!("SELECT count(*) FROM {TABLE}");
    let lake = pipeline.lake().unwrap();
    wait::until("all others are rows", WAIT_TIMEOUT, || Ok(lake.scalar(&rows)? == 32_900)).unwrap();
    pipeline.run_ducktide(&["verify", "--deep"]).unwrap();
}
