//! Final check: one pass of a compactor without minimum ages, after which every file must belong to
//! the lake.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{
    compactor_slot,
    environment::{Environment, ObjectStore, lock},
};
use crate::{catalog::CatalogKind, compactor::ONCE, duckdb_cli::quoted_path, wait};

/// Maximum time until all events are in the lake after the last fault. The transaction of a
/// producer that was aborted with its broker blocks readers for a minute.
pub(super) const CATCH_UP_TIMEOUT: Duration = Duration::from_mins(5);

/// More than the minimum age of files, with the resolution of file system clocks.
const FILES_AGE: Duration = Duration::from_secs(3);

/// Comparison of the catalog with the files in the data path.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "printed with Debug if files and catalog differ")]
struct Files {
    /// Data files and delete files that the newest snapshot needs.
    live: u64,
    /// Live files that do not exist.
    gone: u64,
    /// Files that are not in the catalog.
    unknown: u64,
    examples: Option<Vec<String>>,
}

/// Stops the compactor, runs one pass of another, and compares catalog and files.
pub(super) fn run(environment: &Environment, kind: CatalogKind) -> Result<()> {
    let mut slot = lock(&environment.compactor);
    if let Err(error) = slot.stop() {
        environment.add_violation(format!("the compactor did not end gracefully: {error:#}"));
    }
    drop(slot);
    await_intents(environment, kind)?;
    thread::sleep(FILES_AGE);
    let once = compactor_slot::program(&environment.pipeline, ONCE)?;
    if let Err(error) = once.run(environment.pipeline.logs(), "compactor-once", CATCH_UP_TIMEOUT) {
        environment.add_violation(format!("the final compaction failed: {error:#}"));
    }
    let files = compare_files(environment, kind)?;
    if files.gone > 0 || files.unknown > 0 || files.live == 0 {
        environment.add_violation(format!("files and catalog differ: {files:?}"));
    }
    check_uploads(environment)?;
    check_temporary_folder(environment)
}

/// Checks that the compactor has aborted the uploads of killed consumers.
fn check_uploads(environment: &Environment) -> Result<()> {
    let Some(ObjectStore { store, .. }) = &environment.store else { return Ok(()) };
    let unfinished = store.unfinished_uploads(&environment.pipeline.bucket()?);
    if unfinished > 0 {
        environment.add_violation(format!("unfinished uploads remain: {unfinished}"));
    }
    Ok(())
}

/// Waits until intents have expired: that of a killed replay blocks compactors until then.
fn await_intents(environment: &Environment, kind: CatalogKind) -> Result<()> {
    let sql = format!(
        "SELECT count(*) AS live FROM {}ducktide_intent WHERE expires_at::TIMESTAMPTZ > now()",
        catalog_schema(kind)
    );
    wait::until("intents expire", CATCH_UP_TIMEOUT, || {
        thread::sleep(Duration::from_millis(500));
        Ok(environment.pipeline.lake()?.scalar(&sql)? == 0)
    })
}

fn compare_files(environment: &Environment, kind: CatalogKind) -> Result<Files> {
    let schema = catalog_schema(kind);
    let everything = environment.pipeline.data_path().join("**");
    let sql = format!(
        "CREATE TEMP TABLE known AS
             SELECT parse_filename(path) AS name, end_snapshot IS NULL AS live
                 FROM {schema}ducklake_data_file
             UNION ALL SELECT parse_filename(path), end_snapshot IS NULL
                 FROM {schema}ducklake_delete_file
             UNION ALL SELECT parse_filename(path), false
                 FROM {schema}ducklake_files_scheduled_for_deletion;
         CREATE TEMP TABLE stored AS
             SELECT parse_filename(file) AS name FROM glob({});
         CREATE TEMP TABLE gone AS SELECT name FROM known WHERE live AND name NOT IN (FROM stored);
         CREATE TEMP TABLE unknown AS
             SELECT name FROM stored WHERE name NOT IN (SELECT name FROM known)
                 AND name NOT IN ('.ducktide-lake', '.ducktide-probe');
         SELECT (SELECT count(*) FROM known WHERE live) AS live,
             (SELECT count(*) FROM gone) AS gone, (SELECT count(*) FROM unknown) AS unknown,
             (SELECT list(name) FROM (FROM gone UNION ALL FROM unknown LIMIT 5)) AS examples",
        quoted_path(&everything)
    );
    let rows = environment.pipeline.lake()?.query(&sql).context("compare catalog and files")?;
    let row = rows.into_iter().next().context("compare catalog and files: no result")?;
    serde_json::from_value(row).context("parse the comparison of catalog and files")
}

fn catalog_schema(kind: CatalogKind) -> &'static str {
    match kind {
        CatalogKind::Postgres => "__ducklake_metadata_lake.public.",
        CatalogKind::Sqlite => "__ducklake_metadata_lake.",
    }
}

/// Counts the entries that killed merges left in the temporary folder.
fn check_temporary_folder(environment: &Environment) -> Result<()> {
    let folder = environment.pipeline.file("temporary");
    let left = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    environment.stats().temporary_leftovers = left.count();
    Ok(())
}
