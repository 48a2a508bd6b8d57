//! Tests of the program on a lake with a SQLite catalog, without Kafka or other services.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod filled_lake;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ducktide_lake::config::{CatalogLocation, LakeConfig};
use tempfile::TempDir;

/// Directory with `lake.sqlite`.
struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// Creates a lake whose table `events` has the offsets 0 to 9 of partition 0.
    fn filled() -> Self {
        let fixture = Self::empty();
        fixture.fill();
        fixture
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn catalog(&self) -> String {
        format!("sqlite:{}", self.path().join("lake.sqlite").display())
    }

    fn fill(&self) {
        let config = LakeConfig::at(CatalogLocation::Sqlite(self.path().join("lake.sqlite")));
        let columns = [("id", "BIGINT"), ("note", "VARCHAR")];
        let values = "o AS id, CASE o WHEN 3 THEN NULL ELSE 'note ' || o END AS note";
        filled_lake::create(&config, &columns, values);
    }

    /// Runs the program without settings in the environment and without a broker.
    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ducktide"));
        command.args(arguments).current_dir(self.path());
        for name in ["DUCKLAKE_DATA_PATH", "KAFKA_PROPERTIES", "RUST_LOG", "DUCKTIDE_LOG_FORMAT"] {
            command.env_remove(name);
        }
        command.env("DUCKLAKE_CATALOG", self.catalog());
        // Port 1 refuses connections.
        command.env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");
        command
    }

    fn standard_output(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn init_creates_a_lake_once() {
    let fixture = Fixture::empty();

    let created = fixture.standard_output(&["init"]);
    assert!(created.starts_with("created a new lake\n"), "{created}");
    assert!(created.contains(&format!("catalog    {}", fixture.catalog())), "{created}");
    assert!(created.contains("lake.sqlite.files") && created.contains("layout     2"), "{created}");

    let existing = fixture.standard_output(&["init"]);
    assert!(existing.starts_with("the lake exists, nothing to do\n"), "{existing}");
}

#[test]
fn init_refuses_a_data_path_that_is_not_writable() {
    let fixture = Fixture::empty();
    let file = fixture.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let data_path = file.join("data").display().to_string();

    let refused = fixture.run(&["init", "--data-path", &data_path]);

    let error = text(&refused.stderr);
    assert_ne!(refused.status.code(), Some(0));
    assert!(error.contains("--data-path") && error.contains(&data_path), "{error}");
    assert!(!fixture.path().join("lake.sqlite").exists());
}

#[test]
fn init_checks_the_data_path_of_an_existing_lake() {
    let fixture = Fixture::empty();
    fixture.standard_output(&["init"]);
    let files = fixture.path().join("lake.sqlite.files");
    std::fs::remove_dir_all(&files).unwrap();
    std::fs::write(&files, "in the way").unwrap();

    let error = text(&fixture.run(&["init"]).stderr);

    assert!(error.contains("--data-path") && error.contains("lake.sqlite.files"), "{error}");
}

#[test]
fn init_keeps_options_that_an_operator_has_changed() {
    let fixture = Fixture::empty();
    fixture.standard_output(&["init"]);
    let set = "CALL lake.set_option('expire_older_than', '30 days')";
    fixture.standard_output(&["sql", "--write", set]);

    fixture.standard_output(&["init"]);

    let ask = "SELECT value FROM options() WHERE option_name = 'expire_older_than'";
    let options = fixture.standard_output(&["sql", "--format", "csv", ask]);
    assert_eq!(options, "value\n30 days\n");
}

#[test]
fn a_missing_lake_is_an_error_with_the_remedy() {
    let fixture = Fixture::empty();

    for arguments in [&["status"][..], &["sql", "SELECT 1"]] {
        let output = fixture.run(arguments);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}");
        assert!(text(&output.stderr).contains("`ducktide init`"), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "");
    }
    assert!(!fixture.path().join("lake.sqlite").exists(), "reading creates no lake");
}

