//! Designs that are checked (Ducktide's, and simpler ones that fail), and bounds of the model.

use ducktide_protocol::position::SourceId;

/// Source of the model.
pub(crate) const SOURCE: SourceId = SourceId(1);

/// Number of workers.
pub(crate) const WORKERS: usize = 2;
/// Number of partitions.
pub(crate) const PARTITIONS: usize = 2;

/// Part of the design that is omitted, to check that the model detects it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Omission {
    /// A commit sets its offsets unconditionally: offsets in the message, and no trigger.
    NoCompareAndSwap,
    /// Offsets are compared, epochs are not.
    NoEpochs,
    /// A registered file can be registered again.
    NoOnceTrigger,
    /// A commit that fails deletes its files, as DuckLake does with files of its own.
    DeletesOnError,
    /// Progress without rows is sent as a `skip`, which begins an epoch.
    IdleProgressIsSkip,
    /// A worker reads progress only after its own commits.
    NeverPollsProgress,
}

/// Ducktide's design without its omissions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Design {
    omissions: &'static [Omission],
}

impl Design {
    /// Ducktide's design.
    pub(crate) const DUCKTIDE: Self = Self { omissions: &[] };

    pub(crate) const fn with(omissions: &'static [Omission]) -> Self {
        Self { omissions }
    }

    pub(crate) fn has(self, omission: Omission) -> bool {
        self.omissions.contains(&omission)
    }
}

/// Content of an offset of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Row,
    Tombstone,
}

/// Bounds of the model, which is explored completely.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Content of each partition.
    pub(crate) logs: [&'static [Content]; PARTITIONS],
    /// Number of disturbances in one run, of any kind: a lost connection, progress that cannot be read,
    /// a crash, a rebalance, a replay. Delays and pauses are not counted.
    pub(crate) disturbances: u8,
}

/// Two records and one: batches can have only rows, no rows, and several partitions.
pub(crate) const TWO_AND_ONE: [&[Content]; PARTITIONS] =
    [&[Content::Row, Content::Tombstone], &[Content::Row]];

/// Two records each: in one partition a batch can end between two rows.
pub(crate) const TWO_AND_TWO: [&[Content]; PARTITIONS] =
    [&[Content::Row, Content::Tombstone], &[Content::Row, Content::Row]];

/// [`TWO_AND_ONE`] with one more record in each partition, and no disturbance.
pub(crate) const LATER: Bounds = Bounds {
    logs: [&[Content::Row, Content::Tombstone, Content::Row], &[Content::Row, Content::Row]],
    disturbances: 0,
};
