//! The compactor as a program: killed at failpoints, started twice, paused, and without its catalog
//! or disk.

use std::io::Write as _;
use std::time::Duration;

use ducktide_lake::{Access, DuckLake};
use ducktide_testbed::{
    catalog::CatalogKind,
    faults::SmallDisk,
    http,
    program::{Program, RunningProgram},
    services::{Postgres, Service as _, free_port, log_folder},
    wait,
};
use tempfile::TempDir;

use super::{case::Case, live_files, on_both_lakes};

on_both_lakes!(
    a_second_pass_has_nothing_to_do,
    a_plan_changes_nothing_and_gives_reasons,
    a_compactor_killed_before_the_swap_leaves_only_orphans,
    a_compactor_killed_after_the_swap_has_merged_the_files,
    a_standby_takes_over_within_seconds,
    a_single_pass_next_to_a_leader_is_rejected,
    a_stopped_compactor_completes_its_operation,
    workers_commit_during_merges,
    a_full_disk_changes_nothing_and_the_next_pass_succeeds,
    a_compactor_waits_while_the_catalog_has_a_newer_format,
);

const WAIT_TIMEOUT: Duration = Duration::from_mins(3);

/// Arguments with tiers for the small files of a test.
const SMALL: &[&str] = &["--tiers", "4KiB,16KiB", "--target-file-size", "1MiB"];
const SHORT: &[&str] = &[
    "--max-transaction",
    "0.2",
    "--expire-older-than",
    "1",
    "--delete-older-than",
    "1",
    "--orphans-older-than",
    "1",
    "--accept-retention-that-breaks-readers",
];

/// Compactor with its logs.
struct Compactor {
    running: RunningProgram,
    _logs: TempDir,
}

impl Compactor {
    fn start(case: &Case, arguments: &[&str], failpoints: &str) -> Self {
        let logs = TempDir::new().unwrap();
        let running = Program::named("ducktide-compactor")
            .unwrap()
            .args(arguments)
            .args(["--catalog", &case.address])
            .env("DUCKTIDE_LOG_FORMAT", "json")
            .env("DUCKTIDE_FAILPOINTS", failpoints)
            .start(logs.path(), "compactor")
            .unwrap();
        Self { running, _logs: logs }
    }

    fn run(case: &Case) -> Self {
        Self::start(case, &[&["run"], SMALL].concat(), "")
    }

    fn await_logged(&self, text: &str) {
        wait::until(text, WAIT_TIMEOUT, || Ok(self.running.log()?.contains(text))).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.running.wait(WAIT_TIMEOUT).unwrap().status.code()
    }
}

fn once(case: &Case, more: &[&str]) -> Compactor {
    let mut compactor = Compactor::start(case, &[&["once"], SMALL, more].concat(), "");
    let code = compactor.exit_code();
    assert_eq!(code, Some(0), "{}", compactor.running.log().unwrap());
    compactor
}

/// Returns the number of Parquet files in the data path.
fn files_on_disk(case: &Case) -> usize {
    let mut lake = DuckLake::open(&case.config, Access::Read).unwrap();
    let mut pending = vec![std::path::PathBuf::from(lake.overview().unwrap().data_path)];
    let mut files = 0;
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else if entry.path().extension().is_some_and(|ending| ending == "parquet") {
                files += 1;
            }
        }
    }
    files
}

fn a_second_pass_has_nothing_to_do(kind: CatalogKind) {
    let mut case = Case::filled(kind, 60);

    once(&case, &[]);

    let files = live_files(&mut case);
    assert!(files < 12, "{files}");
    assert_eq!((case.count(), case.position(0)), (600, (0, 700)));
    let newest = case.number("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')");
    once(&case, &[]);
    assert_eq!(case.number("SELECT max(snapshot_id) FROM ducklake_snapshots('lake')"), newest);
}

fn a_plan_changes_nothing_and_gives_reasons(kind: CatalogKind) {
    let mut case = Case::filled(kind, 20);

    let mut plan = Compactor::start(&case, &[&["plan"], SMALL].concat(), "");
    assert_eq!(plan.exit_code(), Some(0), "{}", plan.running.log().unwrap());

    let text = plan.running.output().unwrap();
    assert!(text.contains("main.events") && text.contains("files together reach"), "{text}");
    assert_eq!(live_files(&mut case), 20);
    let mut json = Compactor::start(&case, &[&["plan", "--json"], SMALL].concat(), "");
    assert_eq!(json.exit_code(), Some(0));
    let json: serde_json::Value = serde_json::from_str(&json.running.output().unwrap()).unwrap();
    assert!(json["operations"][0]["files"].as_u64().unwrap() > 1, "{json}");
}

