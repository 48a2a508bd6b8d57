//! Errors of the catalog and their classification: an outage is retried, a fault is fatal and its
//! error contains the remedy. Each test provokes an entry of the table in
//! `crates/protocol/src/cause.rs`.

use std::fs;

use ducktide_lake::{
    Access, DuckLake,
    config::{CatalogLocation, LakeConfig},
};
use ducktide_protocol::{
    ErrorKind, Lake as _, LakeError, SourceSpec,
    position::{Offset, Partition, SourceId},
};
use ducktide_testbed::{
    catalog::Catalog,
    services::{free_port, shared_postgres},
};
use tempfile::TempDir;
use uuid::Uuid;

/// Lake for one entry of the table.
struct ErrorFixture {
    config: LakeConfig,
    /// Address of the catalog for a role with all permissions.
    address: String,
    folder: TempDir,
}

impl ErrorFixture {
    fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let address = format!("sqlite:{}", folder.path().join("lake.sqlite").display());
        Self::at(address, folder)
    }

    fn postgres() -> Self {
        let name = format!("causes_{}", Uuid::new_v4().simple());
        let url = shared_postgres().create_database(&name).unwrap();
        Self::at(url, TempDir::new().unwrap())
    }

    fn at(address: String, folder: TempDir) -> Self {
        let config = LakeConfig {
            data_path: Some(folder.path().join("data")),
            ..LakeConfig::at(address.parse().unwrap())
        };
        DuckLake::init(&config).unwrap();
        Self { config, address, folder }
    }

    /// Executes SQL in the catalog. No lake may be open in this process.
    fn execute(&self, sql: &str) {
        Catalog::at(&self.address).unwrap().execute(sql).unwrap();
    }

    /// Returns the configuration of the lake for a new role with these grants.
    fn role(&self, options: &str, grants: &[&str]) -> (String, LakeConfig) {
        let role = format!("role_{}", Uuid::new_v4().simple());
        self.execute(&format!("CREATE ROLE {role} LOGIN {options}"));
        for grant in grants {
            self.execute(&format!("GRANT {grant} TO {role}"));
        }
        let catalog = self.address.replace("postgres://postgres@", &format!("postgres://{role}@"));
        (role, LakeConfig { catalog: catalog.parse().unwrap(), ..self.config.clone() })
    }

    /// Opens the lake, registers a source and reads its positions, as a worker does.
    fn work(config: &LakeConfig) -> Result<(), LakeError> {
        let mut lake = DuckLake::open(config, Access::Commit)?;
        let spec = SourceSpec::without_ids("events".parse().unwrap(), "events", "events");
        let source = lake.register_source(&spec, &[(Partition(0), Offset(0))])?;
        lake.positions(source.id).map(drop)
    }
}

fn check(row: &str, done: Result<(), LakeError>, kind: ErrorKind, reason: &str) {
    let error = done.expect_err(row);
    let text = error.chain();
    assert!(error.kind() == kind && text.contains(reason), "{row}: {:?}: {text}", error.kind());
    assert!(!text.contains("INSERT INTO"), "{row}: {text}");
}

const READ_GRANTS: &[&str] = &["USAGE ON SCHEMA public", "SELECT ON ALL TABLES IN SCHEMA public"];

