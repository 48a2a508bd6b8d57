//! Commands to the poll loop.

use ducktide_protocol::position::Offset;

use super::assignment::Generation;
use super::topic_partition::TopicPartition;

/// A command of the worker.
#[derive(Debug)]
pub(crate) enum SourceCommand {
    /// Read partitions from these offsets, as these generations.
    Start(Vec<(TopicPartition, Generation, Offset)>),
    /// Drop the records of these partitions until they are started again.
    Hold(Vec<TopicPartition>),
    /// Leave the group and join it again, which makes it rebalance.
    Rejoin,
    /// Commit the lake's positions as offsets of the group, for lag dashboards.
    MirrorOffsets(Vec<(TopicPartition, Offset)>),
    /// Leave the group and end.
    Close,
}
