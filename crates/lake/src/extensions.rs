//! Location, verification and loading of DuckDB's extensions.
//!
//! DuckDB checks the signature of an extension at every `LOAD`, with a portable SHA-256 over 35 to
//! 42 MB: 0.15 to 0.25 CPU seconds for each (1.5.5, measured), more than the rest of a short command
//! takes. The files that Ducktide ships are known, so they are compared with pinned digests instead,
//! with the processor's SHA instructions and once per file: the identity of a verified file is recorded.
//! DuckDB is opened without its check only if all files match, and the check is enabled again as soon as
//! they are loaded: DuckDB allows this change in this direction only. DuckDB checks any other file.

mod verification_record;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::SystemTime,
};

use duckdb::{Config, Connection};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_storage::Storage;
use sha2::{Digest as _, Sha256};

use crate::config::{CatalogLocation, LakeConfig};
use crate::sql_text::quote;
use verification_record::{FileIdentity, VerificationRecord, user_cache};

/// SHA-256 of the files for DuckDB 1.5.5 on Linux x86-64, which `xtask/pins.txt` lists.
const PINNED: [(&str, &str); 3] = [
    ("ducklake", "e51bf9e8d933d0e83780ae096455501b542cf962569a2ce5613532d702c08302"),
    ("postgres_scanner", "b1ced4cfc6311313e117c2afb3eac76508718778dde0716421503c7dbfb5605c"),
    ("sqlite_scanner", "693d2bf90779df23ca5ebe0688639b9adfc11c2d55ae3466b33e28be16afaa5e"),
];

/// Extensions that a lake needs.
pub(crate) struct Extensions {
    names: [&'static str; 2],
    /// Folder of the files; None if DuckDB installs them from its repository.
    directory: Option<PathBuf>,
    are_pinned: bool,
}

impl Extensions {
    /// Finds the extensions of a lake, and compares them with the pinned digests.
    pub(crate) fn find(config: &LakeConfig) -> Self {
        Self::named(names_of(config), config.extension_dir.clone())
    }

    /// Finds two extensions in a folder, or next to the program.
    pub(crate) fn named(names: [&'static str; 2], directory: Option<PathBuf>) -> Self {
        let directory = directory.or_else(bundled);
        let are_pinned = directory.as_ref().is_some_and(|directory| are_pinned(names, directory));
        Self { names, directory, are_pinned }
    }

    /// Returns whether the files of a lake's extensions are in the folder that is set, or next to the
    /// program, or DuckDB installs them from its repository. Does not verify them.
    pub(crate) fn are_available(config: &LakeConfig) -> bool {
        let directory = config.extension_dir.clone().or_else(bundled);
        directory.is_none_or(|directory| {
            names_of(config).iter().all(|name| file(&directory, name).is_file())
        })
    }

    /// Returns whether the file of the extension that reads a storage is available, if DuckDB needs one.
    pub(crate) fn can_read(config: &LakeConfig, storage: &Storage) -> bool {
        let directory = config.extension_dir.clone().or_else(bundled);
        let Some((name, directory)) = storage.duckdb_extension().zip(directory) else {
            return true;
        };
        file(&directory, name).is_file()
    }

    /// Returns the names of the extensions.
    pub(crate) const fn names(&self) -> [&'static str; 2] {
        self.names
    }

    /// Returns whether the files are on this machine; DuckDB installs them from its repository otherwise.
    pub(crate) const fn are_local(&self) -> bool {
        self.directory.is_some()
    }

    /// Adds the settings that these extensions need to a DuckDB configuration.
    pub(crate) fn permit(&self, config: Config) -> duckdb::Result<Config> {
        if self.are_pinned { config.allow_unsigned_extensions() } else { Ok(config) }
    }

    /// Loads the extensions. Afterwards DuckDB accepts signed extensions only.
    pub(crate) fn load(&self, connection: &Connection) -> Result<()> {
        for name in self.names {
            load(connection, name, self.directory())?;
        }
        let sql = "SET allow_unsigned_extensions = false";
        connection
            .execute_batch(sql)
            .map_err(|error| LakeError::invalid("enable DuckDB's signature check").because(error))
    }

    /// Folder of the files; None if DuckDB installs them from its repository.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }
}

/// Loads one more extension. DuckDB checks its signature.
pub(crate) fn load(connection: &Connection, name: &str, directory: Option<&Path>) -> Result<()> {
    let sql = match directory {
        Some(directory) => format!("LOAD {}", quote(&file(directory, name).to_string_lossy())),
        None => format!("INSTALL {name}; LOAD {name}"),
    };
    let loaded = connection.execute_batch(&sql);
    loaded.map_err(|error| refusal(name, directory).because(error))
}

fn refusal(name: &str, directory: Option<&Path>) -> LakeError {
    let found = directory.map(|path| file(path, name));
    match found.filter(|path| path.is_file()) {
        Some(path) => LakeError::invalid(format!(
            "load a DuckDB extension: the file is not the one for DuckDB 1.5.5 that Ducktide \
                 ships; restore it, or set --extension-dir to a folder with the original files: \
                 extension=`{name}` file=`{}`",
            path.display()
        )),
        None => LakeError::invalid(format!(
            "load a DuckDB extension; put its file into --extension-dir: extension=`{name}`"
        )),
    }
}

/// Returns the names of the extensions that a lake needs.
const fn names_of(config: &LakeConfig) -> [&'static str; 2] {
    match config.catalog {
        CatalogLocation::Sqlite(_) => ["ducklake", "sqlite_scanner"],
        CatalogLocation::Postgres(_) => ["ducklake", "postgres_scanner"],
    }
}

fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.duckdb_extension"))
}

/// Returns the folder with the extension files of the installation or of the workspace.
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

/// Returns whether both files in a folder have the pinned digests. Verifies them concurrently.
fn are_pinned(names: [&str; 2], directory: &Path) -> bool {
    let is_pinned = |name| {
        let opened = ExtensionFile::open(name, file(directory, name));
        opened.is_ok_and(|mut file| file.is_pinned())
    };
    thread::scope(|scope| {
        let other = scope.spawn(move || is_pinned(names[1]));
        is_pinned(names[0]) && other.join().unwrap_or(false)
    })
}

/// An opened extension file.
struct ExtensionFile<'a> {
    name: &'a str,
    path: PathBuf,
    file: File,
    identity: FileIdentity,
}

