//! Which member of the consumer group reads a partition. Pure.

use ducktide_consumer::{GroupMember, TopicPartition};
use serde::Serialize;

use super::report::{PartitionReport, SourceReport};

/// A member of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ReaderReport {
    pub(super) client_id: String,
    pub(super) host: String,
}

/// Adds the member that reads the partition, which is a problem if it is a consumer of another lake:
/// this one's never get the partition.
pub(super) fn add_reader(
    report: &mut PartitionReport,
    topic: &str,
    members: &[GroupMember],
    client_id: &str,
) {
    let partition = TopicPartition::new(topic, report.partition);
    let reader = members.iter().find(|member| member.partitions.contains(&partition));
    let Some(reader) = reader else { return };
    report.reader =
        Some(ReaderReport { client_id: reader.client_id.clone(), host: reader.host.clone() });
    if reader.is_of_another_lake(client_id) && report.problem.is_none() {
        report.problem = Some(format!(
            "a consumer of another lake reads it in the same consumer group: {reader}; start the \
             consumers of one of the lakes with a --group-id of their own"
        ));
    }
}

/// Describes who is to read a partition whose records wait; None while Kafka does not tell.
pub(super) fn describe(source: &SourceReport, partition: &PartitionReport) -> Option<String> {
    let group = &source.group_id;
    match (&partition.reader, source.group_members?) {
        (Some(ReaderReport { client_id, host }), _) => {
            Some(format!("{client_id} at {} reads it", host.trim_start_matches('/')))
        }
        (None, 0) => Some(format!("no consumer is running, group {group} has no members")),
        (None, _) => Some(format!("no member of group {group} reads it")),
    }
}
