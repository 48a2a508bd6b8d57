//! Removal of orphans: files that the catalog does not list, left by a worker that died before its commit
//! or by an operation that failed.
//!
//! `ducklake_delete_orphaned_files` is not used: it lists live files for some forms of the data path, and
//! compares times as text in a SQLite catalog. The rules here:
//! - only files in the directories of the catalog's tables, and only with names that Ducktide or DuckLake
//!   generates;
//! - only files that were last written before a margin, far longer than any commit takes;
//! - no file whose *name* the catalog has, in whatever directory: names hold a UUID, so the same name is
//!   the same file;
//! - no file at or below a directory that another lake has claimed;
//! - no file at all when another lake has claimed the data path, when a live file is not where the catalog
//!   says, or when there are suspiciously many orphans: then something else is wrong.

mod catalog_files;
mod walk;

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use ducktide_lake::DuckLake;
use ducktide_lake::data_path::{self, DataPath};
use ducktide_lake::session::Session;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_storage::{ListError, StoredFile};

use self::catalog_files::{CatalogFiles, TableDirectories};
use super::{MaintenanceOutcome, Operation, maintain};

/// Minimum margin: a worker that cannot reach the catalog keeps its files for the whole outage, and
/// commits them afterwards.
const MIN_MARGIN: Duration = Duration::from_hours(24);

/// Maximum number of paths that an error names.
const EXAMPLES: usize = 3;

/// Files that the catalog does not list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// The files.
    pub candidates: Vec<StoredFile>,
    /// Sum of their sizes, in bytes.
    pub bytes: u64,
    /// Number of data files and delete files that the newest snapshot needs.
    pub live_files: u64,
}

/// Limits for the removal of orphans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OrphanPolicy {
    /// Minimum age, since the last write, of files that are removed. At least a day: longer than any
    /// outage during which a worker keeps uncommitted files.
    pub margin: Duration,
    /// Maximum number of orphans as a fraction of the live files. More indicate another problem, and
    /// none is removed.
    pub max_share: f64,
    /// Number of orphans that are removed regardless of the fraction.
    pub always_allowed: u64,
    /// Accepts a margin of less than a day. For tests: it removes files that slow workers are about to
    /// commit.
    pub accept_any_margin: bool,
}

impl Default for OrphanPolicy {
    fn default() -> Self {
        let margin = Duration::from_hours(7 * 24);
        Self { margin, max_share: 0.05, always_allowed: 100, accept_any_margin: false }
    }
}

impl OrphanPolicy {
    /// Returns the maximum number of orphans that may be removed.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of files, which is far below 2^52"
    )]
    fn most(&self, live_files: u64) -> u64 {
        let share = self.max_share.clamp(0.0, 1.0) * live_files as f64;
        self.always_allowed.max(share as u64)
    }

    fn check(&self, orphans: &Orphans) -> Result<()> {
        let (found, live) = (orphans.candidates.len() as u64, orphans.live_files);
        if found <= self.most(live) {
            return Ok(());
        }
        let paths = orphans.candidates.iter().take(EXAMPLES);
        let paths = paths.map(|orphan| orphan.path.display().to_string()).collect::<Vec<_>>();
        Err(LakeError::invalid(format!(
            "suspiciously many files are unknown to the catalog, so none is removed; does another \
             lake share the data path, or was the catalog restored? If they may go, raise the \
             allowed share: orphans=`{found}` live_files=`{live}` max_share=`{}` examples=`{}`",
            self.max_share,
            paths.join(" ")
        )))
    }
}

/// Finds the files that were last written longer than `margin` ago and that the catalog does not list;
/// removes nothing.
///
/// An error of kind [`Invalid`](ducktide_protocol::ErrorKind::Invalid) states why they cannot be identified.
pub fn find_orphans(lake: &mut DuckLake, margin: Duration) -> Result<Orphans> {
    let session = lake.session()?;
    find(session, &TableDirectories::read(session)?, margin)
}

