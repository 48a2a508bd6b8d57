//! Simulated consumer group: the answers that a member receives, and their times.
//!
//! A member contacts the group at intervals ([`Group::heartbeat`]); it does so while its process runs and
//! reaches the brokers. A member without a contact within the session timeout is removed, which it learns at
//! its next contact.

mod classic;
mod reply;
mod server_side;

use std::time::Duration;

use crate::source::kafka_config::GroupProtocol;
use crate::source::topic_partition::TopicPartition;
use classic::ClassicGroup;
use reply::Description;
use server_side::ServerSideGroup;

pub(super) use reply::{GroupReply, HEARTBEAT, MemberId, Partitions, SESSION};

#[derive(Clone, Debug)]
pub(super) enum Group {
    Classic(ClassicGroup),
    ServerSide(ServerSideGroup),
}

impl Group {
    pub(super) fn new(protocol: GroupProtocol) -> Self {
        match protocol {
            GroupProtocol::Classic => Self::Classic(ClassicGroup::default()),
            GroupProtocol::Consumer => Self::ServerSide(ServerSideGroup::default()),
        }
    }

    /// Joins as a new member, or again as a known one that owns `owned`.
    pub(super) fn join(
        &mut self,
        now: Duration,
        member: Option<MemberId>,
        instance: Option<u32>,
        owned: &Partitions,
    ) -> Result<MemberId, GroupReply> {
        match self {
            Self::Classic(group) => group.join(now, member, instance, owned),
            Self::ServerSide(group) => group.join(now, member, instance),
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Duration,
        member: MemberId,
        owned: &Partitions,
    ) -> GroupReply {
        match self {
            Self::Classic(group) => group.heartbeat(now, member),
            Self::ServerSide(group) => group.heartbeat(now, member, owned),
        }
    }

    /// Removes a member that leaves. A static member that is closed stays until its session ends, or until
    /// its process returns.
    pub(super) fn leave(&mut self, now: Duration, member: MemberId, is_for_good: bool) {
        match self {
            Self::Classic(group) => group.leave(now, member, is_for_good),
            Self::ServerSide(group) => group.leave(member, is_for_good),
        }
    }

    /// Ends sessions and rebalances that are due. `partitions` are all of the subscribed topics.
    pub(super) fn advance(&mut self, now: Duration, partitions: &[TopicPartition]) {
        match self {
            Self::Classic(group) => group.advance(now, partitions),
            Self::ServerSide(group) => group.advance(now, partitions),
        }
    }

    pub(super) fn describe(&self) -> Description {
        match self {
            Self::Classic(group) => group.describe(),
            Self::ServerSide(group) => group.describe(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn partitions(numbers: &[i32]) -> Partitions {
        numbers.iter().map(|&number| TopicPartition::new("events", number)).collect()
    }

    fn all() -> Vec<TopicPartition> {
        partitions(&[0, 1, 2, 3]).into_iter().collect()
    }

    #[test]
    fn a_classic_group_moves_a_partition_in_two_rebalances() {
        let (mut group, all, none) = (Group::new(GroupProtocol::Classic), all(), Partitions::new());
        let first = group.join(SECOND, None, None, &none).unwrap();
        group.advance(SECOND, &all);
        let owned = partitions(&[0, 1, 2, 3]);
        assert_eq!(group.heartbeat(SECOND, first, &none), GroupReply::Assignment(owned.clone()));

        let second = group.join(SECOND * 2, None, None, &none).unwrap();
        assert_eq!(group.heartbeat(SECOND * 2, first, &owned), GroupReply::JoinAgain);
        group.join(SECOND * 2, Some(first), None, &owned).unwrap();
        group.advance(SECOND * 2, &all);
        let kept = partitions(&[0, 1]);
        let reply = group.heartbeat(SECOND * 2, first, &owned);
        assert_eq!(reply, GroupReply::Assignment(kept.clone()));
        let reply = group.heartbeat(SECOND * 2, second, &none);
        assert_eq!(reply, GroupReply::Assignment(Partitions::new()));

        group.join(SECOND * 3, Some(first), None, &kept).unwrap();
        assert_eq!(group.heartbeat(SECOND * 3, second, &none), GroupReply::JoinAgain);
        group.join(SECOND * 3, Some(second), None, &none).unwrap();
        group.advance(SECOND * 3, &all);
        let reply = group.heartbeat(SECOND * 3, second, &none);
        assert_eq!(reply, GroupReply::Assignment(partitions(&[2, 3])));
    }

    #[test]
    fn a_static_member_returns_without_a_rebalance_and_its_zombie_is_fenced() {
        let (mut group, all, none) = (Group::new(GroupProtocol::Classic), all(), Partitions::new());
        let zombie = group.join(SECOND, None, Some(7), &none).unwrap();
        group.advance(SECOND, &all);
        let owned = partitions(&[0, 1, 2, 3]);
        assert_eq!(group.heartbeat(SECOND, zombie, &none), GroupReply::Assignment(owned.clone()));

        let returned = group.join(SECOND * 3, None, Some(7), &none).unwrap();

        assert_eq!(group.heartbeat(SECOND * 3, zombie, &owned), GroupReply::Fenced);
        assert_eq!(group.heartbeat(SECOND * 3, returned, &none), GroupReply::Assignment(owned));
    }

    #[test]
    fn a_server_side_group_gives_a_partition_away_after_its_owner_released_it() {
        let (mut group, all) = (Group::new(GroupProtocol::Consumer), all());
        let none = Partitions::new();
        let first = group.join(SECOND, None, None, &none).unwrap();
        group.advance(SECOND, &all);
        let owned = partitions(&[0, 1, 2, 3]);
        assert_eq!(group.heartbeat(SECOND, first, &none), GroupReply::Assignment(owned.clone()));
        assert_eq!(group.heartbeat(SECOND, first, &owned), GroupReply::Unchanged);

        let second = group.join(SECOND * 2, None, None, &none).unwrap();
        group.advance(SECOND * 2, &all);
        let kept = partitions(&[0, 1]);
        let reply = group.heartbeat(SECOND * 2, first, &owned);
        assert_eq!(reply, GroupReply::Assignment(kept.clone()));
        assert_eq!(group.heartbeat(SECOND * 2, second, &none), GroupReply::Unchanged);
        assert_eq!(group.heartbeat(SECOND * 3, first, &kept), GroupReply::Unchanged);
        let reply = group.heartbeat(SECOND * 3, second, &none);
        assert_eq!(reply, GroupReply::Assignment(partitions(&[2, 3])));
    }

    #[test]
    fn a_member_without_contact_loses_its_partitions() {
        for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
            let (mut group, all, none) = (Group::new(protocol), all(), Partitions::new());
            let member = group.join(SECOND, None, None, &none).unwrap();
            group.advance(SECOND, &all);
            assert_ne!(group.heartbeat(SECOND, member, &none), GroupReply::Unchanged);

            let later = SECOND * 2 + SESSION;
            group.advance(later, &all);

            let owned = partitions(&[0, 1, 2, 3]);
            assert_eq!(group.heartbeat(later, member, &owned), GroupReply::UnknownMember);
        }
    }

    #[test]
    fn a_name_is_held_until_the_session_of_its_member_ends() {
        let (mut group, all) = (Group::new(GroupProtocol::Consumer), all());
        let none = Partitions::new();
        let killed = group.join(SECOND, None, Some(7), &none).unwrap();
        group.advance(SECOND, &all);
        assert_eq!(group.join(SECOND * 2, None, Some(7), &none), Err(GroupReply::NameHeld));

        let later = SECOND * 2 + SESSION;
        group.advance(later, &all);

        assert!(group.join(later, None, Some(7), &none).is_ok_and(|member| member != killed));
    }
}
