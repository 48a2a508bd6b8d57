//! Commands to the batchers.

use std::sync::Arc;

use ducktide_protocol::dedupe::RecentRow;
use ducktide_protocol::position::{Offset, Position};

use crate::batch::topic_route::TopicRoute;
use crate::source::TopicPartition;
use crate::source::assignment::Generation;

/// Command from the worker to a batcher.
#[derive(Debug)]
pub(crate) enum BatcherCommand {
    /// Start a partition: records of this generation follow, from this position.
    Begin {
        partition: TopicPartition,
        generation: Generation,
        position: Position,
        route: Arc<TopicRoute>,
        /// Rows of which the records may be duplicates.
        recent: Vec<RecentRow>,
        /// Offset that the partition must reach for `--until-end`.
        goal: Option<Offset>,
    },
    /// Close the files, send the partial batch, and accept no more records of the partitions in
    /// `forget`.
    Cut { number: u64, forget: Vec<TopicPartition> },
    /// Drop all uncommitted records and all partitions, and use the limits of a batch this many times from now
    /// on, because other batchers do not use theirs.
    Reset { shares: usize },
    /// Accept no more records.
    Stop,
}
