//! Errors of staging.

use std::{io, path::PathBuf};

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;
use thiserror::Error;

/// Reason for which rows could not be written to files. Full or unavailable storage causes
/// [`Self::Create`] and [`Self::Write`]; the remedy is a retry with new files.
#[derive(Debug, Error)]
pub enum StagingError {
    /// A folder or file could not be created.
    #[error("create staged file: path=`{}`", path.display())]
    Create {
        /// Path of the folder or file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A row group or footer could not be written.
    #[error("write staged file: path=`{}`", path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
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
    /// Returns whether the file system rejects the path permanently, for example because a name is
    /// too long.
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
    fn a_name_that_is_too_long_is_a_fault_and_a_full_disk_is_not() {
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
