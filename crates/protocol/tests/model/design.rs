//! What is checked: Ducktide's design, tempting ones beside it, and how far the model goes.

use ducktide_protocol::position::SourceId;

/// The one source of the model.
pub(crate) const SOURCE: SourceId = SourceId(1);

/// How many workers and partitions there are.
pub(crate) const WORKERS: usize = 2;
pub(crate) const PARTITIONS: usize = 2;

/// A part of the design that is left out, to see that the model notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A commit sets its offsets, whatever progress is: offsets in the message, and no trigger.
    NoCompareAndSwap,
    /// Offsets are compared, epochs are not.
    NoEpochs,
    /// A file that is registered already is registered again.
    NoOnceTrigger,
    /// A commit that ends with an error deletes its files, as DuckLake does with those that it has
    /// written itself.
    DeletesOnError,
    /// Progress without rows is sent as a `skip`, which begins an epoch.
    IdleProgressIsSkip,
    /// A worker reads progress after its own commits only.
    NeverLooks,
}

/// Ducktide's design, but for its flaws.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Design {
    flaws: &'static [Flaw],
}

impl Design {
    /// The one that is built.
    pub(crate) const DUCKTIDE: Self = Self { flaws: &[] };

    pub(crate) const fn with(flaws: &'static [Flaw]) -> Self {
        Self { flaws }
    }

    pub(crate) fn has(self, flaw: Flaw) -> bool {
        self.flaws.contains(&flaw)
    }
}

/// What an offset of a topic holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Row,
    Tombstone,
}

/// How far the model goes. All of it is explored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// What each partition holds.
    pub(crate) logs: [&'static [Content]; PARTITIONS],
    /// How many of these happen in one run, in any mixture: a connection cut, progress that cannot
    /// be read, a crash, an assignment that moves, a replay. Delays are free, and so are pauses.
    pub(crate) disturbances: u8,
}

/// Between two records and one, cut where you like, there are batches of rows only, of none, and of
/// several partitions.
pub(crate) const TWO_AND_ONE: [&[Content]; PARTITIONS] =
    [&[Content::Row, Content::Tombstone], &[Content::Row]];

/// [`TWO_AND_ONE`], and in one partition a batch can end between two rows.
pub(crate) const TWO_AND_TWO: [&[Content]; PARTITIONS] =
    [&[Content::Row, Content::Tombstone], &[Content::Row, Content::Row]];

/// [`TWO_AND_ONE`] after another record was written to each partition, and all has calmed down.
pub(crate) const LATER: Bounds = Bounds {
    logs: [&[Content::Row, Content::Tombstone, Content::Row], &[Content::Row, Content::Row]],
    disturbances: 0,
};
