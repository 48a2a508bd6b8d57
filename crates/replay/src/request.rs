//! Request and summary of a replay.

use std::collections::BTreeMap;
use std::time::Duration;

use ducktide_protocol::Source;
use ducktide_protocol::commit::{Counts, ProgressDelta};
use ducktide_protocol::position::{Offset, Partition, SnapshotId};

/// Partitions of one source that are read again, and from which offset.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    /// The table and topic.
    pub source: Source,
    /// First offset that is read again, by partition.
    pub offsets: BTreeMap<Partition, Offset>,
    /// Maximum wait of workers for the transaction that removes rows, also if the replay dies.
    pub max_transaction: Duration,
    /// Maximum wait for a merge or another replay.
    pub lock_timeout: Duration,
    /// Maximum number of attempts of the transaction when other clients commit in between.
    pub attempts: u32,
}

impl ReplayRequest {
    /// Returns a request with the default limits.
    #[must_use]
    pub const fn new(source: Source, offsets: BTreeMap<Partition, Offset>) -> Self {
        Self {
            source,
            offsets,
            max_transaction: Duration::from_mins(1),
            lock_timeout: Duration::from_mins(2),
            attempts: 10,
        }
    }
}

/// Effect of a replay, planned or completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplaySummary {
    /// Partitions that go back; those already at their offset are omitted.
    pub steps: Vec<ProgressDelta>,
    /// Number of rows removed from the table.
    pub rows: u64,
    /// Number of rows removed from the dead-letter table: dead letters and their resolutions.
    pub dead_letter_rows: u64,
    /// Number of files that hold no other rows, and end.
    pub files_ended: u64,
    /// Number of files that also hold other rows, which are rewritten to new files.
    pub files_rewritten: u64,
    /// Number of missing files, which end unread.
    pub files_missing: u64,
    /// Number of rows in missing files. Before the files are ended, `rows` and `dead_letter_rows` are those of
    /// the ledger, and other files are not counted.
    pub rows_missing: u64,
    /// Newest snapshot from before the replay.
    pub shows_old_state: Option<SnapshotId>,
    /// Snapshot of the replay; None when there were no rows to remove.
    pub snapshot: Option<SnapshotId>,
    /// Number of retries of the transaction because other clients committed in between.
    pub retries: u32,
}

impl ReplaySummary {
    /// Returns the sum of the counts of all partitions: zero or negative.
    #[must_use]
    pub fn removed(&self) -> Counts {
        self.steps.iter().fold(Counts::default(), |sum, step| sum.plus(step.counts))
    }
}
