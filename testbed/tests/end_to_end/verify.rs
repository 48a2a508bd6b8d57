//! `verify` on a catalog in PostgreSQL, with running workers, and on a large lake.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use ducktide_lake::{
    Access, DuckLake,
    config::{CatalogLocation, LakeConfig},
    conformance::DuckLakeHarness,
};
use ducktide_protocol::{
    Lake as _, SourceSpec, Table,
    commit::{Commit, CommitOutcome, Counts, ProgressDelta},
    conformance::Harness as _,
    position::{Epoch, Offset, OffsetRange, Partition, SourceId},
    table::TableShape,
};
use ducktide_testbed::{
    catalog::{Catalog, CatalogKind},
    services::shared_postgres,
};
use ducktide_verify::{FindingKind, Verification, VerifyRequest};
use tempfile::TempDir;
use uuid::Uuid;

/// Lake whose table `events` has the offsets 0 to 49 of partition 0, in two files.
struct VerifyFixture {
    config: LakeConfig,
    address: String,
    schema: &'static str,
    table: Table,
    source: SourceId,
    folder: TempDir,
}

impl VerifyFixture {
    fn new(kind: CatalogKind, schema: &'static str) -> Self {
        let folder = TempDir::new().unwrap();
        let (catalog, address) = match kind {
            CatalogKind::Sqlite => {
                let file = folder.path().join("lake.sqlite");
                let address = format!("sqlite:{}", file.display());
                (CatalogLocation::Sqlite(file), address)
            }
            CatalogKind::Postgres => {
                let name = format!("verify_{}", Uuid::new_v4().simple());
                let url = shared_postgres().create_database(&name).unwrap();
                (url.parse().unwrap(), url)
            }
        };
        let config = LakeConfig {
            catalog,
            data_path: Some(folder.path().join("data")),
            metadata_schema: schema.to_owned(),
            extension_dir: None,
        };
        let mut harness = DuckLakeHarness::new(config.clone());
        let mut lake = DuckLake::open(&config, Access::Commit).unwrap();
        let table = lake.ensure_table(&"events".parse().unwrap(), &shape()).unwrap();
        let source = lake.register_source(&spec(), &[(Partition(0), Offset(0))]).unwrap().id;
        let case = Self { config, address, schema, table, source, folder };
        case.ingest(&mut lake, &mut harness, 0, 20);
        case.ingest(&mut lake, &mut harness, 20, 50);
        case
    }

    fn open(&self, access: Access) -> DuckLake {
        DuckLake::open(&self.config, access).unwrap()
    }

    fn ingest(&self, lake: &mut DuckLake, harness: &mut DuckLakeHarness, from: i64, to: i64) {
        let range = OffsetRange { from: Offset(from), to: Offset(to) };
        let delta = ProgressDelta {
            source: self.source,
            partition: Partition(0),
            epoch: Epoch(0),
            range,
            counts: Counts { rows: to - from, ..Counts::default() },
        };
        let file = harness.stage(&self.table, Partition(0), range);
        let commit = Commit::ingest(vec![delta], vec![file], vec![self.table.version.clone()]);
        assert!(matches!(lake.commit(&commit).unwrap(), CommitOutcome::Committed(_)));
    }

    fn edit_catalog(&self, statements: &str) {
        Catalog::at(&self.address).unwrap().execute(statements).unwrap();
    }

    fn verify(&self, deep: bool) -> Verification {
        verify(&mut self.open(Access::Read), deep)
    }

    fn found(&self, deep: bool) -> Vec<FindingKind> {
        kinds(&self.verify(deep))
    }
}

fn verify(lake: &mut DuckLake, deep: bool) -> Verification {
    let request = VerifyRequest { deep, ..VerifyRequest::default() };
    ducktide_verify::verify(lake, &request, &mut |_| {}).unwrap()
}

fn kinds(verification: &Verification) -> Vec<FindingKind> {
    verification.findings.numbers().keys().copied().collect()
}

