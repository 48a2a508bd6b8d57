//! Commands to the poll loop.

use ducktide_protocol::position::Offset;

use super::assignment::Generation;
use super::topic_partition::TopicPartition;

/// The start of a partition.
#[derive(Clone, Debug)]
pub(crate) struct PartitionStart {
    pub(crate) partition: TopicPartition,
    pub(crate) generation: Generation,
    /// Offset of the first record.
    pub(crate) offset: Offset,
    /// Index of the batcher of this generation. It has one, which keeps the order of records.
    pub(crate) batcher: usize,
}

/// A command of the worker.
#[derive(Debug)]
pub(crate) enum SourceCommand {
    /// Read partitions.
    Start(Vec<PartitionStart>),
    /// Drop the records of these partitions until they are started again.
    Hold(Vec<TopicPartition>),
    /// Leave the group and join it again, which makes it rebalance.
    Rejoin,
    /// Commit the lake's positions as offsets of the group, for lag dashboards.
    MirrorOffsets(Vec<(TopicPartition, Offset)>),
    /// Leave the group and end.
    Close,
}