#[test]
fn status_shows_the_lake_while_kafka_is_unavailable() {
    let fixture = Fixture::filled();

    let status = fixture.standard_output(&["status", "--kafka-timeout", "300ms"]);

    assert!(status.contains("main.events    10      1"), "{status}");
    assert!(status.contains("\nLake: healthy\n"), "{status}");
    assert!(status.contains("main.events: a full scan opens 1 file, the commits of one day ("));
    assert!(status.contains("main.events from topic events, pipeline demo"), "{status}");
    let judgement = status.lines().last().unwrap();
    assert!(judgement.starts_with("lag unknown: Kafka: "), "{status}");
    // The client may report the refused connection before or after the timeout.
    let is_known = ["connection failed", "no answer within 300ms"];
    assert!(is_known.iter().any(|reason| judgement.contains(reason)), "{status}");
}

#[test]
fn status_as_json_has_the_same_numbers() {
    let fixture = Fixture::filled();

    let status = fixture.standard_output(&["status", "--json", "--kafka-timeout", "0.3"]);

    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["tables"][0]["rows"], 10);
    assert_eq!(status["health"]["state"], "healthy");
    assert_eq!(status["health"]["tables"][0]["full_scan_files"], 1);
    let partition = &status["sources"][0]["partitions"][0];
    assert_eq!(partition["next_offset"], 10);
    assert!(partition["last_commit_age_seconds"].as_f64().unwrap() < 600.0, "{status:#}");
    assert_eq!(partition["lag"], serde_json::Value::Null);
    assert_eq!(status["judgement"]["state"], "unknown");
    assert_eq!(status["kafka"]["reachable"], false);
}

#[test]
fn status_of_a_lake_without_sources_needs_no_kafka() {
    let fixture = Fixture::empty();
    fixture.standard_output(&["init"]);

    let status = fixture.standard_output(&["status"]);

    assert!(status.lines().last().unwrap().starts_with("no source is registered"), "{status}");
}

#[test]
fn status_with_watch_is_refreshed_until_it_is_ended() {
    let fixture = Fixture::filled();
    let arguments = ["status", "--watch", "0.1", "--json", "--kafka-timeout", "0.1"];
    let mut child = fixture.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();

    let lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let first: Vec<_> = std::io::BufRead::lines(lines).take(3).collect::<Result<_, _>>().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    for line in first {
        let status: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(status["lake"]["layout_version"], 2);
    }
}

#[test]
fn sql_prints_an_aligned_table() {
    let fixture = Fixture::filled();

    let query = "SELECT id, note, _kafka_timestamp FROM events WHERE id IN (2, 3) ORDER BY id DESC";
    let table = fixture.standard_output(&["sql", query]);

    let expected = "\
id  note    _kafka_timestamp
──  ──────  ──────────────────────
 3  NULL    2026-11-01 00:00:00+00
 2  note 2  2026-11-01 00:00:00+00
(2 rows, ";
    assert!(table.starts_with(expected), "{table}");
}

#[test]
fn sql_reads_several_statements_from_standard_input() {
    let fixture = Fixture::filled();
    let mut child = fixture.command(&["sql", "--format", "csv"]);
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let sql =
        b"SELECT count(*) AS n FROM events; -- and\nSELECT max(id) AS m FROM lake.main.events;\n";
    child.stdin.take().unwrap().write_all(sql).unwrap();

    let output = child.wait_with_output().unwrap();

    assert_eq!(text(&output.stdout), "n\n10\nm\n9\n");
}

#[test]
fn sql_reads_old_snapshots_and_changes() {
    let fixture = Fixture::filled();
    let count = |sql: &str| fixture.standard_output(&["sql", "--format", "csv", sql]);
    let newest = count("SELECT max(snapshot_id) AS s FROM snapshots()");
    let newest: i64 = newest.lines().nth(1).unwrap().parse().unwrap();

    let before = count(&format!("SELECT count(*) AS n FROM events AT (VERSION => {})", newest - 1));
    assert_eq!(before, "n\n0\n");
    let changes = count(&format!(
        "SELECT change_type, count(*) AS n FROM table_changes('events', {newest}, {newest}) GROUP BY ALL"
    ));
    assert_eq!(changes, "change_type,n\ninsert,10\n");
}

#[test]
fn sql_as_json_is_typed() {
    let fixture = Fixture::filled();

    let query = "SELECT id, note, [id] AS ids FROM events WHERE id = 3";
    let rows = fixture.standard_output(&["sql", "--format", "json", query]);

    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows, serde_json::json!([{"id": 3, "note": null, "ids": [3]}]));
}

