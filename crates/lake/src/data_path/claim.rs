//! Claim file, by which a lake owns its data path.
//!
//! ```text
//! 0193f2a1-7c3e-7b1a-9d2f-0123456789ab    lake: the UUID of its first schema
//! 5d0a4a54-4e0b-4a5c-8f57-2f6f0f1f6c1e    token of the owning catalog; missing in older files
//! ```

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ducktide_storage::Storage;

use super::file_name::is_file_of_a_lake;

/// Name of the claim file.
pub const NAME: &str = ".ducktide-lake";

/// Owner of a data path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Identity of the lake.
    pub lake: String,
    /// Token that distinguishes the owning catalog from its copies; None in files of older programs.
    pub token: Option<String>,
}

impl Claim {
    /// Parses the text of a claim file. None if it is empty, because its writer crashed.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lake = lines.next()?.to_owned();
        Some(Self { lake, token: lines.next().map(str::to_owned) })
    }

    fn text(&self) -> String {
        format!("{}\n{}\n", self.lake, self.token.as_deref().unwrap_or_default())
    }

    /// Reads the claim on a data path. None if the claim or the directory does not exist.
    pub(crate) fn read(root: &Path) -> io::Result<Option<Self>> {
        let content = Storage::of(root)?.read(&root.join(NAME))?;
        let text = content.map(String::from_utf8).transpose();
        let text = text.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Ok(text.as_deref().and_then(Self::parse))
    }

    /// Claims an unclaimed data path. False if another program has claimed it in the meantime.
    pub(super) fn take(&self, root: &Path) -> io::Result<bool> {
        let (storage, path, text) = (Storage::of(root)?, root.join(NAME), self.text());
        if storage.create(&path, text.as_bytes())? {
            return Ok(true);
        }
        // An empty file, whose writer crashed, is no claim.
        let is_empty = Self::read(root)?.is_none();
        if is_empty { storage.replace(&path, text.as_bytes()).map(|()| true) } else { Ok(false) }
    }

    /// Replaces the previous claim.
    pub(super) fn replace(&self, root: &Path) -> io::Result<()> {
        Storage::of(root)?.replace(&root.join(NAME), self.text().as_bytes())
    }
}

/// Reason that a directory is unfit for a new lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Occupied {
    /// The directory, or one above or below it, is another lake's data path.
    Claimed(PathBuf),
    /// The directory holds a data file of a lake.
    Used(PathBuf),
}

/// Returns the reason that a directory is unfit for a new lake; None if it is fit. Links are resolved
/// for the directory itself, and not followed below it.
pub(super) fn occupied(root: &Path) -> io::Result<Option<Occupied>> {
    let storage = Storage::of(root)?;
    let resolved = storage.resolve(root)?;
    for above in resolved.ancestors().take_while(|path| storage.has(path)) {
        match is_claimed(&storage, above) {
            Ok(true) => return Ok(Some(Occupied::Claimed(above.to_owned()))),
            Ok(false) => {}
            // The permissions of a role can be limited to the data path.
            Err(error) if above != resolved && error.kind() == ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    find_below(&storage, &resolved)
}

/// Returns whether a lake has claimed the directory.
pub fn is_claimed(storage: &Storage, directory: &Path) -> io::Result<bool> {
    storage.exists(&directory.join(NAME))
}

fn find_below(storage: &Storage, root: &Path) -> io::Result<Option<Occupied>> {
    let mut found = None;
    let listed = storage.list(root, &|_| true, &mut |file| {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        if name == NAME {
            found = file.path.parent().map(|directory| Occupied::Claimed(directory.to_owned()));
        } else if is_file_of_a_lake(&name) {
            found = Some(Occupied::Used(file.path));
        }
        if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match listed {
        Err(error) if error.source.kind() != ErrorKind::NotADirectory => Err(error.source),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn claim(lake: &str, token: Option<&str>) -> Claim {
        Claim { lake: lake.to_owned(), token: token.map(str::to_owned) }
    }

    #[test]
    fn claims_of_this_and_of_older_programs_are_parsed() {
        for written in [claim("lake", Some("token")), claim("lake", None)] {
            assert_eq!(Claim::parse(&written.text()), Some(written));
        }
        assert_eq!(Claim::parse("lake"), Some(claim("lake", None)));
        assert_eq!(Claim::parse("\n"), None);
    }

    #[test]
    fn a_second_claim_of_a_data_path_fails() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");

        assert_eq!(Claim::read(&root).unwrap(), None);
        assert!(claim("a", Some("1")).take(&root).unwrap());
        assert!(!claim("b", Some("2")).take(&root).unwrap());
        assert_eq!(Claim::read(&root).unwrap(), Some(claim("a", Some("1"))));

        claim("a", Some("3")).replace(&root).unwrap();
        assert_eq!(Claim::read(&root).unwrap(), Some(claim("a", Some("3"))));
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "no temporary file remains");
    }

    #[test]
    fn an_empty_claim_file_is_no_claim() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "").unwrap();

        assert!(claim("a", None).take(folder.path()).unwrap());
        assert_eq!(Claim::read(folder.path()).unwrap(), Some(claim("a", None)));
    }

    #[test]
    fn a_directory_above_or_below_a_lakes_data_path_is_occupied() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let data = base.join("a/data");
        claim("a", None).take(&data).unwrap();
        std::os::unix::fs::symlink(&data, base.join("link")).unwrap();

        for path in ["a/data", "a/data/", "a/data/b", "a/data/b/c", "a", "", "link", "link/b"] {
            let found = occupied(&base.join(path)).unwrap();
            assert_eq!(found, Some(Occupied::Claimed(data.clone())), "{path}");
        }
        for path in ["b", "a/database", "a/data2"] {
            assert_eq!(occupied(&base.join(path)).unwrap(), None, "{path}");
        }
    }

    #[test]
    fn a_directory_with_unclaimed_files_of_a_lake_is_occupied() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("main/events/event_date=2026-11-01");
        fs::create_dir_all(&table).unwrap();
        fs::write(table.join("notes.txt"), "").unwrap();
        assert_eq!(occupied(folder.path()).unwrap(), None);

        let file = table.join("ducklake-0193f2a1-7c3e-7b1a-9d2f-0123456789ab.parquet");
        fs::write(&file, "").unwrap();
        assert_eq!(occupied(folder.path()).unwrap(), Some(Occupied::Used(file)));
    }
}