fn a_compactor_killed_before_the_swap_leaves_only_orphans(kind: CatalogKind) {
    let mut case = Case::filled(kind, 20);

    let arguments = [&["once"], SMALL].concat();
    let mut killed = Compactor::start(&case, &arguments, "files_merged=crash");
    assert_eq!(killed.exit_code(), None, "it is ended by a signal");

    assert_eq!((live_files(&mut case), case.count()), (20, 200));
    assert!(files_on_disk(&case) > 20, "the merged file was written");
    std::thread::sleep(Duration::from_millis(1_200));
    once(&case, SHORT);
    assert_eq!(case.count(), 200);
    std::thread::sleep(Duration::from_millis(1_200));
    once(&case, SHORT);
    assert_eq!(files_on_disk(&case), usize::try_from(live_files(&mut case)).unwrap());
}

fn a_compactor_killed_after_the_swap_has_merged_the_files(kind: CatalogKind) {
    let mut case = Case::filled(kind, 20);

    let arguments = [&["once"], SMALL].concat();
    let mut killed = Compactor::start(&case, &arguments, "files_exchanged=crash");
    assert_eq!(killed.exit_code(), None, "it is ended by a signal");

    assert!(live_files(&mut case) < 20);
    assert_eq!(case.count(), 200);
}

fn a_standby_takes_over_within_seconds(kind: CatalogKind) {
    let case = Case::filled(kind, 3);
    let mut leader = Compactor::run(&case);
    leader.await_logged("leadership acquired");
    let standby = Compactor::run(&case);
    standby.await_logged("standby, another");
    assert!(!standby.running.log().unwrap().contains("leadership acquired"));

    leader.running.kill().unwrap();

    let takeover_timeout = Duration::from_secs(10);
    wait::until("the standby is the leader", takeover_timeout, || {
        Ok(standby.running.log()?.contains("leadership acquired"))
    })
    .unwrap();
}

fn a_single_pass_next_to_a_leader_is_rejected(kind: CatalogKind) {
    let case = Case::filled(kind, 3);
    let leader = Compactor::run(&case);
    leader.await_logged("leadership acquired");

    let mut second = Compactor::start(&case, &[&["once"], SMALL].concat(), "");

    assert_eq!(second.exit_code(), Some(3));
    assert!(second.running.log().unwrap().contains("another compactor is the leader"));
}

fn a_stopped_compactor_completes_its_operation(kind: CatalogKind) {
    let mut case = Case::filled(kind, 40);
    let mut compactor = Compactor::run(&case);
    compactor.await_logged("\"merge started\"");

    compactor.running.terminate().unwrap();

    assert_eq!(compactor.exit_code(), Some(0), "{}", compactor.running.log().unwrap());
    assert_eq!(case.count(), 400);
    let files = ducktide_maintenance::files_to_merge(
        &mut DuckLake::open(&case.config, Access::Read).unwrap(),
        1 << 20,
    );
    assert!(files.is_ok());
}

fn workers_commit_during_merges(kind: CatalogKind) {
    let mut case = Case::filled(kind, 40);
    let arguments = [&["run", "--tier-intervals", "0.1"], SMALL].concat();
    let mut compactor = Compactor::start(&case, &arguments, "");
    compactor.await_logged("leadership acquired");

    case.fill(500, 60);
    compactor.await_logged("\"files merged\"");
    compactor.running.terminate().unwrap();

    assert_eq!(compactor.exit_code(), Some(0), "{}", compactor.running.log().unwrap());
    assert_eq!((case.count(), case.position(0)), (1_000, (0, 1_100)));
    assert!(live_files(&mut case) < 100);
}