#[test]
fn sql_changes_the_lake_only_with_the_flag_write() {
    let fixture = Fixture::filled();
    let delete = "DELETE FROM events WHERE id = 1";

    let refused = fixture.run(&["sql", delete]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("read-only"), "{}", text(&refused.stderr));

    fixture.standard_output(&["sql", "--write", delete]);
    let left =
        fixture.standard_output(&["sql", "--format", "csv", "SELECT count(*) AS n FROM events"]);
    assert_eq!(left, "n\n9\n");
    let status = fixture.standard_output(&["status", "--json", "--kafka-timeout", "0.1"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["tables"][0]["rows"], 9, "rows that a delete file removes are not counted");
}

/// Without the flag, no statement, setting or function writes a file outside of the lake or within it.
#[test]
fn sql_writes_files_only_with_the_flag_write() {
    let fixture = Fixture::filled();
    let count = |directory: &Path| walk(directory).len();
    let outside = fixture.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let file = |name: &str| outside.join(name).display().to_string();
    let before = count(fixture.path());
    for statement in [
        format!("COPY (FROM events) TO '{}'", file("a.csv")),
        format!("EXPLAIN ANALYZE COPY (FROM events) TO '{}'", file("b.csv")),
        format!("EXPLAIN (ANALYZE, FORMAT json) COPY (FROM events) TO '{}'", file("c.csv")),
        format!("COPY (FROM events) TO '{}'", fixture.path().join("lake.sqlite.files/d").display()),
        format!("EXPORT DATABASE memory TO '{}'", file("e")),
        format!("ATTACH '{}' AS other", file("f.db")),
        "FORCE INSTALL httpfs".to_owned(),
        "INSTALL httpfs".to_owned(),
        "UPDATE EXTENSIONS".to_owned(),
        format!("SET profiling_output = '{}'", file("g.json")),
        format!("PRAGMA profiling_output = '{}'", file("g.json")),
        format!("SET secret_directory = '{}'", file("h")),
        "CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'x')".to_owned(),
        format!(
            "CALL enable_logging(storage => 'file', storage_config => {{'path': '{}'}})",
            file("i")
        ),
        format!(
            "FROM enable_logging(storage = 'file', storage_config = {{'path': '{}'}})",
            file("i")
        ),
        "SET enable_external_access = true".to_owned(),
        "SET lock_configuration = false".to_owned(),
        "FROM ducklake_merge_adjacent_files('lake')".to_owned(),
        "FROM lake.merge_adjacent_files()".to_owned(),
        "FROM ducklake_cleanup_old_files('lake', cleanup_all => true)".to_owned(),
        format!("PREPARE p AS COPY (FROM events) TO '{}'", file("j.csv")),
        format!("FROM read_text('{}')", fixture.path().join("lake.sqlite").display()),
    ] {
        let output = fixture.run(&["sql", &statement]);
        assert_ne!(output.status.code(), Some(0), "{statement}");
        assert_eq!(count(fixture.path()), before, "{statement}");
    }

    for statement in [
        "SET threads = 1; SET TimeZone = 'Europe/Berlin'; FROM events LIMIT 1",
        "EXPLAIN (ANALYZE) FROM events",
        "CREATE TEMP TABLE ids AS SELECT id FROM events; SELECT count(*) FROM ids",
        "FROM snapshots()",
        "SELECT filename, id FROM events",
    ] {
        fixture.standard_output(&["sql", statement]);
    }
    let copied = file("k.csv");
    fixture.standard_output(&["sql", "--write", &format!("COPY (FROM events) TO '{copied}'")]);
    assert!(Path::new(&copied).exists());
}

/// Returns the files below a directory.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { walk(&path) } else { vec![path] };
    // SQLite creates and removes its own files.
    let is_ours = |path: &PathBuf| !path.to_string_lossy().contains("lake.sqlite-");
    entries.flat_map(below).filter(is_ours).collect()
}

