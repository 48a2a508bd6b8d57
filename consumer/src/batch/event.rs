//! What a batcher tells the worker.

use ducktide_lake::table::{Column, TableName};

use crate::batch::partial_batch::Part;
use crate::batch::staging::StagingError;
use crate::decode::failure::Flaw;
use crate::source::TopicPartition;

/// What a batcher tells the worker.
#[derive(Debug)]
pub(crate) enum BatcherEvent {
    /// There is something to commit.
    Opened,
    /// There is no room for more.
    Full,
    /// Everything before the goal of this partition was gathered.
    GoalReached(TopicPartition),
    /// What was gathered up to the cut of this number.
    Part(u64, Part),
    /// Files of these tables could not be written; what was gathered is gone, of other tables too.
    StagingFailed(Vec<(TableName, StagingError)>),
    /// The batcher of this number waits for the registry, or no longer does.
    Registry { batcher: usize, waits_for: Option<String> },
    /// The next record's schema has fields that the table lacks; it waits until it is told to reset.
    ColumnsMissing { table: TableName, columns: Vec<Column> },
    /// The record cannot be decoded. What came before it can be committed; it and what follows stay
    /// unread.
    BadRecord { partition: TopicPartition, offset: i64, flaw: Flaw },
    /// Too many records cannot be decoded: nothing of what was gathered is to be committed.
    TooManyBadRecords { partition: TopicPartition, offset: i64, flaw: Flaw, ratio: f64 },
    /// `--max-rows` is reached.
    Exhausted,
}
