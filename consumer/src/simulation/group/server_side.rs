//! Group of the protocol of KIP-848: the brokers compute a target, and each member converges to it.
//!
//! A partition is given to its new owner only after the old one has reported that it no longer owns it, or
//! its session has ended.

use std::collections::BTreeMap;
use std::time::Duration;

use super::reply::{Description, GroupReply, MemberId, Partitions, SESSION, balance};
use crate::source::topic_partition::TopicPartition;

#[derive(Clone, Debug, Default)]
pub(in crate::simulation) struct ServerSideGroup {
    members: BTreeMap<MemberId, Member>,
    next_member: u32,
    /// True if members or partitions changed since the target was computed.
    is_outdated: bool,
    partitions: usize,
}

#[derive(Clone, Debug)]
struct Member {
    instance: Option<u32>,
    contact: Duration,
    target: Partitions,
    /// Partitions that were reported to the member.
    reported: Partitions,
    /// Partitions that the member must give up, and did not report as given up.
    revoking: Partitions,
    /// True for a static member that was closed and may return.
    is_away: bool,
}

impl Member {
    fn holds(&self, partition: &TopicPartition) -> bool {
        self.reported.contains(partition) || self.revoking.contains(partition)
    }
}

impl ServerSideGroup {
    pub(super) fn join(
        &mut self,
        now: Duration,
        member: Option<MemberId>,
        instance: Option<u32>,
    ) -> Result<MemberId, GroupReply> {
        if let Some(id) = member.filter(|id| self.members.contains_key(id)) {
            return Ok(id);
        }
        let id = MemberId(self.next_member);
        self.next_member += 1;
        let same = |m: &Member| instance.is_some() && m.instance == instance;
        let known = self.members.iter().find(|(_, m)| same(m)).map(|(id, m)| (*id, m.is_away));
        let target = match known {
            Some((_, false)) => return Err(GroupReply::NameHeld),
            Some((replaced, true)) => {
                let replaced = self.members.remove(&replaced).expect("found above");
                replaced.target
            }
            None => {
                self.is_outdated = true;
                Partitions::new()
            }
        };
        let (reported, revoking) = (Partitions::new(), Partitions::new());
        let new = Member { instance, contact: now, target, reported, revoking, is_away: false };
        self.members.insert(id, new);
        Ok(id)
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Duration,
        id: MemberId,
        owned: &Partitions,
    ) -> GroupReply {
        let Some(member) = self.members.get(&id) else { return GroupReply::UnknownMember };
        let held_by_others: Partitions = member
            .target
            .iter()
            .filter(|p| self.members.iter().any(|(other, m)| *other != id && m.holds(p)))
            .cloned()
            .collect();
        let member = self.members.get_mut(&id).expect("found above");
        member.contact = now;
        member.revoking.retain(|partition| owned.contains(partition));
        let kept: Partitions = member.reported.intersection(&member.target).cloned().collect();
        if kept != member.reported {
            let revoked: Vec<_> = member.reported.difference(&kept).cloned().collect();
            member.revoking.extend(revoked);
            member.reported.clone_from(&kept);
            return GroupReply::Assignment(kept);
        }
        if !member.revoking.is_empty() {
            return GroupReply::Unchanged;
        }
        let next: Partitions = member.target.difference(&held_by_others).cloned().collect();
        if next == member.reported {
            return GroupReply::Unchanged;
        }
        member.reported.clone_from(&next);
        GroupReply::Assignment(next)
    }

    pub(super) fn leave(&mut self, id: MemberId, is_for_good: bool) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.instance.is_some() && !is_for_good {
            member.is_away = true;
            return;
        }
        self.members.remove(&id);
        self.is_outdated = true;
    }

    pub(super) fn advance(&mut self, now: Duration, partitions: &[TopicPartition]) {
        let before = self.members.len();
        self.members.retain(|_, member| member.contact + SESSION >= now);
        if self.members.len() < before || self.partitions != partitions.len() {
            self.is_outdated = true;
            self.partitions = partitions.len();
        }
        if std::mem::take(&mut self.is_outdated) {
            let current: Vec<_> =
                self.members.iter().map(|(id, member)| (*id, member.target.clone())).collect();
            for (id, target) in balance(&current, partitions) {
                self.members.get_mut(&id).expect("balanced among them").target = target;
            }
        }
    }

    pub(super) fn describe(&self) -> Description {
        let is_stable =
            self.members.values().all(|m| m.reported == m.target && m.revoking.is_empty());
        let owned = self.members.values().flat_map(|member| member.reported.clone()).collect();
        Description { is_stable, owned }
    }
}
