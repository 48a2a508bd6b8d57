//! Sending of a commit to the catalog.
//!
//! | catalog | way |
//! |---|---|
//! | PostgreSQL | [`commit_function`]: one call on a connection of the worker, without DuckDB |
//! | SQLite | [`commit_trigger`]: one INSERT under the lock file, through DuckDB |
//!
//! Both take the same message ([`request`]) and return the same answers ([`answer`]).

mod answer;
mod commit_function;
mod commit_trigger;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use ducktide_protocol::StagedFile;
use ducktide_protocol::commit::{Commit, CommitKind};
use ducktide_protocol::error::Result;
use ducktide_protocol::failpoint::{self, Failpoint};
use ducktide_protocol::position::SnapshotId;
use ducktide_protocol::table::TableName;

use self::request::request;
use crate::catalog::intent::{self, Intent};
use crate::config::CatalogLocation;
use crate::duck_lake::DuckLake;

/// Answer to a commit that was sent once.
pub(crate) enum Sent {
    /// The catalog has applied it, and has checked that progress moved. Without a snapshot if it has no rows.
    Committed(Option<SnapshotId>),
    /// A table was altered or dropped after the files were written; nothing was applied.
    TableChanged,
    /// The catalog refused it, or the answer was lost. The caller reads the outcome.
    Failed(Failure),
}

/// Reason of a commit that was not answered with success. It never decides the outcome.
pub(crate) struct Failure {
    /// Error text; it can contain values of rows.
    pub(crate) text: String,
    /// True if a retry cannot succeed, unless the catalog is being restored.
    pub(crate) is_refusal: bool,
}

/// Sends a commit once; waits for announced replays of its sources and tables, at most until they
/// expire: the commit would make a replay's DELETE fail.
///
/// An error means that it was not sent, or that the catalog is in a state in which nothing is applied.
pub(crate) fn send(lake: &mut DuckLake, commit: &Commit) -> Result<Sent> {
    let deadline = Instant::now() + intent::LONGEST_WAIT;
    loop {
        let message = request(commit, Instant::now() >= deadline);
        let answer = match lake.location() {
            CatalogLocation::Postgres(_) => commit_function::call(lake, &message)?,
            CatalogLocation::Sqlite(_) => commit_trigger::fire(lake, commit, &message)?,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return Ok(Sent::Failed(failure)),
        };
        if failpoint::reached(Failpoint::CommitAnswered) {
            let text = "a failpoint reports the answer as lost".to_owned();
            return Ok(Sent::Failed(Failure { text, is_refusal: false }));
        }
        match answer.read()? {
            Some(sent) => return Ok(sent),
            None => await_replays(lake, commit, deadline)?,
        }
    }
}

fn await_replays(lake: &mut DuckLake, commit: &Commit, deadline: Instant) -> Result<()> {
    let sources: BTreeSet<_> = commit.progress().iter().map(|delta| delta.source).collect();
    let tables: BTreeSet<_> = commit.files().iter().map(|file| file.table.to_string()).collect();
    let concerns =
        |intent: &Intent| sources.contains(&intent.source) || tables.contains(&intent.table);
    intent::await_replays(&lake.catalog()?, deadline, concerns)
}

/// Returns author and message of a snapshot, which DuckLake shows as `snapshots().author` and
/// `snapshots().commit_message`.
const fn author(kind: CommitKind) -> (&'static str, &'static str) {
    match kind {
        CommitKind::Retry => ("ducktide", "retry dead letters"),
        CommitKind::Discard => ("ducktide", "discard dead letters"),
        _ => ("ducktide-consumer", "ingest"),
    }
}

pub(crate) fn by_table(files: &[StagedFile]) -> BTreeMap<&TableName, Vec<&StagedFile>> {
    let mut by_table: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for file in files {
        by_table.entry(&file.table).or_default().push(file);
    }
    by_table
}

/// Returns the path as DuckLake stores it: relative to the table's directory.
pub(crate) fn relative_path(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match partition_directory(path) {
        Some(directory) => format!("{directory}/{name}"),
        None => name.into_owned(),
    }
}

/// Returns the hive directory of a partitioned file, such as `event_date=2026-11-01`.
pub(crate) fn partition_directory(path: &Path) -> Option<&str> {
    let directory = path.parent()?.file_name()?.to_str()?;
    directory.starts_with("event_date=").then_some(directory)
}
