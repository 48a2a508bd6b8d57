//! Kind of storage of a lake's files.

use clap::ValueEnum;

/// Kind of storage of a lake's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StorageKind {
    /// A local folder.
    Local,
    /// A bucket of versitygw, an object store with the S3 protocol that the command starts.
    S3,
}