impl<'a> ExtensionFile<'a> {
    fn open(name: &'a str, path: PathBuf) -> io::Result<Self> {
        let file = File::open(&path)?;
        let identity = FileIdentity::of(&file.metadata()?);
        Ok(Self { name, path, file, identity })
    }

    /// Returns whether the file has the pinned digest of its extension. Verifies it once per process,
    /// and again after a change.
    fn is_pinned(&mut self) -> bool {
        type Answer = Arc<Mutex<Option<(FileIdentity, bool)>>>;
        static ANSWERS: Mutex<BTreeMap<PathBuf, Answer>> = Mutex::new(BTreeMap::new());

        let answer = Arc::clone(lock(&ANSWERS).entry(self.path.clone()).or_default());
        let mut answer = lock(&answer);
        match *answer {
            Some((known, is_pinned)) if known == self.identity => is_pinned,
            _ => {
                let is_pinned = self.verify(user_cache().as_deref(), SystemTime::now());
                *answer = Some((self.identity, is_pinned));
                is_pinned
            }
        }
    }

    /// Compares the file with the pinned digest, unless a record of its verification exists.
    fn verify(&mut self, cache: Option<&Path>, now: SystemTime) -> bool {
        let pinned = PINNED.iter().find(|(pinned, _)| *pinned == self.name);
        let Some((_, pinned)) = pinned else { return false };
        let record = VerificationRecord::of(&self.path, self.identity, pinned, cache);
        if record.exists() {
            return true;
        }
        let is_pinned = digest(&mut self.file).is_ok_and(|digest| digest == *pinned);
        if is_pinned {
            record.write(now);
        }
        is_pinned
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the SHA-256 of a file's contents, in lower-case hexadecimal.
fn digest(file: &mut File) -> io::Result<String> {
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
    use std::{
        fs,
        os::unix::fs::{FileExt as _, PermissionsExt as _},
        time::Duration,
    };

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
    fn shipped_extensions_are_loaded_and_the_signature_check_is_enabled_afterwards() {
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
    fn an_extension_that_changes_after_its_verification_is_refused() {
        let folder = copies();
        assert!(Extensions::find(&lake(folder.path())).are_pinned);
        change(&file(folder.path(), "ducklake"));

        let extensions = Extensions::find(&lake(folder.path()));
        let error = extensions.load(&open(&extensions)).unwrap_err();

        assert!(!extensions.are_pinned);
        assert!(error.to_string().contains("extension=`ducklake`"), "{error}");
        assert!(error.chain().contains("signature"), "{}", error.chain());
    }

    fn change(path: &Path) {
        let file = File::options().write(true).open(path).unwrap();
        file.write_at(b"changed", 1 << 20).unwrap();
    }

    /// Verifies a file as another process would, one minute after its last change.
    fn verify(extensions: &Path) -> bool {
        let later = SystemTime::now() + Duration::from_mins(1);
        let opened = ExtensionFile::open("ducklake", file(extensions, "ducklake"));
        opened.unwrap().verify(None, later)
    }

    /// Records that a changed file is the pinned one. Returns the record's path.
    fn record_wrongly(extensions: &Path) -> PathBuf {
        change(&file(extensions, "ducklake"));
        let opened = ExtensionFile::open("ducklake", file(extensions, "ducklake")).unwrap();
        let record = VerificationRecord::of(&opened.path, opened.identity, PINNED[0].1, None);
        record.write(SystemTime::now() + Duration::from_mins(1));
        extensions.join("ducklake.duckdb_extension.verified")
    }

    #[test]
    fn a_recorded_file_is_not_read_again() {
        let folder = copies();
        assert!(verify(folder.path()));
        assert!(folder.path().join("ducklake.duckdb_extension.verified").is_file());

        // The file now has another digest.
        record_wrongly(folder.path());

        assert!(verify(folder.path()));
    }

    #[test]
    fn a_recorded_file_that_changes_is_refused_despite_its_old_modification_time() {
        let folder = copies();
        assert!(verify(folder.path()));
        let path = file(folder.path(), "ducklake");
        let modified = path.metadata().unwrap().modified().unwrap();

        change(&path);
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();

        assert_eq!(path.metadata().unwrap().modified().unwrap(), modified);
        assert!(!verify(folder.path()));
    }

    #[test]
    fn a_changed_file_is_refused_despite_a_record_that_others_may_write() {
        let folder = copies();
        let record = record_wrongly(folder.path());

        fs::set_permissions(&record, fs::Permissions::from_mode(0o666)).unwrap();

        assert!(!verify(folder.path()));
        assert!(!Extensions::find(&lake(folder.path())).are_pinned);
    }

    #[test]
    fn missing_extension_files_are_an_error_that_names_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let extensions = Extensions::find(&lake(folder.path()));

        let error = extensions.load(&open(&extensions)).unwrap_err();

        assert!(error.to_string().contains("--extension-dir"), "{error}");
    }
}
