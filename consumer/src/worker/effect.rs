//! Effects of the worker's decisions, which its driver executes.

use std::sync::{Arc, mpsc};

use ducktide_protocol::position::Partition;

use crate::batch::batcher::BatcherCommand;
use crate::commit::request::CommitterRequest;
use crate::source::{SourceCommand, TopicPartition};

/// Action that follows from a decision.
pub(crate) enum Effect {
    /// Send a command to the poll loop.
    Source(SourceCommand),
    /// Send a command to the batcher with this index.
    Batcher(usize, BatcherCommand),
    /// Send a request to the committer.
    Committer(CommitterRequest),
    /// Send a query to the cluster; it is answered by a `ClusterAnswer`.
    Query(ClusterQuery),
    /// Open a topic, with retries; answered by an `OpenedTopic`.
    OpenTopic(Arc<str>),
    /// End the retries of topics that are being opened.
    StopOpening,
    /// Let the group take the partitions of a revocation.
    ReleasePartitions(mpsc::SyncSender<()>),
}

/// Query to the cluster. Most are retried until they succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClusterQuery {
    /// Id of a topic. The number is part of the answer.
    Identity { topic: Arc<str>, question: u64 },
    /// First offsets of partitions that were created after the topic was registered.
    Beginnings { topic: Arc<str>, partitions: Vec<Partition> },
    /// Offsets that Kafka has of a partition whose position is out of range.
    Range(TopicPartition),
    /// Current ends of partitions. Not retried, because the worker repeats it.
    Ends(Vec<TopicPartition>),
    /// Numbers of partitions of topics. Not retried, because the worker repeats it.
    PartitionCounts(Vec<Arc<str>>),
    /// Members of the group, which may read these partitions. Not retried.
    Readers(Vec<TopicPartition>),
    /// Those of the partitions that exist and that no member of the group owns. Not retried.
    Unowned { partitions: Vec<TopicPartition>, question: u64 },
}

/// Joins the names of partitions for a log line.
pub(super) fn join_names<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> String {
    partitions.into_iter().map(TopicPartition::to_string).collect::<Vec<_>>().join(" ")
}
