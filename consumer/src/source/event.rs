//! What the poll thread and the cluster tell the worker.

use std::sync::{Arc, mpsc};

use ducktide_lake::position::{Offset, Partition};

use super::cluster_error::ClusterError;
use super::group_members::GroupMember;
use super::inspect::{Identity, Watermarks};
use super::topic_partition::TopicPartition;

/// What the poll thread tells the worker.
#[derive(Debug)]
pub(crate) enum SourceEvent {
    /// These came; they wait for `Command::Start`.
    Assigned(Vec<TopicPartition>),
    /// These go as soon as `done` is sent to, or dropped.
    Revoking { partitions: Vec<TopicPartition>, lost: bool, done: mpsc::SyncSender<()> },
    /// The partition cannot be read where it stands, says the client.
    OutOfRange(TopicPartition, String),
    /// Another process has this static member's name.
    NameTaken,
    /// The group will not release this static member's name before another member's session ends; the
    /// poll thread joins again until then.
    NameHeld,
    /// The group has accepted this member again.
    NameReleased,
    /// The group, or a topic's broker, refuses something that it will not allow by itself: the
    /// client's text and the remedy.
    Refused { topic: Option<Arc<str>>, refusal: String },
    /// The client is unusable.
    Fatal(String),
    /// The group was left.
    Closed,
}

/// What the cluster answered.
#[derive(Debug)]
pub(crate) enum SurveyEvent {
    /// Who the topic is, in answer to the question of this number; asked at every assignment before
    /// anything is read, and for every batch after it was read.
    Identity { topic: Arc<str>, identity: Identity, question: u64 },
    /// Where partitions begin that appeared after the topic was registered.
    Beginnings { topic: Arc<str>, starts: Vec<(Partition, Offset)> },
    /// Where partitions end.
    Ends(Vec<(TopicPartition, Offset)>),
    /// The members of the group; None where the brokers do not describe it. Asked once.
    Readers { partitions: Vec<TopicPartition>, members: Option<Vec<GroupMember>> },
    /// A question was not answered; most are asked again.
    Unanswered(ClusterError),
    /// What Kafka has of a partition that cannot be read where the lake stands.
    Range { partition: TopicPartition, watermarks: Watermarks },
}
