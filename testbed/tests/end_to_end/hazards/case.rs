//! Lake of one test, with a table and a source.

use std::borrow::Borrow;
use std::fs;
use std::time::{Duration, Instant};

use ducktide_lake::{
    Access, DuckLake, Setup,
    config::{CatalogLocation, LakeConfig},
    conformance::DuckLakeHarness,
};
use ducktide_maintenance::MaintenanceOutcome;
use ducktide_protocol::{
    ErrorKind, Lake as _, LakeError, Source, SourceSpec, Table,
    commit::{Commit, CommitKind, CommitMessage, CommitOutcome, Counts, ProgressDelta},
    conformance::Harness as _,
    position::{Epoch, Offset, OffsetRange, Partition, Position},
    table::TableShape,
};
use ducktide_testbed::{
    catalog::{Catalog, CatalogKind},
    duckdb_cli,
    faults::CommitProxy,
    services::shared_postgres,
};
use ducktide_verify::VerifyRequest;
use tempfile::TempDir;
use uuid::Uuid;

/// Lake with a table `events` and a source that begins at offset 100 of partition 0 and at 0 of
/// partition 1.
pub(crate) struct Case {
    pub(crate) config: LakeConfig,
    pub(crate) address: String,
    pub(crate) table: Table,
    pub(crate) source: Source,
    lake: Option<DuckLake>,
    harness: DuckLakeHarness,
    _folder: TempDir,
}

/// Creates an empty database and returns its URL.
pub(crate) fn new_database() -> String {
    let name = format!("hazards_{}", Uuid::new_v4().simple());
    shared_postgres().create_database(&name).unwrap()
}

impl Case {
    pub(crate) fn new(kind: CatalogKind) -> Self {
        match kind {
            CatalogKind::Sqlite => {
                let folder = TempDir::new().unwrap();
                let file = folder.path().join("lake.sqlite");
                let address = format!("sqlite:{}", file.display());
                Self::at(CatalogLocation::Sqlite(file), address, "public", folder)
            }
            CatalogKind::Postgres => Self::in_database(&new_database(), "public"),
        }
    }

    /// Returns a lake in a schema of a database that can contain other lakes.
    pub(crate) fn in_database(url: &str, schema: &str) -> Self {
        let location: CatalogLocation = url.parse().unwrap();
        Self::at(location, url.to_owned(), schema, TempDir::new().unwrap())
    }

    fn at(catalog: CatalogLocation, address: String, schema: &str, folder: TempDir) -> Self {
        let config = LakeConfig {
            catalog,
            data_path: Some(folder.path().join("data")),
            metadata_schema: schema.to_owned(),
            extension_dir: None,
        };
        let harness = DuckLakeHarness::new(config.clone());
        let mut lake = DuckLake::open(&config, Access::Commit).unwrap();
        let table = lake.ensure_table(&"events".parse().unwrap(), &shape()).unwrap();
        let starts = [(Partition(0), Offset(100)), (Partition(1), Offset(0))];
        let source = lake.register_source(&spec(), &starts).unwrap();
        let lake = Some(lake);
        Self { config, address, table, source, lake, harness, _folder: folder }
    }

    /// Returns the worker of this test.
    pub(crate) fn lake(&mut self) -> &mut DuckLake {
        let open = || DuckLake::open(&self.config, Access::Commit).unwrap();
        self.lake.get_or_insert_with(open)
    }

    /// Runs `ducktide init`. Closes the worker first, so that this process has no other connection
    /// to the catalog.
    pub(crate) fn init(&mut self) -> Setup {
        self.lake = None;
        DuckLake::init(&self.config).unwrap()
    }

    /// Returns another worker.
    pub(crate) fn another(&self) -> DuckLake {
        DuckLake::open(&self.config, Access::Commit).unwrap()
    }

    /// Returns a worker or operator that is connected to a PostgreSQL catalog through a proxy.
    pub(crate) fn behind(&self, proxy: &CommitProxy, access: Access) -> DuckLake {
        let url = proxy.url(&self.address).unwrap();
        let config = LakeConfig { catalog: url.parse().unwrap(), ..self.config.clone() };
        DuckLake::open(&config, access).unwrap()
    }

    /// Returns the lake for DuckDB's command line.
    pub(crate) fn plain_duckdb(&self) -> duckdb_cli::Lake {
        let data_path = self.config.data_path.as_ref().unwrap().display().to_string();
        duckdb_cli::Lake::at(&self.address, &data_path).unwrap()
    }

    /// Opens the lake with the access of an operator.
    pub(crate) fn operator(&self) -> DuckLake {
        DuckLake::open(&self.config, Access::Operate).unwrap()
    }

    /// Adds commits of ten rows each to partition 0, from an offset on.
    pub(crate) fn fill(&mut self, from: i64, commits: i64) {
        for from in (0..commits).map(|number| from + number * 10) {
            let commit = self.rows(0, from, from + 10);
            assert!(is_committed(self.send(&commit)));
        }
    }

