//! Labels of several metrics.

use prometheus_client::encoding::EncodeLabelSet;

use crate::source::topic_partition::TopicPartition;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PartitionLabels {
    topic: String,
    partition: i32,
}

impl From<&TopicPartition> for PartitionLabels {
    fn from(partition: &TopicPartition) -> Self {
        Self { topic: partition.topic.to_string(), partition: partition.partition.0 }
    }
}
