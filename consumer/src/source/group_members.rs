//! Members of a consumer group and the partitions that each of them owns.
#![expect(unsafe_code, reason = "calls that the `rdkafka` crate does not wrap")]

use std::collections::HashSet;
use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as rdsys;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdsys::rd_kafka_consumer_group_state_t as State;

use super::cluster_error::FailureContext;
use super::ffi::{check, partitions_of};
use super::topic_partition::TopicPartition;

/// State and members of a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupDescription {
    /// False while the group rebalances. The brokers then list no partitions.
    pub(crate) is_stable: bool,
    pub(crate) members: Vec<GroupMember>,
}

impl GroupDescription {
    /// Returns those of the partitions that no member owns; None while the group rebalances.
    pub(super) fn unowned(&self, partitions: &[TopicPartition]) -> Option<Vec<TopicPartition>> {
        let owned: HashSet<_> = self.members.iter().flat_map(|member| &member.partitions).collect();
        let unowned = partitions.iter().filter(|partition| !owned.contains(partition));
        self.is_stable.then(|| unowned.cloned().collect())
    }
}

/// A member of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its `client.id`: that of the lake, unless a property sets another one.
    pub client_id: String,
    /// Its host as seen by the broker.
    pub host: String,
    /// The partitions that it owns.
    pub partitions: Vec<TopicPartition>,
}

impl GroupMember {
    /// Returns whether this is a consumer of another lake than the one with this client id. A consumer
    /// whose client id is set by a property is not recognized.
    #[must_use]
    pub fn is_of_another_lake(&self, client_id: &str) -> bool {
        self.client_id.starts_with(CLIENT_ID_PREFIX) && self.client_id != client_id
    }
}

impl fmt::Display for GroupMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Brokers write a slash before the address.
        write!(f, "{}@{}", self.client_id, self.host.trim_start_matches('/'))
    }
}

/// Prefix of the client ids of lakes.
const CLIENT_ID_PREFIX: &str = "ducktide-";

/// Describes a group. One that does not exist is returned without members.
pub(super) fn describe_group(
    client: &BaseConsumer<FailureContext>,
    group: &str,
    timeout: Duration,
) -> Result<GroupDescription, RDKafkaErrorCode> {
    let name = CString::new(group).map_err(|_| RDKafkaErrorCode::InvalidGroupId)?;
    let timeout_ms = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    let rk = client.client().native_ptr();
    // SAFETY: each object is created, used while it lives, and destroyed once. The description belongs
    // to the event, so its parts are copied before that is destroyed.
    unsafe {
        let mut names = [name.as_ptr()];
        let queue = rdsys::rd_kafka_queue_new(rk);
        rdsys::rd_kafka_DescribeConsumerGroups(rk, names.as_mut_ptr(), 1, ptr::null(), queue);
        let event = rdsys::rd_kafka_queue_poll(queue, timeout_ms);
        let described = described(event);
        if !event.is_null() {
            rdsys::rd_kafka_event_destroy(event);
        }
        rdsys::rd_kafka_queue_destroy(queue);
        described
    }
}

/// # Safety
/// `event` is null or a valid event.
unsafe fn described(
    event: *mut rdsys::rd_kafka_event_t,
) -> Result<GroupDescription, RDKafkaErrorCode> {
    if event.is_null() {
        return Err(RDKafkaErrorCode::OperationTimedOut);
    }
    // SAFETY: the event is valid; a result, its groups and their members are valid with it.
    unsafe {
        check(rdsys::rd_kafka_event_error(event))?;
        let result = rdsys::rd_kafka_event_DescribeConsumerGroups_result(event);
        let mut count = 0;
        let groups = rdsys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if groups.is_null() || count == 0 {
            return Ok(GroupDescription::default());
        }
        let group = *groups;
        let error = rdsys::rd_kafka_ConsumerGroupDescription_error(group);
        match check(rdsys::rd_kafka_error_code(error)) {
            Err(RDKafkaErrorCode::GroupIdNotFound) => return Ok(GroupDescription::default()),
            described => described?,
        }
        let state = rdsys::rd_kafka_ConsumerGroupDescription_state(group);
        let is_stable = state == State::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE;
        let count = rdsys::rd_kafka_ConsumerGroupDescription_member_count(group);
        let member = |index| rdsys::rd_kafka_ConsumerGroupDescription_member(group, index);
        let members = (0..count).map(|index| member_of(member(index))).collect();
        Ok(GroupDescription { is_stable, members })
    }
}

/// # Safety
/// `member` is valid.
unsafe fn member_of(member: *const rdsys::rd_kafka_MemberDescription_t) -> GroupMember {
    // SAFETY: as the caller says; the parts are valid with the member.
    unsafe {
        let assignment = rdsys::rd_kafka_MemberDescription_assignment(member);
        let partitions = if assignment.is_null() {
            Vec::new()
        } else {
            partitions_of(rdsys::rd_kafka_MemberAssignment_partitions(assignment).cast_mut())
        };
        GroupMember {
            client_id: text(rdsys::rd_kafka_MemberDescription_client_id(member)),
            host: text(rdsys::rd_kafka_MemberDescription_host(member)),
            partitions,
        }
    }
}

/// # Safety
/// `text` is null or a C string.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_no_member_are_unowned_in_a_stable_group_only() {
        let partition = |number| TopicPartition::new("events", number);
        let member = |numbers: &[i32]| GroupMember {
            client_id: "ducktide-1".to_owned(),
            host: "/127.0.0.1".to_owned(),
            partitions: numbers.iter().copied().map(partition).collect(),
        };
        let all: Vec<_> = (0..4).map(partition).collect();
        let members = vec![member(&[0, 3]), member(&[])];
        let mut group = GroupDescription { is_stable: true, members };

        assert_eq!(group.unowned(&all), Some(vec![partition(1), partition(2)]));

        group.is_stable = false;
        assert_eq!(group.unowned(&all), None);
    }
}
