//! Events of the batchers.

use ducktide_protocol::position::Offset;
use ducktide_protocol::table::{Column, TableName};

use crate::batch::partial_batch::PartialBatch;
use crate::batch::staging::StagingError;
use crate::decode::failure::DecodeFailure;
use crate::source::topic_partition::TopicPartition;

/// Event from a batcher to the worker.
#[derive(Debug)]
pub(crate) enum BatcherEvent {
    /// The batch has progress to commit.
    Opened,
    /// A limit of the batch is reached.
    Full,
    /// All records before the goal of this partition were read.
    GoalReached(TopicPartition),
    /// Partial batch of the cut with this number.
    PartialBatch(u64, PartialBatch),
    /// Files of these tables could not be written. The uncommitted records of all tables were
    /// dropped.
    StagingFailed(Vec<(TableName, StagingError)>),
    /// Error of the schema registry that the batcher with this index waits for; None when it
    /// continues.
    Registry { batcher: usize, waits_for: Option<String> },
    /// The schema of the next record has fields that the table lacks. The batcher waits for a
    /// reset.
    ColumnsMissing { table: TableName, columns: Vec<Column> },
    /// A record cannot be decoded and stops the worker. The records before it can be committed.
    BadRecord { partition: TopicPartition, offset: Offset, failure: DecodeFailure },
    /// The dead-letter ratio is exceeded: the uncommitted records must not be committed.
    TooManyBadRecords {
        partition: TopicPartition,
        offset: Offset,
        failure: DecodeFailure,
        ratio: f64,
    },
    /// `--max-rows` is reached.
    Exhausted,
}