/// The server can close a connection without the client noticing: the lock is then free, and
/// another compactor becomes the leader. The merge of the first one must not be committed.
#[test]
#[ignore = "needs PostgreSQL"]
fn a_leader_paused_until_it_lost_its_lock_changes_nothing() {
    let mut case = Case::filled(CatalogKind::Postgres, 20);
    let arguments = [&["run"], SMALL].concat();
    let mut paused = Compactor::start(&case, &arguments, "files_merged=pause");
    wait::until("it is paused", WAIT_TIMEOUT, || Ok(paused.running.is_stopped())).unwrap();
    case.edit_catalog(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );

    once(&case, &[]);
    let files = live_files(&mut case);
    assert!(files < 20, "{files}");
    paused.running.resume().unwrap();
    paused.await_logged("leadership lost");

    assert_eq!((live_files(&mut case), case.count()), (files, 200));
    paused.running.terminate().unwrap();
    assert_eq!(paused.exit_code(), Some(0), "{}", paused.running.log().unwrap());
}

fn a_full_disk_changes_nothing_and_the_next_pass_succeeds(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let data_path = case.config.data_path.clone().unwrap();
    // The mounted disk hides the claim that `init` has written.
    let claim = std::fs::read(data_path.join(".ducktide-lake")).unwrap();
    let disk = match SmallDisk::mount(&data_path, 16) {
        Ok(disk) => disk,
        Err(error) => {
            // Not with a macro: the test harness captures its output.
            let skipped = format!("SKIPPED: a disk cannot be mounted here: {error:#}\n");
            return std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        }
    };
    std::fs::write(data_path.join(".ducktide-lake"), claim).unwrap();
    case.fill(100, 12);
    disk.fill().unwrap();

    let mut compactor = Compactor::start(&case, &[&["once"], SMALL].concat(), "");
    compactor.exit_code();
    let log = compactor.running.log().unwrap();
    assert!(log.contains("No space left on device"), "{log}");
    assert_eq!((case.count(), live_files(&mut case)), (120, 12));

    disk.free_space().unwrap();
    once(&case, &[]);
    assert_eq!((case.count(), live_files(&mut case)), (120, 1));
    std::thread::sleep(Duration::from_secs(2));
    once(&case, SHORT);
    // The file of the failed merge is removed.
    assert_eq!((case.count(), files_on_disk(&case)), (120, 1));
}

/// An outage is logged at its beginning and at its end, not at each retry, every two seconds.
#[test]
#[ignore = "needs PostgreSQL"]
fn an_unavailable_catalog_is_logged_once() {
    let mut postgres = Postgres::start(&log_folder().unwrap()).unwrap();
    let case = Case::in_database(&postgres.create_database("unavailable").unwrap(), "public");
    let mut compactor = Compactor::run(&case);
    compactor.await_logged("leadership acquired");

    postgres.kill().unwrap();
    compactor.await_logged("lake unavailable, retrying");
    std::thread::sleep(Duration::from_secs(8));
    let log = compactor.running.log().unwrap();
    assert_eq!(log.matches("lake unavailable, retrying").count(), 1, "{log}");

    postgres.restart().unwrap();
    compactor.await_logged("lake available again");
    compactor.running.terminate().unwrap();
    assert_eq!(compactor.exit_code(), Some(0), "{}", compactor.running.log().unwrap());
}

/// The compactor must keep running: the alert needs its metric, and Prometheus cannot scrape a
/// program that has ended.
fn a_compactor_waits_while_the_catalog_has_a_newer_format(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    let set_version = |case: &mut Case, version: &str| {
        case.edit_catalog(&format!(
            "UPDATE ducklake_metadata SET value = '{version}' WHERE key = 'version'"
        ));
    };
    let port = free_port().unwrap();
    let listen = format!("127.0.0.1:{port}");
    let await_metric = |text: &str| {
        wait::until(text, WAIT_TIMEOUT, || {
            let metrics = http::get(port, "/metrics").unwrap_or_default();
            Ok(metrics.contains(&format!("\nducktide_compactor_{text}\n")))
        })
        .unwrap();
    };
    set_version(&mut case, "1.1");

    let compactor = Compactor::start(&case, &[&["run", "--listen", &listen], SMALL].concat(), "");

    await_metric("catalog_format_unknown 1");
    let unready = http::get(port, "/readyz").unwrap_err().to_string();
    assert!(unready.contains("catalog_format=`1.1`"), "{unready}");
    set_version(&mut case, "1.0");
    await_metric("catalog_format_unknown 0");
    await_metric("leader 1");
    drop(compactor);
    assert_eq!(case.count(), 30);
}
