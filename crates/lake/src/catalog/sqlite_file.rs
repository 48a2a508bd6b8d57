//! The file of a SQLite catalog, without DuckDB: journal mode, access mode and errors.
//!
//! Two copies of the SQLite library in one process break each other's POSIX locks (measured), so
//! rusqlite is used only while no DuckDB of this process has the file attached.

use std::fs;
use std::path::{Path, PathBuf};

use ducktide_protocol::cause::Cause;
use ducktide_protocol::error::{LakeError, Result};
use rusqlite::Connection;

use crate::duckdb_error;

/// Turns on WAL before DuckLake writes anything: with the default journal, two independent
/// transactions deadlock (measured).
pub(crate) fn prepare_file(path: &Path) -> Result<()> {
    open(path)?
        .pragma_update(None, "journal_mode", "wal")
        .map_err(|error| failed("set the journal mode", path, error))
}

/// Opens the file with rusqlite.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let connection =
        Connection::open(path).map_err(|error| failed("open the catalog", path, error))?;
    connection
        .busy_timeout(std::time::Duration::from_secs(10))
        .map_err(|error| failed("set the catalog's timeout", path, error))?;
    Ok(connection)
}

/// Returns the error of an operation on the catalog's file, classified by its SQLite result code.
pub(super) fn failed(what: &str, path: &Path, error: rusqlite::Error) -> LakeError {
    let context = format!("{what}: catalog=`sqlite:{}`", path.display());
    let error = match of_sqlite(error.sqlite_error_code()) {
        Cause::Outage => (LakeError::unavailable(context), error),
        Cause::Fault => (LakeError::invalid(context), error),
    };
    error.0.because(duckdb_error::with_remedy(error.1.to_string()))
}

/// Makes the files next to a writable catalog writable.
///
/// SQLite gives `-wal` and `-shm` the mode of the catalog's file. A client that opens a catalog
/// while it is read-only leaves a read-only `-shm`, and every write fails while that file exists.
pub(crate) fn restore_write_access(catalog: &Path) -> Result<()> {
    let Ok(mode) = fs::metadata(catalog).map(|metadata| metadata.permissions()) else {
        return Ok(());
    };
    if mode.readonly() {
        return Ok(());
    }
    for suffix in ["-wal", "-shm"] {
        let mut path = catalog.as_os_str().to_owned();
        path.push(suffix);
        let path = PathBuf::from(path);
        let is_readonly = fs::metadata(&path).is_ok_and(|file| file.permissions().readonly());
        if !is_readonly {
            continue;
        }
        fs::set_permissions(&path, mode.clone()).map_err(|error| {
            LakeError::unavailable(format!(
                "a file of the catalog cannot be written to, although the catalog can be; give it the \
                 catalog's owner and mode: path=`{}` catalog=`sqlite:{}`",
                path.display(),
                catalog.display()
            ))
            .because(error)
        })?;
        tracing::warn!(
            path = %path.display(),
            "a file of the catalog was read-only although the catalog is not; it has the catalog's mode now"
        );
    }
    Ok(())
}

/// Returns the cause of an error with this SQLite result code.
fn of_sqlite(code: Option<rusqlite::ErrorCode>) -> Cause {
    use rusqlite::ErrorCode;
    match code {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OperationInterrupted
            | ErrorCode::SchemaChanged
            | ErrorCode::OutOfMemory,
        ) => Cause::Outage,
        _ => Cause::Fault,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_full_disk_is_an_outage_and_a_file_that_is_no_database_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = folder.path().join("lake.sqlite");
        let full = Connection::open(&catalog).unwrap();
        full.execute_batch("CREATE TABLE t(a); PRAGMA max_page_count = 2").unwrap();
        let error = full.execute_batch("INSERT INTO t VALUES (zeroblob(100000))").unwrap_err();
        assert_eq!(
            failed("write", &catalog, error).kind(),
            ducktide_protocol::ErrorKind::Unavailable
        );

        let locked = Connection::open(&catalog).unwrap();
        full.execute_batch("BEGIN IMMEDIATE").unwrap();
        let error = locked.execute_batch("BEGIN IMMEDIATE").unwrap_err();
        assert_eq!(
            failed("write", &catalog, error).kind(),
            ducktide_protocol::ErrorKind::Unavailable
        );

        let other = folder.path().join("other");
        fs::write(&other, "no database".repeat(1_000)).unwrap();
        let error = Connection::open(&other).unwrap().execute_batch("SELECT 1 FROM t").unwrap_err();
        assert_eq!(failed("write", &other, error).kind(), ducktide_protocol::ErrorKind::Invalid);
    }

    #[test]
    fn files_next_to_a_writable_catalog_become_writable() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = folder.path().join("lake.sqlite");
        let shm = folder.path().join("lake.sqlite-shm");
        for path in [&catalog, &shm] {
            fs::write(path, "").unwrap();
        }
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        set(&catalog, 0o440);
        set(&shm, 0o440);

        restore_write_access(&catalog).unwrap();
        assert_eq!(mode(&shm), 0o440, "as long as the catalog is read-only, on purpose");
        set(&catalog, 0o640);
        restore_write_access(&catalog).unwrap();

        assert_eq!(mode(&shm), 0o640);
    }
}