#[test]
fn sql_prints_an_error_of_duckdb_after_earlier_results() {
    let fixture = Fixture::filled();

    let output = fixture.run(&["sql", "SELECT 1 AS one; SELECT nope FROM events"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).starts_with("one\n"), "{}", text(&output.stdout));
    let error = text(&output.stderr);
    assert!(error.starts_with("Binder Error: ") && error.contains("\"nope\""), "{error}");
}

#[test]
fn sql_without_a_statement_is_a_wrong_command_line() {
    let output = Fixture::empty().run(&["sql", " ; -- nothing"]);

    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}

#[test]
fn attach_prints_statements_without_opening_the_lake() {
    let fixture = Fixture::empty();

    let sql = fixture.standard_output(&["attach"]);

    let attach = format!("ATTACH 'ducklake:{}' AS lake (READ_ONLY);", fixture.catalog());
    assert!(sql.contains(&attach), "{sql}");
    assert!(sql.contains("LOAD ducklake;") && sql.ends_with("USE lake;\n"), "{sql}");
}

#[test]
fn statements_of_attach_work_for_any_path() {
    for name in ["lake-", "two words ", "~", "-leading-dash-", "größe-"] {
        let fixture =
            Fixture { directory: tempfile::Builder::new().prefix(name).tempdir().unwrap() };
        fixture.fill();
        assert_attaches(&fixture);
    }
}

fn assert_attaches(fixture: &Fixture) {
    let extensions = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ducktide/extensions");
    if !Path::new(extensions).is_dir() {
        // Installed elsewhere; the statements then load the extensions of DuckDB's installation.
        return;
    }

    let sql = fixture.standard_output(&["attach", "--extension-dir", extensions]);

    let duckdb = duckdb::Connection::open_in_memory().unwrap();
    duckdb.execute_batch(&sql).unwrap();
    let rows: i64 = duckdb.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 10);
}

#[test]
fn help_documents_examples_and_exit_codes() {
    for arguments in [&["--help"][..], &["status", "--help"], &["sql", "--help"]] {
        let help = Fixture::empty().standard_output(arguments);
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{help}");
    }
}

#[test]
fn snapshots_are_listed_pinned_and_unpinned() {
    let fixture = Fixture::filled();
    let newest = fixture.standard_output(&["snapshots", "list", "--limit", "1", "--json"]);
    let newest: serde_json::Value = serde_json::from_str(&newest).unwrap();
    let id = newest["snapshots"][0]["snapshot_id"].as_i64().unwrap();
    assert_eq!(newest["snapshots"][0]["changes"][0], "inserted into main.events");

    let pinned = fixture.standard_output(&["snapshots", "pin", "audit"]);
    assert!(pinned.starts_with(&format!("pinned snapshot {id} as `audit`")), "{pinned}");
    assert!(pinned.contains("until `ducktide snapshots unpin audit`"), "{pinned}");
    let first = fixture.standard_output(&["snapshots", "pin", "first", "--snapshot", "0"]);
    assert!(first.starts_with("pinned snapshot 0"), "{first}");

    let list = fixture.standard_output(&["snapshots", "list"]);
    assert!(list.contains("inserted into main.events  audit\n"), "{list}");
    assert!(list.ends_with("kept from snapshot 0: pin `first`\n"), "{list}");

    let unpinned = fixture.standard_output(&["snapshots", "unpin", "first"]);
    assert!(unpinned.ends_with(&format!("still kept from snapshot {id}: pin `audit`\n")));
}

#[test]
fn an_invalid_pin_is_refused() {
    let fixture = Fixture::filled();
    fixture.standard_output(&["snapshots", "pin", "audit"]);

    for (arguments, reason) in [
        (&["pin", "audit"][..], "the name is taken"),
        (&["pin", "other", "--snapshot", "999"], "no such snapshot"),
        (&["pin", "two words"], "no spaces"),
        (&["unpin", "unknown"], "no such pin"),
    ] {
        let output = fixture.run(&[&["snapshots"], arguments].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains(reason), "{}", text(&output.stderr));
    }
}