    /// Returns a lake with commits of ten rows each.
    pub(crate) fn filled(kind: CatalogKind, commits: i64) -> Self {
        let mut case = Self::new(kind);
        case.fill(100, commits);
        case
    }

    /// Returns one step of progress in epoch 0.
    pub(crate) fn delta(&self, partition: i32, from: i64, to: i64, rows: i64) -> ProgressDelta {
        let range = OffsetRange { from: Offset(from), to: Offset(to) };
        let counts = Counts { rows, gaps: to - from - rows, ..Counts::default() };
        let (partition, epoch) = (Partition(partition), Epoch(0));
        ProgressDelta { source: self.source.id, partition, epoch, range, counts }
    }

    /// Returns a commit of one range in epoch 0, with a row for each offset in a new file.
    pub(crate) fn rows(&mut self, partition: i32, from: i64, to: i64) -> Commit {
        let delta = self.delta(partition, from, to, to - from);
        self.commit_of(delta)
    }

    /// Returns a commit of one step, with a row for each offset in a new file.
    pub(crate) fn commit_of(&mut self, delta: ProgressDelta) -> Commit {
        let file = self.harness.stage(&self.table, delta.partition, delta.range);
        Commit::ingest(vec![delta], vec![file], vec![self.table.version.clone()])
    }

    /// Returns a commit of one range without rows.
    pub(crate) fn idle(&self, partition: i32, from: i64, to: i64) -> Commit {
        Commit::ingest(vec![self.delta(partition, from, to, 0)], Vec::new(), Vec::new())
    }

    /// Commits a step without rows, with two dead letters.
    pub(crate) fn commit_dead_letters(&mut self, delta: ProgressDelta, letters: [i64; 2]) {
        let columns = "topic VARCHAR, partition INTEGER, \"offset\" BIGINT, \"timestamp\" TIMESTAMPTZ, \
             \"key\" BLOB, \"value\" BLOB, headers VARCHAR, schema_id INTEGER, error_class VARCHAR, \
             error VARCHAR, failed_at TIMESTAMPTZ, resolution VARCHAR, resolved_at TIMESTAMPTZ";
        self.sql(&format!("CREATE TABLE IF NOT EXISTS lake.events_dead_letters({columns})"))
            .unwrap();
        let directory = self.table.directory.with_file_name("events_dead_letters");
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join(format!("ducktide-{}.parquet", Uuid::new_v4()));
        let counts = Counts { dead: 2, gaps: delta.range.len() - 2, ..Counts::default() };
        let delta = ProgressDelta { counts, ..delta };
        let message = CommitMessage::new(CommitKind::Ingest, vec![delta]).to_json();
        self.sql(&format!(
            "COPY (SELECT 'events' AS topic, {partition}::INTEGER AS partition, \
             unnest({letters:?})::BIGINT AS \"offset\", now() AS \"timestamp\", NULL::BLOB AS \"key\", \
             NULL::BLOB AS \"value\", NULL::VARCHAR AS headers, 1::INTEGER AS schema_id, \
             'undecodable' AS error_class, 'test' AS error, now() AS failed_at, \
             NULL::VARCHAR AS resolution, NULL::TIMESTAMPTZ AS resolved_at) TO '{file}' (FORMAT parquet); \
             BEGIN; CALL ducklake_add_data_files('lake', 'events_dead_letters', '{file}'); \
             CALL lake.set_commit_message('test', 'test', extra_info => '{message}'); COMMIT",
            partition = delta.partition,
            file = file.display()
        ))
        .unwrap();
    }

    pub(crate) fn send(&mut self, commit: &Commit) -> CommitOutcome {
        self.try_send(commit).unwrap()
    }

    pub(crate) fn try_send(&mut self, commit: &Commit) -> Result<CommitOutcome, LakeError> {
        self.lake().commit(commit)
    }

    /// Returns the position of a partition: epoch and next offset.
    pub(crate) fn position(&mut self, partition: i32) -> (i32, i64) {
        let source = self.source.id;
        let positions = self.lake().positions(source).unwrap();
        let found = positions.iter().find(|(known, _)| *known == Partition(partition)).unwrap();
        let Position { epoch, next_offset } = found.1;
        (epoch.0, next_offset.0)
    }

    /// Returns the number of rows that a reader sees.
    pub(crate) fn count(&mut self) -> u64 {
        self.harness.count(&self.table.version.table)
    }

    /// Executes DuckDB statements in this worker's session; an error rolls back.
    pub(crate) fn sql(&mut self, statements: &str) -> Result<(), String> {
        let connection = self.lake().connection().unwrap();
        connection.execute_batch(statements).map_err(|error| {
            let _ = connection.execute_batch("ROLLBACK");
            error.to_string()
        })
    }

