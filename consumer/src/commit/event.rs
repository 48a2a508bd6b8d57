//! What the lake answered.

use std::collections::BTreeSet;
use std::time::Duration;

use ducktide_lake::commit::{Commit, Inquiry};
use ducktide_lake::position::{Partition, Position, SnapshotId, SourceId};
use ducktide_lake::table::TableName;
use ducktide_lake::{LakeError, Table};

use crate::commit::request::RecentRowsByPartition;
use crate::metrics::RetryCause;

/// What the lake answered.
#[derive(Debug)]
pub(crate) enum CommitterEvent {
    Committed {
        commit: Commit,
        snapshot_id: Option<SnapshotId>,
        elapsed: Duration,
    },
    /// The batch is not in the lake and must be read again.
    Dropped {
        reason: DropReason,
        /// The tables whose files are gone or not durable.
        unusable: BTreeSet<TableName>,
    },
    Loaded {
        source: SourceId,
        positions: Vec<(Partition, Position)>,
        recent: RecentRowsByPartition,
    },
    /// Tables as they are now; none if it was told to give up.
    Altered(Vec<Table>),
    /// An attempt failed and will be repeated; the worker is not ready meanwhile.
    Retrying {
        cause: RetryCause,
        error: String,
    },
    /// A commit did not end with an ok, and the catalog was asked.
    Inquired(Inquiry),
    /// Waiting does not help.
    Failed(LakeError),
}

/// Why a batch was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// Another worker or an operator moved progress.
    Fenced,
    /// The table was altered after the files were written.
    TableChanged,
    /// A staged file is gone or not durable.
    FilesUnusable,
    /// The worker asked for it; an attempt may still have arrived.
    Abandoned,
}

impl DropReason {
    /// All of them.
    pub(crate) const ALL: [Self; 4] =
        [Self::Fenced, Self::TableChanged, Self::FilesUnusable, Self::Abandoned];

    /// The name in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Fenced => "fenced",
            Self::TableChanged => "table_changed",
            Self::FilesUnusable => "files_unusable",
            Self::Abandoned => "abandoned",
        }
    }
}
