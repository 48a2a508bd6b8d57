//! Checks of files: each registered file exists once, with the registered size.
//!
//! Files that only older snapshots need are checked too: time travel reads them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use ducktide_lake::data_path::DataPath;
use ducktide_lake::session::Session;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_storage::{Storage, normalize};

use super::catalog_view::{CatalogView, FileEntry, still_registered};
use super::finding::{Finding, FindingKind, FindingPlace, Findings, Note, NoteKind};

/// Maximum number of files that are checked a second time, in one query.
const RECHECKED: usize = 1000;

/// Number and size of the checked files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesChecked {
    /// Number of data files and delete files that some snapshot needs.
    pub files: u64,
    /// Sum of their registered sizes, in bytes.
    pub bytes: u64,
}

/// Checks every file of the view.
pub(super) fn check(
    session: &Session,
    view: &CatalogView,
    findings: &mut Findings,
    notes: &mut Vec<Note>,
) -> Result<FilesChecked> {
    let paths = resolve(view);
    let checked = FilesChecked {
        files: view.files.len() as u64,
        bytes: view.files.iter().map(|file| file.bytes).sum(),
    };
    find_registered_twice(view, &paths, findings);
    for (table_id, path) in &view.scheduled_files {
        let table = view.table_name(*table_id);
        let detail = "registered, and scheduled for deletion".to_owned();
        let place = FindingPlace::file(table, path.clone());
        findings.add(Finding::new(FindingKind::FileToBeDeleted, place, 1, detail));
    }
    let data_path = DataPath::read(session)?;
    let storage = data_path.storage()?;
    let elsewhere = paths.iter().filter(|path| !storage.has(path)).count() as u64;
    if elsewhere > 0 {
        let place = FindingPlace::default();
        notes.push(Note { kind: NoteKind::FilesNotChecked, place, count: elsewhere });
    }
    let wrong = compare_sizes(&storage, data_path.root(), view, &paths)?;
    let wrong = still_wrong(session, view, wrong)?;
    let is_replayed = |(index, _): &(usize, FileProblem)| {
        view.files[*index].ended.is_some_and(|ended| view.missing_files_ended.contains(&ended))
    };
    let (replayed, wrong): (Vec<_>, Vec<_>) = wrong.into_iter().partition(is_replayed);
    if !replayed.is_empty() {
        let (place, count) = (FindingPlace::default(), replayed.len() as u64);
        notes.push(Note { kind: NoteKind::FilesReplayed, place, count });
    }
    for (index, what) in wrong {
        findings.add(describe(view, &view.files[index], &paths[index], what));
    }
    Ok(checked)
}

/// Difference between a file and its registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileProblem {
    Missing(io::ErrorKind),
    Size(u64),
}

fn resolve(view: &CatalogView) -> Vec<PathBuf> {
    let tables: std::collections::HashMap<_, _> =
        view.tables.iter().map(|table| (table.id, table.directory.as_path())).collect();
    let directory = |file: &FileEntry| tables.get(&file.table_id).copied().unwrap_or(Path::new(""));
    view.files.iter().map(|file| canonical(directory(file).join(&file.path))).collect()
}

/// Returns a local path in canonical form, without `//` and `/./`, so that bytes can be compared. Sorting a
/// hundred thousand paths takes some two million comparisons, and comparing components is slow.
fn canonical(path: PathBuf) -> PathBuf {
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_folded = |two: &[u8]| two != b"//" && two != b"/.";
    if bytes.windows(2).all(is_folded) { path } else { normalize(&path) }
}

