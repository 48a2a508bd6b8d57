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
    /// Rows could not be sorted.
    #[error("sort rows by --sort-by")]
    Sort(#[source] ArrowError),
    /// The table has no Parquet schema.
    #[error("derive the Parquet schema of a table")]
    Schema(#[source] ParquetError),
}
