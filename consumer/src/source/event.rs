//! Events of the poll thread and of requests to the cluster.

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};

use ducktide_protocol::position::{Offset, Partition};

use super::cluster_error::ClusterError;
use super::group_members::GroupMember;
use super::inspect::{Identity, Watermarks};
use super::topic_partition::TopicPartition;

/// Event from the poll thread to the worker.
#[derive(Debug)]
pub(crate) enum SourceEvent {
    /// Partitions were assigned; they are not fetched before `SourceCommand::Start`.
    Assigned(Vec<TopicPartition>),
    /// Partitions are being revoked. The group takes them when `done` receives a message or is
    /// dropped.
    Revoking { partitions: Vec<TopicPartition>, lost: bool, done: mpsc::SyncSender<()> },
    /// The position of a partition is out of range; the text is the error of the client.
    OutOfRange(TopicPartition, String),
    /// Another process has the instance ID of this static member.
    NameTaken,
    /// The group does not release the instance ID of this static member before the session of
    /// another member ends. The poll thread joins again until then.
    NameHeld,
    /// The group has accepted this member again.
    NameReleased,
    /// The group or a broker rejects a request until an operator changes something: the error of
    /// the client and the remedy.
    Refused { topic: Option<Arc<str>>, refusal: String },
    /// The client cannot be used any more.
    Fatal(String),
    /// The worker has left the group.
    Closed,
}

/// Answer of the cluster to a request of the worker.
#[derive(Debug)]
pub(crate) enum ClusterAnswer {
    /// Identity of a topic, with the number of the request. Requested at every assignment before
    /// records are read, and for every batch after its records were read.
    Identity { topic: Arc<str>, identity: Identity, question: u64 },
    /// Number of partitions of each topic that was counted.
    PartitionCounts(Vec<(Arc<str>, usize)>),
    /// First offsets of partitions that were created after the topic was registered.
    Beginnings { topic: Arc<str>, starts: Vec<(Partition, Offset)> },
    /// High watermarks of partitions.
    Ends(Vec<(TopicPartition, Offset)>),
    /// Members of the group; None if the brokers do not describe it. Requested once.
    Readers { partitions: Vec<TopicPartition>, members: Option<Vec<GroupMember>> },
    /// Partitions that no member of the group owns; None while the group rebalances, or if the brokers do
    /// not describe it. Requested once.
    Unowned { question: u64, partitions: Option<BTreeSet<TopicPartition>> },
    /// A request failed; most are retried.
    Unanswered(ClusterError),
    /// Offsets that Kafka has of a partition whose position is out of range.
    Range { partition: TopicPartition, watermarks: Watermarks },
}
