//! What a replay is asked to do, and what it did.

use std::collections::BTreeMap;
use std::time::Duration;

use ducktide_protocol::Source;
use ducktide_protocol::commit::{Counts, ProgressDelta};
use ducktide_protocol::position::{Offset, Partition, SnapshotId};

/// Partitions of one source, and where each is to be read from again.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    /// The table and topic.
    pub source: Source,
    /// The first offset that is read again, of each partition.
    pub offsets: BTreeMap<Partition, Offset>,
    /// How long workers wait at most for the transaction that removes rows; a replay that dies holds
    /// them up for no longer.
    pub max_transaction: Duration,
    /// How long a merge, or another replay, is waited for.
    pub lock_timeout: Duration,
    /// How often the transaction is tried when others commit in between.
    pub attempts: u32,
}

impl ReplayRequest {
    /// A request with the usual patience.
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

/// What a replay changes, or has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplaySummary {
    /// The partitions that go back; those at their offset already are not among them.
    pub steps: Vec<ProgressDelta>,
    /// Rows that the table loses.
    pub rows: u64,
    /// Rows that the dead-letter table loses: letters and their resolutions.
    pub letter_rows: u64,
    /// Files that hold nothing else, and end.
    pub files_ended: u64,
    /// Files that hold other rows too, which move to new files.
    pub files_rewritten: u64,
    /// Files that were missing and end unread.
    pub files_missing: u64,
    /// Rows that were in them. Before they are ended, `rows` and `letter_rows` count what the ledger
    /// has, and other files are not looked at.
    pub rows_missing: u64,
    /// The newest snapshot that shows what was before.
    pub shows_old_state: Option<SnapshotId>,
    /// The snapshot that the replay made; none when there were no rows to remove.
    pub snapshot: Option<SnapshotId>,
    /// How often the transaction had to be tried again because others committed in between.
    pub retries: u32,
}

impl ReplaySummary {
    /// Everything that is taken back, of all partitions: zero or negative.
    #[must_use]
    pub fn removed(&self) -> Counts {
        self.steps.iter().fold(Counts::default(), |sum, step| sum.plus(step.counts))
    }
}
