//! A lake into which tests plant errors.

use std::cell::{RefCell, RefMut};
use std::path::{Path, PathBuf};

use ducktide_lake::config::{CatalogLocation, LakeConfig};
use ducktide_lake::conformance::{copy_option, described};
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::commit::{
    Commit, CommitKind, CommitMessage, CommitOutcome, Counts, ProgressDelta,
};
use ducktide_protocol::position::{Epoch, Offset, OffsetRange, Partition, SourceId};
use ducktide_protocol::table::{TableName, TableShape};
use ducktide_protocol::{Lake as _, SourceSpec, Table};
use ducktide_verify::{Finding, FindingKind, NoteKind, Verification, VerifyRequest};
use tempfile::TempDir;
use uuid::Uuid;

/// A lake whose table `events` has the offsets 100 to 149 of partition 0, in two files, and 0 to 29
/// of partition 1, in one.
pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    config: LakeConfig,
    /// Opened when first needed, because opening takes longer than the rest of a test, and closed before
    /// the catalog is edited.
    lake: RefCell<Option<DuckLake>>,
    pub(crate) source: SourceId,
    pub(crate) table: Table,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = LakeConfig::at(CatalogLocation::Sqlite(directory.path().join("lake.sqlite")));
        DuckLake::init(&config).unwrap();
        let mut lake = DuckLake::open(&config, Access::Operate).unwrap();
        let table = lake.ensure_table(&name(), &shape()).unwrap();
        let starts = [(Partition(0), Offset(100)), (Partition(1), Offset(0))];
        let source = lake.register_source(&spec(), &starts).unwrap().id;
        let lake = RefCell::new(Some(lake));
        let fixture = Self { directory, config, lake, source, table };
        fixture.ingest(0, 100, 120);
        fixture.ingest(0, 120, 150);
        fixture.ingest(1, 0, 30);
        fixture
    }

    /// Returns the open lake.
    pub(crate) fn lake(&self) -> RefMut<'_, DuckLake> {
        let open = || DuckLake::open(&self.config, Access::Operate).unwrap();
        RefMut::map(self.lake.borrow_mut(), |lake| lake.get_or_insert_with(open))
    }

    /// Returns the same lake as another process opens it.
    pub(crate) fn another(&self) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            config: self.config.clone(),
            lake: RefCell::new(None),
            source: self.source,
            table: self.table.clone(),
        }
    }

    /// Commits a range in epoch 0, every offset of it a row.
    pub(crate) fn ingest(&self, partition: i32, from: i64, to: i64) -> PathBuf {
        self.ingest_in(0, partition, from, to)
    }

    pub(crate) fn ingest_in(&self, epoch: i32, partition: i32, from: i64, to: i64) -> PathBuf {
        let counts = Counts { rows: to - from, ..Counts::default() };
        let file = self.stage(partition, &format!("range({from}, {to})"), "");
        self.commit(epoch, partition, (from, to), counts, &file);
        file
    }

    /// Commits one file as what `counts` says it is.
    pub(crate) fn commit(
        &self,
        epoch: i32,
        partition: i32,
        (from, to): (i64, i64),
        counts: Counts,
        file: &Path,
    ) {
        let delta = ProgressDelta {
            source: self.source,
            partition: Partition(partition),
            epoch: Epoch(epoch),
            range: OffsetRange { from: Offset(from), to: Offset(to) },
            counts,
        };
        let staged = || described(file.to_owned(), &name()).unwrap();
        let files = if counts.rows > 0 { vec![staged()] } else { Vec::new() };
        if files.iter().any(|file| i64::try_from(file.rows) != Ok(counts.rows)) {
            // No commit of a worker counts other rows than its file has.
            self.register(file, &CommitMessage::new(CommitKind::Ingest, vec![delta]).to_json());
            return;
        }
        let commit = Commit::ingest(vec![delta], files, vec![self.table.version.clone()]);
        let outcome = self.lake().commit(&commit).unwrap();
        assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
    }

    /// Writes a file with the offsets that a table function returns.
    pub(crate) fn stage(&self, partition: i32, offsets: &str, condition: &str) -> PathBuf {
        std::fs::create_dir_all(&self.table.directory).unwrap();
        let path = self.table.directory.join(format!("ducktide-{}.parquet", Uuid::new_v4()));
        let copy = format!(
            "COPY (SELECT 'e-{partition}-' || o AS event_id, 'events' AS _kafka_topic, \
             {partition}::INTEGER AS _kafka_partition, o AS _kafka_offset, \
             TIMESTAMPTZ '2026-11-01 00:00:00+00' AS _kafka_timestamp FROM {offsets} t(o) {condition}) \
             TO '{}' (FORMAT parquet, FIELD_IDS {})",
            path.display(),
            copy_option(&self.table.field_ids)
        );
        self.sql(&copy);
        path
    }

    /// Statements of another client, through DuckDB.
    pub(crate) fn sql(&self, statements: &str) {
        self.lake().connection().unwrap().execute_batch(statements).unwrap();
    }

    /// Registers a file with a message of any kind, as a program with other rules would.
    pub(crate) fn register(&self, file: &Path, message: &str) {
        self.sql(&format!(
            "BEGIN; CALL ducklake_add_data_files('lake', 'events', '{}'); \
             CALL lake.set_commit_message('test', 'test', extra_info => '{message}'); COMMIT",
            file.display()
        ));
    }

    /// Puts a message into the mailbox.
    pub(crate) fn post(&self, message: &str) {
        let insert = "INSERT INTO __ducklake_metadata_lake.ducktide_commit(message)";
        self.sql(&format!("{insert} VALUES ('{message}')"));
    }

    /// A message of one range; `counts` as JSON members.
    pub(crate) fn message(
        &self,
        kind: &str,
        epoch: i32,
        range: (i64, i64),
        counts: &str,
    ) -> String {
        let (from, to) = range;
        format!(
            "{{\"ducktide\":1,\"kind\":\"{kind}\",\"progress\":[{{\"source\":{},\"partition\":0,\
             \"epoch\":{epoch},\"from\":{from},\"to\":{to},{counts}}}]}}",
            self.source
        )
    }

    /// Edits the catalog by statements of SQLite itself, without its constraints. No DuckDB of this process
    /// may have the file attached meanwhile.
    pub(crate) fn edit_catalog(&self, statements: &str) {
        *self.lake.borrow_mut() = None;
        let path = self.directory.path().join("lake.sqlite");
        let sqlite = rusqlite::Connection::open(path).unwrap();
        sqlite.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
        sqlite.execute_batch(statements).unwrap();
    }

    pub(crate) fn verify(&self, request: &VerifyRequest) -> Verification {
        ducktide_verify::verify(&mut self.lake(), request, &mut |_| {}).unwrap()
    }

    /// Verifies by the catalog.
    pub(crate) fn by_catalog(&self) -> Verification {
        self.verify(&VerifyRequest::default())
    }

    /// Verifies by the rows.
    pub(crate) fn deep(&self) -> Verification {
        self.verify(&VerifyRequest { deep: true, ..VerifyRequest::default() })
    }
}

pub(crate) fn kinds(verification: &Verification) -> Vec<FindingKind> {
    verification.findings.numbers().keys().copied().collect()
}

/// Returns the only finding.
pub(crate) fn only(verification: &Verification) -> Finding {
    let findings = verification.findings.detailed();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings[0].clone()
}

pub(crate) fn notes(verification: &Verification) -> Vec<(NoteKind, u64)> {
    verification.notes.iter().map(|note| (note.kind, note.count)).collect()
}

pub(crate) fn name() -> TableName {
    "events".parse().unwrap()
}

fn spec() -> SourceSpec {
    SourceSpec::without_ids(name(), "events", "verify")
}

fn shape() -> TableShape {
    TableShape::from_described([
        ("event_id", "VARCHAR"),
        ("_kafka_topic", "VARCHAR"),
        ("_kafka_partition", "INTEGER"),
        ("_kafka_offset", "BIGINT"),
        ("_kafka_timestamp", "TIMESTAMP WITH TIME ZONE"),
    ])
    .unwrap()
}
