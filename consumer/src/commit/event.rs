//! Events of the committer.

use std::collections::BTreeSet;
use std::time::Duration;

use ducktide_protocol::commit::{Commit, OutcomeCheck};
use ducktide_protocol::position::{Partition, Position, SnapshotId, SourceId};
use ducktide_protocol::table::TableName;
use ducktide_protocol::{LakeError, Table};

use crate::commit::request::RecentRowsByPartition;
use crate::metrics::RetryCause;

/// Event from the committer to the worker.
#[derive(Debug)]
pub(crate) enum CommitterEvent {
    Committed {
        commit: Commit,
        snapshot_id: Option<SnapshotId>,
        elapsed: Duration,
    },
    /// The batch was not committed; its records must be read again.
    Dropped {
        reason: DropReason,
        /// Tables whose staged files are missing or cannot be made durable.
        unusable: BTreeSet<TableName>,
    },
    Loaded {
        source: SourceId,
        positions: Vec<(Partition, Position)>,
        recent: RecentRowsByPartition,
        /// Number of resets of the worker before the request.
        resets: u64,
    },
    /// Current tables.
    Altered(Vec<Table>),
    /// An attempt failed and is retried; the worker is not ready meanwhile.
    Retrying {
        cause: RetryCause,
        error: String,
    },
    /// The outcome of a commit was unknown, and the catalog was read.
    OutcomeChecked(OutcomeCheck),
    /// A permanent error.
    Failed(LakeError),
}

/// Reason for which a batch was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// Another worker or an operator moved the progress of a partition.
    Fenced,
    /// A table was altered after the files were written.
    TableChanged,
    /// A staged file is missing or cannot be made durable.
    FilesUnusable,
    /// The worker abandoned the retries; an attempt may have been applied.
    Abandoned,
}

impl DropReason {
    /// All reasons, for metrics that begin at 0.
    pub(crate) const ALL: [Self; 4] =
        [Self::Fenced, Self::TableChanged, Self::FilesUnusable, Self::Abandoned];

    /// Returns the name in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::TableChanged => "table_changed",
            Self::FilesUnusable => "files_unusable",
            Self::Abandoned => "abandoned",
        }
    }
}
