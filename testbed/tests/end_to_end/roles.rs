//! Roles that `ducktide roles` creates: each program works with its role, and no role can change
//! progress, ledger or triggers.

use ducktide_testbed::{
    catalog::{Catalog, CatalogKind},
    pipeline::{Pipeline, TABLE, WAIT_TIMEOUT},
    program::Program,
};

/// A lake whose owner created the roles, with a login for each.
struct RestrictedLake {
    pipeline: Pipeline,
    /// Prefix of the roles, which belong to the whole server.
    prefix: String,
}

const ROLES: [&str; 4] = ["reader", "operator", "compactor", "worker"];

impl RestrictedLake {
    fn create(test: &str) -> Self {
        let pipeline = Pipeline::on_shared_services(test, CatalogKind::Postgres).unwrap();
        let prefix = pipeline.topic.to_lowercase();
        pipeline.run_ducktide(&["init"]).unwrap();
        let script = pipeline.run_ducktide(&["roles", "--prefix", &prefix]).unwrap();
        let script = script.lines().filter(|line| !line.starts_with('\\'));
        let script = script.collect::<Vec<_>>().join("\n");
        let mut owner = pipeline.catalog().unwrap();
        // The second run changes nothing.
        owner.execute(&script).unwrap();
        owner.execute(&script).unwrap();
        for role in ROLES {
            owner
                .execute(&format!("CREATE ROLE {prefix}_{role}_1 LOGIN IN ROLE {prefix}_{role}"))
                .unwrap();
        }
        Self { pipeline, prefix }
    }

    /// Returns the catalog's address with the login of a role.
    fn address(&self, role: &str) -> String {
        let (_, server) = self.pipeline.catalog.split_once('@').unwrap();
        format!("postgres://{}_{role}_1@{server}", self.prefix)
    }

    fn ducktide(&self, role: &str, arguments: &[&str]) -> Program {
        let tool = self.pipeline.ducktide(arguments).unwrap();
        tool.env("DUCKLAKE_CATALOG", self.address(role))
    }

    fn run(&self, role: &str, arguments: &[&str]) -> String {
        let label = format!("{role}-{}", arguments[0]);
        let logs = self.pipeline.logs();
        self.ducktide(role, arguments).run(logs, &label, WAIT_TIMEOUT).unwrap()
    }

    /// Returns the exit code and the error of the operator's tool.
    fn fail(&self, role: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let label = format!("refused-{role}-{}", arguments[0]);
        let mut running =
            self.ducktide(role, arguments).start(self.pipeline.logs(), &label).unwrap();
        let exit = running.wait(WAIT_TIMEOUT).unwrap();
        (exit.status.code(), running.log().unwrap())
    }

    /// Loads everything from the topic with the role of a worker.
    fn drain(&self, name: &str) {
        let consumer = self.pipeline.consumer(&self.address("worker")).unwrap();
        let consumer = consumer.args(["--no-init", "--until-end"]);
        let consumer = consumer.args(["--partition-by", "event_timestamp"]);
        self.pipeline.start_worker(name, consumer).unwrap().succeed().unwrap();
    }
}

#[test]
#[ignore = "needs Kafka, the registry and PostgreSQL"]
fn each_program_works_with_its_role() {
    let mut lake = RestrictedLake::create("roles");
    lake.pipeline.produce(10_000, &[]).unwrap();

    lake.drain("worker");
    let of_compactor = lake.address("compactor");
    let of_owner = std::mem::replace(&mut lake.pipeline.catalog, of_compactor);
    let compactor = lake.pipeline.compactor(&["once"]).unwrap();
    lake.pipeline.catalog = of_owner;
    compactor.run(lake.pipeline.logs(), "compactor", WAIT_TIMEOUT).unwrap();

    lake.run("reader", &["status"]);
    lake.run("reader", &["verify", "--deep"]);
    let count = format!("SELECT count(*) FROM {TABLE}");
    assert!(lake.run("reader", &["sql", &count]).contains("10000"));
    lake.run("operator", &["verify", "--record"]);
    lake.run("operator", &["snapshots", "pin", "audit"]);
    lake.run("operator", &["snapshots", "unpin", "audit"]);
    lake.run("operator", &["dead-letters", "list"]);
    lake.run("operator", &["replay", "--topic", &lake.pipeline.topic, "--from-beginning"]);
    lake.drain("worker-again");
    lake.pipeline.check_exact(10_000).unwrap();
}

#[test]
#[ignore = "needs Kafka, the registry and PostgreSQL"]
fn no_role_can_change_progress_ledger_or_triggers() {
    let lake = RestrictedLake::create("denied");
    lake.pipeline.produce(1_000, &[]).unwrap();
    lake.drain("worker");

    for role in ROLES {
        let mut catalog = Catalog::at(&lake.address(role)).unwrap();
        for statement in [
            "UPDATE ducktide_progress SET next_offset = 0",
            "INSERT INTO ducktide_progress VALUES (9, 9, 0, 0)",
            "DELETE FROM ducktide_progress",
            "INSERT INTO ducktide_ledger(source_id) VALUES (1)",
            "TRUNCATE ducktide_ledger",
            "ALTER TABLE ducktide_ledger DISABLE TRIGGER ducktide_advance",
            "ALTER TABLE ducklake_data_file DISABLE TRIGGER ALL",
            "DROP TRIGGER ducktide_once ON ducklake_data_file",
            "CREATE OR REPLACE FUNCTION ducktide_once() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "DROP TABLE ducktide_source",
            "CREATE TABLE public.planted(a int)",
            "SET session_replication_role = replica",
        ] {
            let denied = catalog.execute(statement).unwrap_err();
            let text = format!("{denied:#}");
            let is_denied = text.contains("permission denied") || text.contains("must be owner");
            assert!(is_denied, "{role}: {statement}: {text}");
        }
        for statement in [
            "UPDATE ducklake_data_file SET end_snapshot = 1",
            "INSERT INTO ducklake_data_file(data_file_id) VALUES (-1)",
            "UPDATE ducklake_table_stats SET record_count = 0",
            "DELETE FROM ducklake_data_file",
            "UPDATE ducklake_table SET end_snapshot = 1",
            "UPDATE ducklake_metadata SET value = '/elsewhere/' WHERE key = 'data_path'",
        ] {
            // Maintenance and replays end files.
            if matches!(role, "reader" | "worker") {
                let denied = catalog.execute(statement).unwrap_err();
                assert!(format!("{denied:#}").contains("permission denied"), "{role}: {statement}");
            }
        }
        let is_compactor = role == "compactor";
        let deleted = catalog.execute("DELETE FROM ducktide_ledger WHERE ledger_id < 0");
        assert_eq!(deleted.is_ok(), is_compactor, "{role}");
    }
    lake.pipeline.check_exact(1_000).unwrap();
}

#[test]
#[ignore = "needs Kafka, the registry and PostgreSQL"]
fn a_program_without_a_right_ends_with_the_reason() {
    let lake = RestrictedLake::create("refused");
    lake.pipeline.produce(1_000, &[]).unwrap();
    lake.drain("worker");

    for arguments in [
        &["verify", "--record"][..],
        &["snapshots", "pin", "audit"],
        &["replay", "--topic", &lake.pipeline.topic, "--from-beginning"],
        &["sql", "--write", "DROP TABLE events"],
    ] {
        let (code, error) = lake.fail("reader", arguments);
        assert!(error.contains("permission denied"), "{arguments:?}: {error}");
        assert!(matches!(code, Some(1 | 4)), "{arguments:?}: {code:?} {error}");
    }
    lake.pipeline.check_exact(1_000).unwrap();
}
