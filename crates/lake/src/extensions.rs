//! DuckDB's extensions: where they are, their verification, and loading them.
//!
//! DuckDB checks the signature of an extension at every `LOAD`, with a portable SHA-256 over 35 to
//! 42 MB: 0.15 to 0.25 CPU seconds for each (1.5.5, measured), more than everything else that a
//! short command does. The files that Ducktide ships are known, so they are compared with pinned
//! digests instead, by the processor's own instructions and once per process. Only when all of them
//! match is DuckDB opened without its check, and the check is switched on again as soon as they are
//! loaded: DuckDB allows that change in this direction only. Any other file gets DuckDB's check.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use duckdb::{Config, Connection};
use ducktide_protocol::error::{LakeError, Result};
use sha2::{Digest as _, Sha256};

use crate::config::{CatalogLocation, LakeConfig};
use crate::session::quote;

/// SHA-256 of the files for DuckDB 1.5.5 on Linux x86-64, as `xtask/pins.txt` brings them.
const PINNED: [(&str, &str); 3] = [
    ("ducklake", "e51bf9e8d933d0e83780ae096455501b542cf962569a2ce5613532d702c08302"),
    ("postgres_scanner", "b1ced4cfc6311313e117c2afb3eac76508718778dde0716421503c7dbfb5605c"),
    ("sqlite_scanner", "693d2bf90779df23ca5ebe0688639b9adfc11c2d55ae3466b33e28be16afaa5e"),
];

/// The extensions that a lake needs.
pub(crate) struct Extensions {
    names: [&'static str; 2],
    /// None where DuckDB installs them from its repository.
    directory: Option<PathBuf>,
    are_pinned: bool,
}

impl Extensions {
    /// Finds the extensions of a lake, and compares them with the pinned digests.
    pub(crate) fn find(config: &LakeConfig) -> Self {
        let catalog_extension = match config.catalog {
            CatalogLocation::Sqlite(_) => "sqlite_scanner",
            CatalogLocation::Postgres(_) => "postgres_scanner",
        };
        let names = ["ducklake", catalog_extension];
        let directory = config.extension_dir.clone().or_else(bundled);
        let are_pinned = directory.as_ref().is_some_and(|directory| {
            names.iter().all(|name| is_pinned(name, &file(directory, name)))
        });
        Self { names, directory, are_pinned }
    }

    /// Settings with which these extensions can be loaded.
    pub(crate) fn permit(&self, config: Config) -> duckdb::Result<Config> {
        if self.are_pinned { config.allow_unsigned_extensions() } else { Ok(config) }
    }

    /// Loads them. Afterwards DuckDB takes signed extensions only.
    pub(crate) fn load(&self, connection: &Connection) -> Result<()> {
        for name in self.names {
            let sql = match &self.directory {
                Some(path) => format!("LOAD {}", quote(&file(path, name).to_string_lossy())),
                None => format!("INSTALL {name}; LOAD {name}"),
            };
            connection.execute_batch(&sql).map_err(|error| self.refusal(name).because(error))?;
        }
        let sql = "SET allow_unsigned_extensions = false";
        connection.execute_batch(sql).map_err(|error| {
            LakeError::invalid("switch DuckDB's signature check on").because(error)
        })
    }

    fn refusal(&self, name: &str) -> LakeError {
        let found = self.directory.as_ref().map(|path| file(path, name));
        match found.filter(|path| path.is_file()) {
            Some(path) => LakeError::invalid(format!(
                "load a DuckDB extension: the file is not the one for DuckDB 1.5.5 that Ducktide \
                 ships; restore it, or name a folder with the original files by --extension-dir: \
                 extension=`{name}` file=`{}`",
                path.display()
            )),
            None => LakeError::invalid(format!(
                "load a DuckDB extension; put its file into --extension-dir: extension=`{name}`"
            )),
        }
    }
}

fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.duckdb_extension"))
}

