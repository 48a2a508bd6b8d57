//! Paths: values of records are never used as paths, and a data path belongs to one lake with one
//! catalog.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ducktide_lake::{
    Access, DuckLake,
    config::{CatalogLocation, LakeConfig},
    conformance::{copy_option, described},
};
use ducktide_maintenance::{MaintenanceOutcome, OrphanPolicy, Retention};
use ducktide_protocol::{
    ErrorKind, LakeError,
    commit::{Commit, ProgressDelta},
    position::{Epoch, Offset, Partition},
};
use ducktide_replay::ReplayRequest;
use ducktide_storage::Storage;
use ducktide_testbed::catalog::{Catalog, CatalogKind};
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    case::{Case, assert_exact, is_committed, merge, new_database},
    in_an_hour, on_both_lakes,
};

on_both_lakes!(
    columns_named_like_columns_of_duckdb_are_not_used_as_paths,
    files_outside_the_data_path_are_not_removed,
    a_data_path_belongs_to_one_lake,
    a_copied_catalog_is_read_only_until_it_is_adopted,
    a_data_path_that_is_not_mounted_is_a_retryable_error,
    a_lake_of_an_older_version_is_claimed_when_opened,
);

const TIMEOUT: Duration = Duration::from_secs(5);

/// Names of columns that DuckDB, DuckLake and its change feed add.
const NAMES: [(&str, &str); 8] = [
    ("FileName", "VARCHAR"),
    ("file_row_number", "BIGINT"),
    ("file_index", "BIGINT"),
    ("rowid", "BIGINT"),
    ("snapshot_id", "BIGINT"),
    ("begin_snapshot", "BIGINT"),
    ("row_id", "BIGINT"),
    ("change_type", "VARCHAR"),
];

/// Returns a commit whose rows have a path in each of these columns.
fn commit_with_path_values(case: &mut Case, path: &Path, delta: ProgressDelta) -> Commit {
    let commit = case.commit_of(delta);
    let file = commit.files()[0].path.clone();
    let value = |(name, kind): &(&str, &str)| match *kind {
        "VARCHAR" => format!("'{}' AS \"{name}\"", path.display()),
        _ => format!("0::BIGINT AS \"{name}\""),
    };
    let values = NAMES.iter().map(value).collect::<Vec<_>>().join(", ");
    // Another path: DuckDB can have the content of the first one in its cache.
    let written = file.with_file_name(format!("ducktide-{}.parquet", Uuid::new_v4()));
    case.sql(&format!(
        "COPY (SELECT * REPLACE ({values}) FROM read_parquet('{}')) TO '{}' \
         (FORMAT parquet, COMPRESSION zstd, FIELD_IDS {})",
        file.display(),
        written.display(),
        copy_option(&case.table.field_ids)
    ))
    .unwrap();
    fs::remove_file(file).unwrap();
    let file = described(written, &case.table.version.table).unwrap();
    Commit::ingest(commit.progress().to_vec(), vec![file], commit.table_versions().to_vec())
}

fn columns_named_like_columns_of_duckdb_are_not_used_as_paths(kind: CatalogKind) {
    let mut case = Case::new(kind);
    let outside = TempDir::new().unwrap();
    let named = outside.path().join("ducktide-outside.parquet");
    fs::write(&named, "content of another program").unwrap();
    for (name, column_type) in NAMES {
        case.sql(&format!("ALTER TABLE lake.events ADD COLUMN \"{name}\" {column_type}")).unwrap();
    }
    case.table = case.lake().find_table(&"events".parse().unwrap()).unwrap().unwrap();
    for (partition, from, to) in [(0, 100, 150), (0, 150, 160), (0, 160, 180), (1, 0, 30)] {
        let delta = case.delta(partition, from, to, to - from);
        let commit = commit_with_path_values(&mut case, &named, delta);
        assert!(is_committed(case.send(&commit)));
    }
    let before = case.number("SELECT max(id) FROM lake.snapshots() s(id)");
    // The files of both partitions are merged, so that every replay rewrites the file.
    merge(&mut case.operator());
    assert_eq!(
        case.number(&format!("SELECT count(*) FROM lake.events AT (VERSION => {before})")),
        110
    );

    for (epoch, to) in [(1, 120), (2, 101)] {
        let offsets = [(Partition(0), Offset(to))].into_iter().collect();
        let request = ReplayRequest::new(case.source.clone(), offsets);
        let done = ducktide_replay::replay(&mut case.operator(), &request).unwrap();
        assert_eq!(done.rows, u64::try_from(180 - to).unwrap());
        assert_eq!(case.position(0), (epoch, to));
        let range = ProgressDelta { epoch: Epoch(epoch), ..case.delta(0, to, 180, 180 - to) };
        let again = commit_with_path_values(&mut case, &named, range);
        assert!(is_committed(case.send(&again)));
    }

    assert_exact(&case);
    let named_rows =
        format!("SELECT count(*) FROM lake.events WHERE filename = '{}'", named.display());
    assert_eq!(case.number(&named_rows), 110, "each row has the value of its record");
    assert_eq!(fs::read_to_string(&named).unwrap(), "content of another program");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "no file is written there");
    let deletes = case.own("ducklake_delete_file");
    assert_eq!(case.number(&format!("SELECT count(*) FROM {deletes}")), 0);
    merge(&mut case.operator());
    assert_exact(&case);
}

