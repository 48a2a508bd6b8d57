//! Group of the classic protocol with the cooperative-sticky assignor.
//!
//! ```text
//! Stable ──join, leave, end of a session──▶ Preparing ──all members joined──▶ Stable (next generation)
//! ```
//! A partition moves in two generations: in the first one it has no owner, so that its owner gives it up and
//! joins again; in the second one it has its new owner.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::reply::{
    Description, GroupReply, MemberId, Partitions, REBALANCE_TIMEOUT, SESSION, balance,
};
use crate::source::topic_partition::TopicPartition;

#[derive(Clone, Debug, Default)]
pub(in crate::simulation) struct ClassicGroup {
    members: BTreeMap<MemberId, Member>,
    /// Members whose `group.instance.id` another process has.
    fenced: BTreeSet<MemberId>,
    generation: u64,
    /// Deadline of the rebalance in progress.
    preparing_until: Option<Duration>,
    next_member: u32,
}

#[derive(Clone, Debug)]
struct Member {
    instance: Option<u32>,
    has_joined: bool,
    /// Generation of the last assignment that was sent to the member.
    sent_generation: u64,
    assigned: Partitions,
    /// Partitions that the member claims to own.
    claimed: Partitions,
    contact: Duration,
}

impl ClassicGroup {
    pub(super) fn join(
        &mut self,
        now: Duration,
        member: Option<MemberId>,
        instance: Option<u32>,
        owned: &Partitions,
    ) -> Result<MemberId, GroupReply> {
        if let Some(id) = member {
            return self.join_again(now, id, owned).map(|()| id);
        }
        let id = MemberId(self.next_member);
        self.next_member += 1;
        let known = self.members.iter().find(|(_, m)| instance.is_some() && m.instance == instance);
        if let Some((&replaced, _)) = known {
            let mut returned = self.members.remove(&replaced).expect("found above");
            self.fenced.insert(replaced);
            // It owns nothing yet, and receives its assignment without a rebalance.
            (returned.contact, returned.sent_generation) = (now, self.generation.wrapping_sub(1));
            returned.claimed = Partitions::new();
            returned.has_joined = self.preparing_until.is_some();
            self.members.insert(id, returned);
            return Ok(id);
        }
        let (assigned, claimed) = (Partitions::new(), Partitions::new());
        let (sent_generation, contact) = (self.generation, now);
        self.prepare(now);
        let new =
            Member { instance, has_joined: true, sent_generation, assigned, claimed, contact };
        self.members.insert(id, new);
        Ok(id)
    }

    fn join_again(
        &mut self,
        now: Duration,
        id: MemberId,
        owned: &Partitions,
    ) -> Result<(), GroupReply> {
        if self.fenced.contains(&id) {
            return Err(GroupReply::Fenced);
        }
        let Some(member) = self.members.get_mut(&id) else {
            return Err(GroupReply::UnknownMember);
        };
        member.contact = now;
        member.claimed.clone_from(owned);
        self.prepare(now);
        self.members.get_mut(&id).expect("found above").has_joined = true;
        Ok(())
    }

    /// Starts a rebalance, unless one is in progress.
    fn prepare(&mut self, now: Duration) {
        if self.preparing_until.is_none() {
            self.preparing_until = Some(now + REBALANCE_TIMEOUT);
            self.members.values_mut().for_each(|member| member.has_joined = false);
        }
    }

    pub(super) fn heartbeat(&mut self, now: Duration, id: MemberId) -> GroupReply {
        if self.fenced.contains(&id) {
            return GroupReply::Fenced;
        }
        let Some(member) = self.members.get_mut(&id) else { return GroupReply::UnknownMember };
        member.contact = now;
        if self.preparing_until.is_some() {
            return if member.has_joined { GroupReply::Unchanged } else { GroupReply::JoinAgain };
        }
        if member.sent_generation == self.generation {
            return GroupReply::Unchanged;
        }
        member.sent_generation = self.generation;
        GroupReply::Assignment(member.assigned.clone())
    }

    pub(super) fn leave(&mut self, now: Duration, id: MemberId, is_for_good: bool) {
        let is_static = self.members.get(&id).is_some_and(|member| member.instance.is_some());
        if is_static && !is_for_good {
            return;
        }
        if self.members.remove(&id).is_some() {
            self.prepare(now);
        }
    }

    pub(super) fn advance(&mut self, now: Duration, partitions: &[TopicPartition]) {
        let is_preparing = self.preparing_until.is_some();
        let before = self.members.len();
        // A member that waits for the others has a request open, which keeps its session.
        self.members.retain(|_, member| {
            (is_preparing && member.has_joined) || member.contact + SESSION >= now
        });
        if self.members.len() < before {
            self.prepare(now);
        }
        let Some(deadline) = self.preparing_until else { return };
        if now >= deadline {
            self.members.retain(|_, member| member.has_joined || member.instance.is_some());
        }
        if now >= deadline || self.members.values().all(|member| member.has_joined) {
            self.complete(now, partitions);
        }
    }

    fn complete(&mut self, now: Duration, partitions: &[TopicPartition]) {
        self.preparing_until = None;
        self.generation += 1;
        let claims: Vec<_> =
            self.members.iter().map(|(id, member)| (*id, member.claimed.clone())).collect();
        let mut target = balance(&claims, partitions);
        for (id, member) in &mut self.members {
            let mut assigned = target.remove(id).unwrap_or_default();
            let is_claimed =
                |p: &TopicPartition| claims.iter().any(|(of, owned)| of != id && owned.contains(p));
            assigned.retain(|partition| !is_claimed(partition));
            (member.assigned, member.has_joined, member.contact) = (assigned, false, now);
        }
    }

    pub(super) fn describe(&self) -> Description {
        let owned = self.members.values().flat_map(|member| member.assigned.clone()).collect();
        Description { is_stable: self.preparing_until.is_none(), owned }
    }
}
