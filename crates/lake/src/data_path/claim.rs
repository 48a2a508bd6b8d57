//! Claim file, by which a lake owns its data path.
//!
//! ```text
//! 0193f2a1-7c3e-7b1a-9d2f-0123456789ab    lake: the UUID of its first schema
//! 5d0a4a54-4e0b-4a5c-8f57-2f6f0f1f6c1e    token of the owning catalog; missing in older files
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

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
        match fs::read_to_string(root.join(NAME)) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Claims an unclaimed data path. False if another program has claimed it in the meantime.
    pub(super) fn take(&self, root: &Path) -> io::Result<bool> {
        fs::create_dir_all(root)?;
        let (path, written) = (root.join(NAME), self.write_beside(root)?);
        // A hard link appears with its content, and fails if the file exists.
        let taken = match fs::hard_link(&written, &path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // An empty file, whose writer crashed, is no claim.
                let is_empty = Self::read(root)?.is_none();
                if is_empty { fs::rename(&written, &path).map(|()| true) } else { Ok(false) }
            }
            Err(error) if has_no_hard_links(&error) => fs::rename(&written, &path).map(|()| true),
            // After any other error, a rename could replace the claim of another program.
            Err(error) => Err(error),
        };
        let _ = fs::remove_file(&written);
        let taken = taken?;
        File::open(root)?.sync_all()?;
        Ok(taken)
    }

    /// Replaces the previous claim.
    pub(super) fn replace(&self, root: &Path) -> io::Result<()> {
        fs::create_dir_all(root)?;
        let written = self.write_beside(root)?;
        fs::rename(&written, root.join(NAME))?;
        File::open(root)?.sync_all()
    }

    fn write_beside(&self, root: &Path) -> io::Result<PathBuf> {
        let path = root.join(format!("{NAME}-{}", Uuid::new_v4()));
        let mut file = File::create_new(&path)?;
        file.write_all(self.text().as_bytes()).and_then(|()| file.sync_all())?;
        Ok(path)
    }
}

/// Reports that the file system has no hard links: FAT answers EPERM, others that it is not supported.
fn has_no_hard_links(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported
        || error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error())
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
    if let Some(claimed) = claimed_at_or_above(&resolve(root)?) {
        return Ok(Some(Occupied::Claimed(claimed)));
    }
    find_below(root)
}

/// Returns the nearest claimed directory, from this one upwards.
fn claimed_at_or_above(directory: &Path) -> Option<PathBuf> {
    directory.ancestors().find(|path| is_claimed(path)).map(Path::to_owned)
}

/// Returns whether a lake has claimed the directory.
#[must_use]
pub fn is_claimed(directory: &Path) -> bool {
    directory.join(NAME).exists()
}

/// Resolves the links of a path. Its last components need not exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    for above in path.ancestors() {
        match fs::canonicalize(above) {
            Ok(found) => {
                let rest = path.strip_prefix(above).unwrap_or_else(|_| Path::new(""));
                return Ok(found.join(rest));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(path.to_owned())
}

fn find_below(root: &Path) -> io::Result<Option<Occupied>> {
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let (kind, name) = (entry.file_type()?, entry.file_name());
            let name = name.to_string_lossy();
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() && name == NAME {
                return Ok(Some(Occupied::Claimed(directory)));
            } else if kind.is_file() && is_file_of_a_lake(&name) {
                return Ok(Some(Occupied::Used(entry.path())));
            }
        }
    }
    Ok(None)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
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