fn files_outside_the_data_path_are_not_removed(kind: CatalogKind) {
    let mut case = Case::filled(kind, 2);
    let outside = TempDir::new().unwrap();
    let file = outside.path().join("history.parquet");
    case.sql(&format!(
        "COPY (SELECT * FROM lake.events) TO '{0}' (FORMAT parquet, COMPRESSION zstd); \
         CALL ducklake_add_data_files('lake', 'events', '{0}')",
        file.display()
    ))
    .unwrap();
    merge(&mut case.operator());
    let mut lake = case.operator();
    ducktide_maintenance::expire_snapshots(&mut lake, &Retention::by_age(in_an_hour()), TIMEOUT)
        .unwrap();

    let cleaned =
        ducktide_maintenance::cleanup_old_files(&mut lake, in_an_hour(), TIMEOUT).unwrap();

    assert_eq!(cleaned, MaintenanceOutcome::Done(2), "the files of the workers");
    assert!(file.exists());
    assert_eq!(
        ducktide_maintenance::cleanup_old_files(&mut lake, in_an_hour(), TIMEOUT).unwrap(),
        MaintenanceOutcome::Done(0)
    );
    drop(lake);
    assert_eq!(case.count(), 40);
}

/// Returns the configuration of another lake with the same kind of catalog.
fn another_lake(case: &Case, data_path: &Path) -> LakeConfig {
    let catalog = match &case.config.catalog {
        CatalogLocation::Sqlite(file) => {
            CatalogLocation::Sqlite(file.with_file_name(format!("{}.sqlite", Uuid::new_v4())))
        }
        CatalogLocation::Postgres(_) => new_database().parse().unwrap(),
    };
    LakeConfig { catalog, data_path: Some(data_path.to_owned()), ..case.config.clone() }
}

fn a_data_path_belongs_to_one_lake(kind: CatalogKind) {
    let mut case = Case::filled(kind, 1);
    let data_path = case.config.data_path.clone().unwrap();
    let link = data_path.with_file_name("link");
    std::os::unix::fs::symlink(&data_path, &link).unwrap();

    for occupied in [
        data_path.clone(),
        data_path.join(""),
        data_path.join("b"),
        data_path.parent().unwrap().to_owned(),
        link.clone(),
        link.join("b"),
    ] {
        let second = another_lake(&case, &occupied);
        let refused = DuckLake::init(&second).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        assert!(refused.to_string().contains("another lake's"), "{refused}");
        assert!(refused.to_string().contains("--data-path"), "{refused}");
        assert!(DuckLake::open(&second, Access::Read).is_err(), "no lake was created");
    }

    // A lake created without a claim, in a data path that another lake has claimed since.
    let second = another_lake(&case, &data_path.with_file_name("second"));
    DuckLake::init(&second).unwrap();
    drop(DuckLake::open(&second, Access::Operate).unwrap());
    let others = second.data_path.clone().unwrap().join(".ducktide-lake");
    fs::copy(data_path.join(".ducktide-lake"), others).unwrap();
    for access in [Access::Commit, Access::Operate] {
        let refused = DuckLake::open(&second, access).err().unwrap();
        assert!(refused.to_string().contains("belongs to another lake"), "{refused}");
    }
    assert!(DuckLake::adopt(&second).is_err(), "two lakes are not copies");
    case.fill(110, 1);
}

/// Copies the catalog, as a restored dump does.
fn copy_of(case: &mut Case) -> LakeConfig {
    case.close();
    let catalog = match &case.config.catalog {
        CatalogLocation::Sqlite(file) => {
            let copy = file.with_file_name("copy.sqlite");
            fs::copy(file, &copy).unwrap();
            CatalogLocation::Sqlite(copy)
        }
        CatalogLocation::Postgres(url) => {
            let url = url.shareable();
            let (server, original) = url.rsplit_once('/').unwrap();
            let copy = format!("copy_{}", Uuid::new_v4().simple());
            let create = format!("CREATE DATABASE {copy} TEMPLATE {original}");
            Catalog::at(&format!("{server}/postgres")).unwrap().execute(&create).unwrap();
            format!("{server}/{copy}").parse().unwrap()
        }
    };
    LakeConfig { catalog, ..case.config.clone() }
}

fn assert_is_copy(refused: &LakeError) {
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("ducktide init --adopt"), "{refused}");
}

