//! The Kafka client as the poll loop sees it.

use std::time::Duration;

use ducktide_protocol::position::Offset;
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use super::record::KafkaRecord;
use super::topic_partition::TopicPartition;

/// A member of a consumer group. Rebalances do not pass through it: the driver of the poll loop
/// reports them to [`super::shared_assignment::SharedAssignment`].
pub(crate) trait KafkaClient {
    type Record: KafkaRecord;

    /// Subscribes to topics, which joins the group. A name that starts with `^` is a pattern.
    fn subscribe(&mut self, topics: &[String]) -> KafkaResult<()>;

    /// Ends the subscription: gives up all partitions and leaves the group, also as a static member.
    /// Returns before that is done: partitions are revoked by later polls.
    fn unsubscribe(&mut self);

    /// Returns whether the group has accepted this member.
    fn is_member(&self) -> bool;

    /// Returns whether this client has not joined the group yet, or has left it.
    fn has_left(&self) -> bool;

    /// Returns up to `limit` items. Waits for them until the timeout.
    fn poll(&mut self, timeout: Duration, limit: usize) -> Vec<PolledItem<Self::Record>>;

    /// Starts to fetch assigned partitions, each from its offset.
    fn fetch(&mut self, starts: &[(TopicPartition, Offset)]);

    /// Stops fetching partitions, all of which are being fetched. Records of them that were fetched
    /// and not polled are dropped. Ends their pause.
    fn stop_fetching(&mut self, partitions: &[TopicPartition]);

    fn pause(&mut self, partitions: &[TopicPartition]);

    fn resume(&mut self, partitions: &[TopicPartition]);

    /// Commits the lake's positions as offsets of the group, for lag dashboards. They are never read.
    fn mirror_offsets(&mut self, positions: &[(TopicPartition, Offset)]);

    /// Gives up all partitions and leaves the group. A static member only stops its heartbeats.
    fn close(&mut self);

    /// Returns a handle that keeps the memory of the records alive.
    fn keep_alive(&self) -> <Self::Record as KafkaRecord>::KeepAlive;
}

/// An item that a poll returns.
pub(crate) enum PolledItem<R> {
    Record(R),
    /// End of a partition: everything before the offset was delivered, including offsets without records.
    EndOfPartition(TopicPartition, Offset),
    Error(Option<TopicPartition>, RDKafkaErrorCode, String),
    /// Another process has joined under this static member's `group.instance.id`. The client is unusable.
    NameTaken,
    /// Under KIP-848: another member has this one's `group.instance.id` until it leaves or its session ends.
    /// The client is unusable.
    NameHeld,
    /// The client is unusable; its error text.
    Fatal(String),
}
