//! Tests of the output and the exit codes of `ducktide verify`, without Kafka or other services. The
//! checks themselves are tested with the lake.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod filled_lake;

use std::path::Path;
use std::process::{Command, Output};

use ducktide_lake::config::{CatalogLocation, LakeConfig};
use ducktide_lake::{Access, DuckLake};
use filled_lake::FILE;
use tempfile::TempDir;

/// Lake whose table `events` has the offsets 0 to 9 of partition 0.
struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { directory: tempfile::tempdir().unwrap() };
        let config = fixture.config();
        filled_lake::create(&config, &[("event_id", "VARCHAR")], "'e-' || o AS event_id");
        fixture
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn config(&self) -> LakeConfig {
        LakeConfig::at(CatalogLocation::Sqlite(self.path().join("lake.sqlite")))
    }

    fn sql(&self, statements: &str) {
        let mut lake = DuckLake::open(&self.config(), Access::Operate).unwrap();
        lake.connection().unwrap().execute_batch(statements).unwrap();
    }

    fn remove_data_file(&self) {
        std::fs::remove_file(self.path().join("lake.sqlite.files/main/events").join(FILE)).unwrap();
    }

    fn verify(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ducktide"));
        command.arg("verify").args(arguments).current_dir(self.path());
        for name in ["DUCKLAKE_DATA_PATH", "RUST_LOG", "DUCKTIDE_LOG_FORMAT"] {
            command.env_remove(name);
        }
        let catalog = format!("sqlite:{}", self.path().join("lake.sqlite").display());
        command.env("DUCKLAKE_CATALOG", catalog).output().unwrap()
    }

    /// Runs the command; returns exit status and standard output.
    fn verified(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.verify(arguments);
        assert_eq!(text(&output.stderr), "", "nothing is reported twice");
        (output.status.code().unwrap(), text(&output.stdout))
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.verified(&arguments).1).unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_lake_without_findings_is_exact() {
    let fixture = Fixture::new();

    let (status, by_catalog) = fixture.verified(&[]);
    assert_eq!(status, 0, "{by_catalog}");
    let judgement = by_catalog.lines().last().unwrap();
    assert!(
        judgement.starts_with("exact: nothing lost, no duplicates; 10 rows of 1 partition"),
        "{by_catalog}"
    );
    assert!(by_catalog.contains("main.events  events           1       2    10"), "{by_catalog}");

    let (status, deep) = fixture.verified(&["--deep"]);
    assert_eq!(status, 0, "{deep}");
    assert!(deep.contains("offsets of 10 rows read"), "{deep}");
    assert!(deep.lines().last().unwrap().ends_with("(every offset read)"), "{deep}");
}

#[test]
fn a_finding_is_explained_and_has_its_own_exit_status() {
    let fixture = Fixture::new();
    fixture.sql("INSERT INTO lake.events FROM lake.events WHERE _kafka_offset = 4");

    let (status, text) = fixture.verified(&["--deep"]);

    assert_eq!(status, 11, "{text}");
    let expected = "! records are in the table more than once (1 row): \
                    partition 0, topic events, table main.events\n";
    assert!(text.contains(expected), "{text}");
    for part in ["offsets: 4\n", "  meaning: ", "  next:    "] {
        assert!(text.contains(part), "{part} {text}");
    }
    let judgement = "NOT EXACT: 1 finding, the first is rows_doubled, exit 11";
    assert_eq!(text.lines().last(), Some(judgement));
}

#[test]
fn the_first_of_several_findings_decides_the_exit_status() {
    let fixture = Fixture::new();
    fixture.remove_data_file();
    fixture.sql("UPDATE __ducklake_metadata_lake.ducktide_progress SET next_offset = 12");

    let report = fixture.json(&[]);

    assert_eq!(report["judgement"]["exit_status"], 14);
    assert_eq!(report["judgement"]["exact"], false);
    let numbers = serde_json::json!({"data_file_missing": 1, "progress_differs": 1});
    assert_eq!(report["judgement"]["findings"], numbers);
    assert_eq!(fixture.verified(&[]).0, 14);
}

#[test]
fn the_json_names_stay_stable() {
    let fixture = Fixture::new();
    fixture.sql("UPDATE __ducklake_metadata_lake.ducktide_progress SET next_offset = 12");
    fixture.sql("INSERT INTO lake.events VALUES ('x', NULL, NULL, NULL, NULL)");

    let report = fixture.json(&["--deep"]);

    let names = |value: &serde_json::Value| {
        value.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        names(&report),
        "acknowledged elapsed_seconds files findings judgement lake mode notes rows_read sources"
    );
    assert_eq!(names(&report["lake"]), "catalog snapshot_id");
    assert_eq!(names(&report["files"]), "bytes count");
    assert_eq!(
        names(&report["sources"][0]),
        "dead duplicates gaps given_up partitions ranges rows table tombstones topic"
    );
    let finding = &report["findings"][0];
    assert_eq!(
        names(finding),
        "count detail exit_status file finding meaning next offsets partition table topic"
    );
    assert_eq!(
        (&finding["finding"], &finding["exit_status"]),
        (&"progress_differs".into(), &24.into())
    );
    let note = &report["notes"][0];
    assert_eq!(names(note), "count meaning note table topic");
    assert_eq!((&note["note"], &note["count"]), (&"rows_of_others".into(), &1.into()));
    assert_eq!(names(&report["judgement"]), "exact exit_status findings text");
    assert_eq!((&report["mode"], &report["rows_read"]), (&"deep".into(), &11.into()));
    assert_eq!(report["acknowledged"], serde_json::Value::Null);
}

#[test]
fn a_producers_ledger_is_compared() {
    let fixture = Fixture::new();
    let ledger = fixture.path().join("ledger.csv");
    let lines =
        |to: i32| (0..to).map(|o| format!("events,0,{o},e-{o}\n")).collect::<Vec<_>>().concat();
    let compared = |text: String| {
        std::fs::write(&ledger, format!("topic,partition,offset,event_id\n{text}")).unwrap();
        fixture.verified(&["--against-ledger", "ledger.csv", "--table", "events"])
    };

    let (status, text) = compared(lines(10));
    assert_eq!(status, 0, "{text}");
    assert!(text.ends_with("(every offset read, 10 records acknowledged)\n"), "{text}");

    let (status, text) = compared(lines(13));
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("note: main.events: 3 acknowledged records that are not"), "{text}");
    assert!(text.ends_with("13 records acknowledged, 3 of them not in the lake yet)\n"), "{text}");

    let (status, text) = compared(lines(9));
    assert_eq!(status, 28, "{text}");

    let (status, text) = compared(lines(10).replace("e-5", "e-other"));
    assert_eq!(status, 10, "{text}");
}

#[test]
fn an_unknown_table_or_ledger_is_an_error_without_findings() {
    let fixture = Fixture::new();

    let unknown_table = fixture.verify(&["--table", "evnets"]);
    assert_eq!(unknown_table.status.code(), Some(4));
    assert!(text(&unknown_table.stderr).contains("no such table"), "{unknown_table:?}");
    let no_ledger = fixture.verify(&["--against-ledger", "nowhere.csv"]);
    assert_eq!(no_ledger.status.code(), Some(4));
    assert!(text(&no_ledger.stderr).contains("nowhere.csv"), "{no_ledger:?}");
    assert_eq!(fixture.verify(&["--memory-limit", "much"]).status.code(), Some(2));
}