#[test]
#[ignore = "needs PostgreSQL"]
fn outages_of_postgres_are_retryable_errors() {
    let outage = |row: &str, config: &LakeConfig, reason: &str| {
        check(row, ErrorFixture::work(config), ErrorKind::Unavailable, reason);
    };
    let case = ErrorFixture::postgres();
    let unused_port = format!("postgres://me@127.0.0.1:{}/lake", free_port().unwrap());
    outage("refused", &LakeConfig::at(unused_port.parse().unwrap()), "Connection refused");
    let (_, config) = case.role("CONNECTION LIMIT 0", READ_GRANTS);
    outage("role limit", &config, "too many connections for role");
    let (role, config) = case.role("", READ_GRANTS);
    case.execute(&format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"));
    case.execute(&format!("ALTER ROLE {role} SET default_transaction_read_only = on"));
    outage("read-only", &config, "read-only transaction");
    case.execute(&format!("ALTER ROLE {role} SET default_transaction_read_only = off"));
    ErrorFixture::work(&config).unwrap();
}

#[test]
#[ignore = "needs PostgreSQL"]
fn faults_of_postgres_are_fatal_errors() {
    let fault = |row: &str, config: &LakeConfig, reason: &str| {
        check(row, ErrorFixture::work(config), ErrorKind::Invalid, reason);
    };
    let case = ErrorFixture::postgres();
    let missing = format!("{}_not", case.address).parse().unwrap();
    fault("database", &LakeConfig::at(missing), "does not exist");
    let other = case.address.replace("postgres://postgres@", "postgres://nobody_we_know@");
    fault("role", &LakeConfig::at(other.parse().unwrap()), "does not exist");
    let schema = LakeConfig { metadata_schema: "another".to_owned(), ..case.config.clone() };
    fault("no lake", &schema, "ducktide init");
    let (_, config) = case.role("", &["USAGE ON SCHEMA public"]);
    fault("no permission to read", &config, "permission denied for");
    let (_, config) = case.role("", READ_GRANTS);
    fault("no permission to write", &config, "permission denied for");

    case.execute("DROP TABLE ducktide_ledger CASCADE");
    fault("a table of Ducktide is missing", &case.config, "triggers are missing");
    let case = ErrorFixture::postgres();
    case.execute("DROP FUNCTION ducktide_advance() CASCADE");
    fault("a trigger function is missing", &case.config, "triggers are missing");
    let case = ErrorFixture::postgres();
    case.execute("DROP TABLE ducktide_progress");
    fault("a table that triggers write to is missing", &case.config, "does not exist");
    case.execute("DROP TABLE ducktide_source, ducktide_meta");
    fault("no Ducktide", &case.config, "ducktide init");
}

#[test]
fn faults_of_sqlite_are_fatal_errors() {
    let fault = |row: &str, config: &LakeConfig, reason: &str| {
        check(row, ErrorFixture::work(config), ErrorKind::Invalid, reason);
    };
    let missing = TempDir::new().unwrap();
    let missing = CatalogLocation::Sqlite(missing.path().join("lake.sqlite"));
    fault("no lake", &LakeConfig::at(missing), "ducktide init");
    let case = ErrorFixture::sqlite();
    case.execute("DROP TRIGGER ducktide_advance");
    fault("a trigger is missing", &case.config, "triggers are missing");
    let case = ErrorFixture::sqlite();
    case.execute("DROP TABLE ducktide_progress");
    fault("a table of Ducktide is missing", &case.config, "no such table");
    case.execute("DROP TABLE ducktide_meta");
    fault("no Ducktide", &case.config, "ducktide init");
    let garbage = case.folder.path().join("garbage.sqlite");
    fs::write(&garbage, "no database".repeat(1_000)).unwrap();
    fault("garbage", &LakeConfig::at(CatalogLocation::Sqlite(garbage)), "not a database");
}

/// The replay can be retried later: exit code 3, not 4.
#[test]
fn an_intent_of_another_replay_is_a_retryable_error() {
    let case = ErrorFixture::sqlite();
    ErrorFixture::work(&case.config).unwrap();
    let mut lake = DuckLake::open(&case.config, Access::Operate).unwrap();
    let intent = |holder: &str| ducktide_lake::Intent {
        source: SourceId(1),
        table: "main.events".to_owned(),
        kind: ducktide_lake::IntentKind::Prepare,
        holder: holder.to_owned(),
        expires_at: jiff::Timestamp::now() + std::time::Duration::from_mins(1),
        keep_snapshots_from: ducktide_protocol::position::SnapshotId(0),
    };
    lake.announce(&intent("first")).unwrap();

    let second = lake.announce(&intent("second"));

    check("replay", second, ErrorKind::Unavailable, "another replay of the same source");
}