/// Removes the files that [`find_orphans`] finds, unless there are more than the policy allows, and uploads of
/// the same age that were not finished. Returns their number.
pub fn remove_orphans(
    lake: &mut DuckLake,
    policy: &OrphanPolicy,
    timeout: Duration,
) -> Result<MaintenanceOutcome> {
    if policy.margin < MIN_MARGIN && !policy.accept_any_margin {
        return Err(LakeError::invalid(format!(
            "files that workers are about to commit could be removed; set the margin of orphans \
             to a day at least: margin=`{}s`",
            policy.margin.as_secs()
        )));
    }
    maintain(lake, Operation::RemoveOrphans, timeout, |session, writing| {
        let tables = TableDirectories::read(session)?;
        let orphans = find(session, &tables, policy.margin)?;
        policy.check(&orphans)?;
        writing.leader.check()?;
        let removed = remove(&orphans, &tables.data_path)?;
        Ok(MaintenanceOutcome::Done(removed + abort_uploads(&tables.data_path, policy.margin)?))
    })
}

/// Aborts the lake's unfinished uploads: their writers were killed.
fn abort_uploads(data_path: &DataPath, margin: Duration) -> Result<u64> {
    let (storage, root) = (data_path.storage()?, data_path.root());
    let aborted = storage.abort_unfinished(root, before(margin), &data_path::is_file_of_a_lake);
    let aborted = aborted.map_err(failed)?;
    if aborted > 0 {
        tracing::info!(uploads = aborted, "unfinished uploads aborted");
    }
    Ok(aborted)
}

/// Returns the newest time at which an orphan was last written.
fn before(margin: Duration) -> SystemTime {
    SystemTime::now().checked_sub(margin).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn find(session: &Session, tables: &TableDirectories, margin: Duration) -> Result<Orphans> {
    data_path::check_lake(session, &tables.data_path)?;
    let mut candidates = walk::old_files(&tables.directories, &tables.data_path, before(margin))?;
    // Read after the directories: a file that was registered before it was listed is in the catalog.
    let known = CatalogFiles::read(session)?;
    known.check_live_files(tables)?;
    candidates.retain(|orphan| !known.has(&orphan.path));
    let bytes = candidates.iter().map(|orphan| orphan.bytes).sum();
    Ok(Orphans { candidates, bytes, live_files: known.live_files() })
}

/// Removes each file that has not changed since it was listed.
fn remove(orphans: &Orphans, data_path: &DataPath) -> Result<u64> {
    orphans.candidates.iter().try_for_each(|orphan| data_path.check(&orphan.path))?;
    let sizes: HashMap<_, _> =
        orphans.candidates.iter().map(|orphan| (orphan.path.as_path(), orphan.bytes)).collect();
    let mut removed = 0;
    let done = data_path.storage()?.remove_files(&orphans.candidates, &mut |path| {
        removed += 1;
        let (bytes, path) = (sizes.get(path).copied(), path.display());
        tracing::info!(%path, bytes, "orphan removed");
    });
    done.map_err(failed)?;
    Ok(removed)
}

fn failed(error: ListError) -> LakeError {
    LakeError::unavailable(error.to_string()).because(error.source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orphans(candidates: usize, live_files: u64) -> Orphans {
        let orphan =
            StoredFile { path: "/lake/f".into(), bytes: 1, modified: SystemTime::UNIX_EPOCH };
        Orphans { candidates: vec![orphan; candidates], bytes: 1, live_files }
    }

    #[test]
    fn more_orphans_than_a_fraction_of_the_live_files_are_suspicious() {
        let policy = OrphanPolicy::default();

        policy.check(&orphans(100, 0)).unwrap();
        policy.check(&orphans(500, 10_000)).unwrap();
        let error = policy.check(&orphans(501, 10_000)).unwrap_err().to_string();
        assert!(error.contains("orphans=`501` live_files=`10000` max_share=`0.05`"), "{error}");
        assert!(policy.check(&orphans(101, 0)).is_err());
    }
}
