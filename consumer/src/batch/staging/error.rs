//! Why rows could not be staged.

use std::{io, path::PathBuf};

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;
use thiserror::Error;

/// Why rows could not be staged. Storage that is full or away comes as [`Self::Create`] and
/// [`Self::Write`]; trying again with new files is the remedy.
#[derive(Debug, Error)]
pub enum StagingError {
    /// A folder or file could not be created.
    #[error("create staged file path=`{}`", path.display())]
    Create {
        /// The folder or file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A row group or footer could not be written.
    #[error("write staged file path=`{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ParquetError,
    },
    /// Rows could not be split by date.
    #[error("split rows by event_date")]
    Split(#[source] ArrowError),
    /// The table has no Parquet schema.
    #[error("derive the Parquet schema of a table")]
    Schema(#[source] ParquetError),
}

impl StagingError {
    /// Whether the file system refuses for good, rather than for the time being: a name that is too long
    /// for it, a path that cannot be.
    pub(crate) fn is_fault(&self) -> bool {
        let cause = match self {
            Self::Create { source, .. } => Some(source),
            Self::Write { source: ParquetError::External(error), .. } => error.downcast_ref(),
            _ => None,
        };
        let faults = [
            io::ErrorKind::InvalidFilename,
            io::ErrorKind::NotADirectory,
            io::ErrorKind::InvalidInput,
        ];
        cause.is_some_and(|error: &io::Error| faults.contains(&error.kind()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_too_long_stays_so_and_a_full_disk_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a".repeat(300));
        let source = std::fs::create_dir(&path).unwrap_err();
        assert!(StagingError::Create { path: path.clone(), source }.is_fault());

        let source = io::ErrorKind::StorageFull.into();
        assert!(!StagingError::Create { path: path.clone(), source }.is_fault());
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(!StagingError::Write { path, source: full.into() }.is_fault());
    }
}