/// Finds files that are registered more than once, also under another form of the path or with an ended
/// registration: a cleanup of that one would remove the file of the live one (invariant I6).
fn find_registered_twice(view: &CatalogView, paths: &[PathBuf], findings: &mut Findings) {
    let data = |index: &usize| !view.files[*index].is_delete_file;
    let mut order: Vec<usize> = (0..paths.len()).filter(data).collect();
    order.sort_unstable_by(|a, b| paths[*a].as_os_str().cmp(paths[*b].as_os_str()));
    for same in order
        .chunk_by(|a, b| paths[*a].as_os_str() == paths[*b].as_os_str())
        .filter(|same| same.len() > 1)
        // When all have ended, as after a replay, no row counts twice and no live file is removed.
        .filter(|same| same.iter().any(|index| view.files[*index].ended.is_none()))
    {
        let first = &view.files[same[0]];
        let ids: Vec<_> = same.iter().map(|index| view.files[*index].id.to_string()).collect();
        let place = FindingPlace::file(view.table_name(first.table_id), shown(&paths[same[0]]));
        let detail =
            format!("data_file_id {} are one file of {} rows", ids.join(", "), first.records);
        let kind = FindingKind::FileRegisteredTwice;
        findings.add(Finding::new(kind, place, same.len() as u64, detail));
    }
}

/// Checks the files that differ from their registration in the catalog again: between the catalog's answer
/// and the check of the storage a file may have been merged, expired and removed.
fn still_wrong(
    session: &Session,
    view: &CatalogView,
    mut wrong: Vec<(usize, FileProblem)>,
) -> Result<Vec<(usize, FileProblem)>> {
    let doubtful: Vec<_> =
        wrong.iter().take(RECHECKED).map(|(index, _)| &view.files[*index]).collect();
    if doubtful.is_empty() {
        return Ok(wrong);
    }
    let registered: BTreeSet<i64> = still_registered(session, &doubtful)?;
    let doubtful = doubtful.len();
    let mut position = 0;
    wrong.retain(|(index, _)| {
        position += 1;
        position > doubtful || registered.contains(&view.files[*index].id)
    });
    Ok(wrong)
}

/// Finds files that differ from their registration, by their indexes.
fn compare_sizes(
    storage: &Storage,
    root: &Path,
    view: &CatalogView,
    paths: &[PathBuf],
) -> Result<Vec<(usize, FileProblem)>> {
    let checked = paths.iter().enumerate().filter(|(_, path)| storage.has(path));
    let (indexes, checked): (Vec<_>, Vec<_>) =
        checked.map(|(index, path)| (index, path.as_path())).unzip();
    let sizes = storage.sizes(root, &checked);
    let sizes = sizes.map_err(|error| LakeError::of_io("list the files of the lake", error))?;
    let problem = |(index, size): (usize, std::result::Result<u64, io::ErrorKind>)| {
        let problem = match size {
            Ok(found) if found == view.files[index].bytes => return None,
            Ok(found) => FileProblem::Size(found),
            Err(kind) => FileProblem::Missing(kind),
        };
        Some((index, problem))
    };
    Ok(indexes.into_iter().zip(sizes).filter_map(problem).collect())
}

fn describe(view: &CatalogView, file: &FileEntry, path: &Path, wrong: FileProblem) -> Finding {
    let kind = match wrong {
        _ if file.is_delete_file => FindingKind::DeleteFileMissing,
        FileProblem::Missing(_) => FindingKind::DataFileMissing,
        FileProblem::Size(_) => FindingKind::DataFileTruncated,
    };
    let what = match wrong {
        FileProblem::Missing(io::ErrorKind::NotFound) => "not there".to_owned(),
        FileProblem::Missing(error) => error.to_string(),
        FileProblem::Size(found) => format!("{found} bytes instead of {}", file.bytes),
    };
    let does = if file.is_delete_file { "removes" } else { "holds" };
    let rows = format!("{does} {} rows", file.records);
    let needed = match file.ended {
        Some(_) => "only older snapshots need it",
        None => "the newest snapshot needs it",
    };
    let place = FindingPlace::file(view.table_name(file.table_id), shown(path));
    let count = u64::try_from(file.records).unwrap_or(0);
    Finding::new(kind, place, count, format!("{what}; {rows}; {needed}"))
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_path_has_one_canonical_form() {
        for spelling in ["/lake/main/e/f", "/lake//main/e/f", "/lake/./main/e//f"] {
            assert_eq!(canonical(spelling.into()).as_os_str(), "/lake/main/e/f");
        }
        assert_eq!(canonical("s3://bucket/f".into()).as_os_str(), "s3://bucket/f");
    }
}