fn spec() -> SourceSpec {
    SourceSpec::without_ids("events".parse().unwrap(), "events", "verify")
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

#[test]
#[ignore = "needs PostgreSQL"]
fn a_lake_in_postgres_is_exact_in_any_schema() {
    for schema in ["public", "another_lake"] {
        let case = VerifyFixture::new(CatalogKind::Postgres, schema);
        assert_eq!(case.found(false), []);
        assert_eq!(case.found(true), []);
        assert_eq!(case.verify(true).rows_read, Some(50));
    }
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_trigger_that_is_missing_or_disabled_in_postgres_is_found() {
    let case = VerifyFixture::new(CatalogKind::Postgres, "public");
    case.edit_catalog("ALTER TABLE ducklake_data_file DISABLE TRIGGER ducktide_once");
    let verification = case.verify(false);
    let findings = verification.findings.detailed();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].kind, FindingKind::TriggerMissing);
    assert!(findings[0].detail.ends_with("is disabled"), "{}", findings[0].detail);

    case.edit_catalog("DROP TRIGGER ducktide_once ON ducklake_data_file");
    assert!(case.verify(false).findings.detailed()[0].detail.ends_with("is missing"));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_trigger_of_another_lake_in_the_database_does_not_stand_in() {
    let case = VerifyFixture::new(CatalogKind::Postgres, "public");
    let folder = TempDir::new().unwrap();
    let mut other = case.config.clone();
    other.metadata_schema = "other".to_owned();
    other.data_path = Some(folder.path().to_owned());
    DuckLake::init(&other).unwrap();

    case.edit_catalog("DROP TRIGGER ducktide_snapshot ON public.ducklake_snapshot_changes");

    assert_eq!(case.found(false), [FindingKind::TriggerMissing]);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn hands_in_the_ledger_and_progress_are_found_in_postgres() {
    let case = VerifyFixture::new(CatalogKind::Postgres, "public");
    case.edit_catalog("UPDATE ducktide_progress SET next_offset = 60");
    assert_eq!(case.found(false), [FindingKind::ProgressDiffers]);

    case.edit_catalog(
        "ALTER TABLE ducktide_ledger DROP CONSTRAINT ducktide_counts_add_up; \
         UPDATE ducktide_ledger SET rows = 29 WHERE from_offset = 20",
    );
    assert!(case.found(false).contains(&FindingKind::LedgerCounts));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn rows_and_files_are_judged_in_postgres() {
    let case = VerifyFixture::new(CatalogKind::Postgres, "public");
    let mut lake = case.open(Access::Operate);
    let double = "INSERT INTO lake.events FROM lake.events WHERE _kafka_offset = 7";
    lake.connection().unwrap().execute_batch(double).unwrap();
    assert_eq!(case.found(true), [FindingKind::RowsDuplicated]);
    let delete = "DELETE FROM lake.events WHERE _kafka_offset = 8";
    lake.connection().unwrap().execute_batch(delete).unwrap();
    assert_eq!(case.found(true), [FindingKind::RowsDuplicated, FindingKind::RowsDeleted]);

    let directory = case.table.directory.display();
    let files =
        std::fs::read_dir(&case.table.directory).unwrap().map(|entry| entry.unwrap().path());
    for file in files {
        std::fs::remove_file(file).unwrap();
    }
    let found = case.found(true);
    assert!(found.contains(&FindingKind::DataFileMissing), "{found:?} {directory}");
    assert!(found.contains(&FindingKind::DeleteFileMissing), "{found:?}");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn running_workers_and_merges_raise_no_alarm_in_postgres() {
    let case = VerifyFixture::new(CatalogKind::Postgres, "public");
    let mut merging = case.open(Access::Operate);
    let mut verifying = case.open(Access::Read);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut harness = DuckLakeHarness::new(case.config.clone());
            let mut lake = case.open(Access::Commit);
            (0..60).for_each(|step| case.ingest(&mut lake, &mut harness, 50 + step, 51 + step));
        });
        let merger = scope.spawn(move || {
            let merge = "CALL ducklake_merge_adjacent_files('lake', 'events'); \
                 CALL ducklake_expire_snapshots('lake', older_than => now() - INTERVAL 1 SECOND)";
            for _ in 0..10 {
                // Fails if a commit is concurrent.
                let _ = merging.connection().unwrap().execute_batch(merge);
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        while !worker.is_finished() || !merger.is_finished() {
            assert_eq!(kinds(&verify(&mut verifying, false)), []);
            assert_eq!(kinds(&verify(&mut verifying, true)), []);
        }
    });
    assert_eq!(case.verify(true).rows_read, Some(110));
}

/// Size of a lake that an hourly `verify` must be able to check.
const FILES: i64 = 100_000;
const RANGES: i64 = 50_000;

/// Fills the catalog with files of one row each, and the ledger with ranges of two rows each.
fn enlarge(case: &VerifyFixture, kind: CatalogKind) {
    let schema = case.schema;
    let (numbers, name) = match kind {
        CatalogKind::Postgres => {
            (format!("SELECT i FROM generate_series(1, {FILES}) AS n(i)"), "lpad(i::text, 36, '0')")
        }
        CatalogKind::Sqlite => (
            format!(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {FILES}) \
                 SELECT i FROM n"
            ),
            "printf('%036d', i)",
        ),
    };
    let prefix = if kind == CatalogKind::Postgres { format!("{schema}.") } else { String::new() };
    let relative = if kind == CatalogKind::Postgres { "true" } else { "1" };
    case.edit_catalog(&format!(
        "INSERT INTO {prefix}ducklake_data_file(data_file_id, table_id, begin_snapshot, path, \
           path_is_relative, file_format, record_count, file_size_bytes, footer_size, row_id_start) \
         SELECT 1000 + i, t.table_id, 1, 'ducktide-' || {name} || '.parquet', {relative}, 'parquet', \
           1, 7, 1, 1000 + i FROM ({numbers}) n, {prefix}ducklake_table t"
    ));
    // One row at a time on SQLite, and in the order of the offsets on both: each row moves
    // progress.
    let ranges = numbers.replace(&FILES.to_string(), &RANGES.to_string());
    case.edit_catalog(&format!(
        "INSERT INTO {prefix}ducktide_ledger(source_id, partition, epoch, from_offset, to_offset, \
           snapshot_id, kind, rows, dead, duplicates, tombstones, gaps, given_up, committed_at) \
         SELECT {}, 0, 0, 48 + 2 * i, 50 + 2 * i, 1, 'ingest', 2, 0, 0, 0, 0, 0, '2026-11-01T00:00:00Z' \
         FROM ({ranges}) n ORDER BY i",
        case.source
    ));
}

fn make_files(directory: &Path) {
    for i in 1..=FILES {
        let file = File::create(directory.join(format!("ducktide-{i:036}.parquet"))).unwrap();
        file.set_len(7).unwrap();
    }
}

fn a_large_lake_is_judged_by_its_catalog(kind: CatalogKind) {
    let case = VerifyFixture::new(kind, "public");
    enlarge(&case, kind);
    make_files(&case.table.directory);

    let mut took = Vec::new();
    for _ in 0..3 {
        let started = Instant::now();
        let verification = case.verify(false);
        took.push(started.elapsed());
        assert_eq!(verification.findings.detailed(), Vec::<&_>::new());
        assert_eq!(verification.files.files, 100_002);
        assert_eq!(verification.sources[0].counts.rows, 100_050);
    }
    println!("verify of {FILES} files and {RANGES} ranges on {kind:?}: {took:?}");
    drop(case.folder);
}

#[test]
#[ignore = "makes 100,000 files"]
fn a_large_lake_in_sqlite_is_judged_by_its_catalog() {
    a_large_lake_is_judged_by_its_catalog(CatalogKind::Sqlite);
}

#[test]
#[ignore = "needs PostgreSQL; makes 100,000 files"]
fn a_large_lake_in_postgres_is_judged_by_its_catalog() {
    a_large_lake_is_judged_by_its_catalog(CatalogKind::Postgres);
}