/// Returns the folder with the extension files that an installation or the workspace carries.
fn bundled() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let beside = program.parent()?.join("extensions");
    let installed = program.parent()?.parent()?.join("lib/ducktide/extensions");
    let workspace =
        program.ancestors().skip(2).take(4).map(|path| path.join(".ducktide/extensions"));
    [beside, installed]
        .into_iter()
        .chain(workspace)
        .find(|path| path.join("ducklake.duckdb_extension").is_file())
}

/// A file's device, inode, size, and the times of its last change of content and of attributes.
type FileIdentity = [i128; 5];

/// Returns whether the file has the pinned digest of that extension. A file is read once per process,
/// unless it changes.
fn is_pinned(name: &str, path: &Path) -> bool {
    static VERIFIED: Mutex<Option<HashMap<PathBuf, (FileIdentity, bool)>>> = Mutex::new(None);

    let Ok(identity) = identity(path) else { return false };
    let mut verified = VERIFIED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let verified = verified.get_or_insert_default();
    if let Some((_, is_pinned)) = verified.get(path).filter(|(known, _)| *known == identity) {
        return *is_pinned;
    }
    let pinned = PINNED.iter().find(|(pinned, _)| *pinned == name).map(|(_, digest)| *digest);
    let is_pinned = pinned.is_some() && digest(path).ok().as_deref() == pinned;
    verified.insert(path.to_owned(), (identity, is_pinned));
    is_pinned
}

fn identity(path: &Path) -> io::Result<FileIdentity> {
    let metadata = path.metadata()?;
    let nanoseconds =
        |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Ok([
        metadata.dev().into(),
        metadata.ino().into(),
        metadata.len().into(),
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    ])
}

/// Returns the SHA-256 of a file, in lower-case hexadecimal.
fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hasher.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    }))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::FileExt as _};

    use super::*;

    fn lake(extensions: &Path) -> LakeConfig {
        let catalog = CatalogLocation::Sqlite("/nowhere/lake.sqlite".into());
        LakeConfig { extension_dir: Some(extensions.to_owned()), ..LakeConfig::at(catalog) }
    }

    fn open(extensions: &Extensions) -> Connection {
        let config = extensions.permit(Config::default()).unwrap();
        Connection::open_in_memory_with_flags(config).unwrap()
    }

    /// A folder with copies of the extensions that a SQLite lake needs.
    fn copies() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ducklake", "sqlite_scanner"] {
            fs::copy(file(&bundled().unwrap(), name), file(folder.path(), name)).unwrap();
        }
        folder
    }

    #[test]
    fn shipped_extensions_are_loaded_without_the_signature_check_which_is_on_afterwards() {
        let folder = copies();
        let extensions = Extensions::find(&lake(folder.path()));
        assert!(extensions.are_pinned);
        let connection = open(&extensions);

        extensions.load(&connection).unwrap();

        let setting = "SELECT current_setting('allow_unsigned_extensions')";
        assert!(!connection.query_row(setting, [], |row| row.get::<_, bool>(0)).unwrap());
        let on_again = connection.execute_batch("SET allow_unsigned_extensions = true");
        assert!(on_again.unwrap_err().to_string().contains("while database is running"));
    }

    #[test]
    fn a_changed_extension_is_refused_although_the_same_process_has_verified_it_before() {
        let folder = copies();
        assert!(Extensions::find(&lake(folder.path())).are_pinned);
        let path = file(folder.path(), "ducklake");
        let changed = File::options().write(true).open(&path).unwrap();
        changed.write_at(b"changed", 1 << 20).unwrap();

        let extensions = Extensions::find(&lake(folder.path()));
        let error = extensions.load(&open(&extensions)).unwrap_err();

        assert!(!extensions.are_pinned);
        assert!(error.to_string().contains("extension=`ducklake`"), "{error}");
        assert!(error.chain().contains("signature"), "{}", error.chain());
    }

    #[test]
    fn a_folder_without_the_files_names_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let extensions = Extensions::find(&lake(folder.path()));

        let error = extensions.load(&open(&extensions)).unwrap_err();

        assert!(error.to_string().contains("--extension-dir"), "{error}");
    }
}