    /// Returns the number of a DuckDB query with one row and one column, in this worker's session.
    pub(crate) fn number(&mut self, query: &str) -> i64 {
        let connection = self.lake().connection().unwrap();
        connection.query_row(query, [], |row| row.get(0)).unwrap()
    }

    /// Closes this test's worker.
    pub(crate) fn close(&mut self) {
        self.lake = None;
    }

    /// Executes SQL in the catalog database. Closes the sessions of this process first.
    pub(crate) fn edit_catalog(&mut self, statements: &str) {
        self.lake = None;
        Catalog::at(&self.address).unwrap().execute(statements).unwrap();
    }

    /// Returns the qualified name of a catalog table in DuckDB.
    pub(crate) fn own(&self, table: &str) -> String {
        match self.config.catalog {
            CatalogLocation::Sqlite(_) => format!("__ducklake_metadata_lake.{table}"),
            CatalogLocation::Postgres(_) => {
                format!("__ducklake_metadata_lake.{}.{table}", self.config.metadata_schema)
            }
        }
    }

    /// Inserts a message into the mailbox.
    pub(crate) fn post(&mut self, message: &str) -> Result<(), String> {
        let mailbox = self.own("ducktide_commit");
        self.sql(&format!("INSERT INTO {mailbox}(message) VALUES ('{message}')"))
    }

    /// Registers the files of a commit with any message, without Ducktide's checks.
    pub(crate) fn register(&mut self, commit: &Commit, message: &str) -> Result<(), String> {
        let path = commit.files()[0].path.display().to_string();
        self.sql(&format!(
            "BEGIN; CALL ducklake_add_data_files('lake', 'events', '{path}'); \
             CALL lake.set_commit_message('test', 'test', extra_info => '{message}'); COMMIT"
        ))
    }

    /// Replays a partition: removes the rows from an offset on, and moves progress back.
    pub(crate) fn replay(&mut self, epoch: i32, from: i64, to: i64) {
        let (source, rows) = (self.source.id, to - from);
        self.sql(&format!(
            "BEGIN; DELETE FROM lake.events WHERE _kafka_partition = 0 AND _kafka_offset >= {to}; \
             CALL lake.set_commit_message('test', 'replay', extra_info => \
             '{{\"ducktide\":1,\"kind\":\"replay\",\"progress\":[{{\"source\":{source},\
             \"partition\":0,\"epoch\":{epoch},\"from\":{from},\"to\":{to},\"rows\":{rows}}}]}}'); \
             COMMIT"
        ))
        .unwrap();
    }
}

/// Merges each group of files of `events` into one.
pub(crate) fn merge_once(lake: &mut DuckLake) -> Result<MaintenanceOutcome, LakeError> {
    let tables = ducktide_maintenance::files_to_merge(lake, u64::MAX >> 1)?;
    let events = tables.iter().find(|found| found.table.table == "events");
    let groups = events.into_iter().flat_map(|found| &found.groups);
    let several = groups.filter(|(_, files)| files.len() > 1);
    let merges: Vec<Vec<_>> =
        several.map(|(_, files)| files.iter().map(|file| file.id).collect()).collect();
    let outcome = ducktide_maintenance::merge_files(
        lake,
        &"events".parse().unwrap(),
        &merges,
        Duration::from_secs(5),
    );
    outcome.map(|(done, _)| done)
}

/// Merges each group of files of `events` into one, and retries while other clients change the
/// files.
pub(crate) fn merge(lake: &mut DuckLake) -> MaintenanceOutcome {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match merge_once(lake) {
            Ok(done) => return done,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
                assert!(Instant::now() < deadline, "{}", error.chain());
            }
        }
    }
}

/// Checks that ledger, files and rows are consistent.
pub(crate) fn assert_exact(case: &Case) {
    for deep in [false, true] {
        let request = VerifyRequest { deep, memory_limit: 1 << 28, ..VerifyRequest::default() };
        let verification =
            ducktide_verify::verify(&mut case.operator(), &request, &mut |_| {}).unwrap();
        let findings = verification.findings.detailed();
        assert!(findings.is_empty(), "{findings:?}");
    }
}

pub(crate) fn is_committed(outcome: impl Borrow<CommitOutcome>) -> bool {
    matches!(outcome.borrow(), CommitOutcome::Committed(_))
}

pub(crate) fn spec() -> SourceSpec {
    SourceSpec {
        table: "events".parse().unwrap(),
        topic: "events".to_owned(),
        pipeline: "hazards".to_owned(),
        cluster_id: Some("cluster".to_owned()),
        topic_id: Some("topic".to_owned()),
    }
}

/// Columns of the conformance suite's files.
fn shape() -> TableShape {
    TableShape::from_described([
        ("id", "BIGINT"),
        ("_kafka_topic", "VARCHAR"),
        ("_kafka_partition", "INTEGER"),
        ("_kafka_offset", "BIGINT"),
        ("_kafka_timestamp", "TIMESTAMP WITH TIME ZONE"),
    ])
    .unwrap()
}