fn a_copied_catalog_is_read_only_until_it_is_adopted(kind: CatalogKind) {
    let mut case = Case::filled(kind, 3);
    let copy = copy_of(&mut case);

    for access in [Access::Commit, Access::Operate] {
        assert_is_copy(&DuckLake::open(&copy, access).err().unwrap());
    }
    assert_is_copy(&DuckLake::init(&copy).unwrap_err());
    let mut reader = DuckLake::open(&copy, Access::Read).unwrap();
    let rows =
        reader
            .connection()
            .unwrap()
            .query_row("SELECT count(*) FROM lake.events", [], |row| row.get::<_, i64>(0));
    assert_eq!(rows.unwrap(), 30);
    drop(reader);
    // The original lake is not affected.
    case.fill(130, 1);
    let mut compactor = case.operator();

    DuckLake::adopt(&copy).unwrap();

    let mut adopted = DuckLake::open(&copy, Access::Operate).unwrap();
    ducktide_maintenance::remove_orphans(&mut adopted, &OrphanPolicy::default(), TIMEOUT).unwrap();
    drop(adopted);
    // Programs with the original catalog no longer write or remove anything.
    let next = case.rows(0, 140, 150);
    assert_is_copy(&case.try_send(&next).unwrap_err());
    assert_is_copy(
        &ducktide_maintenance::expire_snapshots(
            &mut compactor,
            &Retention::by_age(in_an_hour()),
            TIMEOUT,
        )
        .unwrap_err(),
    );
    assert_is_copy(
        &ducktide_maintenance::cleanup_old_files(&mut compactor, in_an_hour(), TIMEOUT)
            .unwrap_err(),
    );
    assert_is_copy(
        &ducktide_maintenance::remove_orphans(&mut compactor, &OrphanPolicy::default(), TIMEOUT)
            .unwrap_err(),
    );
    assert_is_copy(&merge_error(&mut compactor));
    assert_is_copy(&DuckLake::open(&case.config, Access::Commit).err().unwrap());

    DuckLake::adopt(&case.config).unwrap();
    assert!(is_committed(case.send(&next)), "a running worker continues");
    assert_is_copy(&DuckLake::open(&copy, Access::Commit).err().unwrap());
}

fn merge_error(lake: &mut DuckLake) -> LakeError {
    ducktide_maintenance::merge_files(lake, &"events".parse().unwrap(), &[vec![1, 2]], TIMEOUT)
        .unwrap_err()
}

fn a_data_path_that_is_not_mounted_is_a_retryable_error(kind: CatalogKind) {
    let mut case = Case::filled(kind, 2);
    let data_path = case.config.data_path.clone().unwrap();
    let directory = case.table.directory.clone();
    let claim = case.table.claim.clone().unwrap();
    let storage = Storage::of(&directory).unwrap();
    let staged = case.rows(0, 120, 130);
    let mut compactor = case.operator();
    let unmounted = data_path.with_file_name("unmounted");
    fs::rename(&data_path, &unmounted).unwrap();

    for empty_mount_point in [false, true] {
        if empty_mount_point {
            fs::create_dir(&data_path).unwrap();
        }
        assert!(storage.create_directory(&directory, Some(claim.path())).is_err());
        let assert_retryable = |error: &LakeError| {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
            assert!(error.chain().contains("its mount is away"), "{}", error.chain());
        };
        assert_retryable(&case.try_send(&staged).unwrap_err());
        assert_retryable(
            &ducktide_maintenance::cleanup_old_files(&mut compactor, in_an_hour(), TIMEOUT)
                .unwrap_err(),
        );
        assert_retryable(
            &ducktide_maintenance::remove_orphans(
                &mut compactor,
                &OrphanPolicy::default(),
                TIMEOUT,
            )
            .unwrap_err(),
        );
        assert_retryable(&DuckLake::open(&case.config, Access::Commit).err().unwrap());
        assert_retryable(&DuckLake::init(&case.config).unwrap_err());
        assert!(!directory.exists(), "it is not created again");
    }

    fs::remove_dir(&data_path).unwrap();
    fs::rename(&unmounted, &data_path).unwrap();
    assert!(is_committed(case.send(&staged)));
    storage.create_directory(&directory, Some(claim.path())).unwrap();
    DuckLake::init(&case.config).unwrap();
    case.close();
    assert_exact(&case);
}

fn a_lake_of_an_older_version_is_claimed_when_opened(kind: CatalogKind) {
    let mut case = Case::filled(kind, 2);
    let claim: PathBuf = case.config.data_path.clone().unwrap().join(".ducktide-lake");
    let remove_owner = "DELETE FROM ducktide_meta WHERE key LIKE 'owner_%'";
    let lake = fs::read_to_string(&claim).unwrap().lines().next().unwrap().to_owned();

    // A claim of an older compactor contains only the lake; older workers wrote none.
    for before in [Some(lake), None] {
        case.edit_catalog(remove_owner);
        match before {
            Some(lake) => fs::write(&claim, lake).unwrap(),
            None => fs::remove_file(&claim).unwrap(),
        }
        let stale = copy_of(&mut case);
        drop(case.operator());
        assert_eq!(fs::read_to_string(&claim).unwrap().lines().count(), 2);
        // A copy from before the claim has no owner.
        assert_is_copy(&DuckLake::open(&stale, Access::Commit).err().unwrap());
        case.lake();
    }
    case.fill(120, 1);
    assert_exact(&case);
}
