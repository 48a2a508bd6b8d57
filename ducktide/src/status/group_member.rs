//! The member of the consumer group that reads a partition. Pure.

use ducktide_consumer::{GroupMember, TopicPartition};

use super::source_report::{MemberReport, PartitionReport, SourceReport};

/// Adds the member that reads the partition, and a problem if it is a consumer of another lake: the
/// consumers of this lake then never get the partition.
pub(super) fn assign_member(
    report: &mut PartitionReport,
    topic: &str,
    members: &[GroupMember],
    client_id: &str,
) {
    let partition = TopicPartition { topic: topic.into(), partition: report.partition };
    let reader = members.iter().find(|member| member.partitions.contains(&partition));
    let Some(reader) = reader else { return };
    report.reader =
        Some(MemberReport { client_id: reader.client_id.clone(), host: reader.host.clone() });
    if reader.is_of_another_lake(client_id) && report.problem.is_none() {
        report.problem = Some(format!(
            "a consumer of another lake reads it in the same consumer group: {reader}; start the \
             consumers of one of the lakes with another --group-id"
        ));
    }
}

/// Describes the reader of a partition, or why there is none; None if the group is not known.
pub(super) fn describe_reader(
    source: &SourceReport,
    partition: &PartitionReport,
) -> Option<String> {
    let group = &source.group_id;
    match (&partition.reader, source.group_members?) {
        (Some(MemberReport { client_id, host }), _) => {
            Some(format!("{client_id} at {} reads it", host.trim_start_matches('/')))
        }
        (None, 0) => Some(format!("no consumer is running, group {group} has no members")),
        (None, _) => Some(format!("no member of group {group} reads it")),
    }
}
