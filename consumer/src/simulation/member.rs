//! Membership of one process in the group: the part of librdkafka that runs in its own thread.

use std::collections::VecDeque;
use std::time::Duration;

use super::group::{Group, GroupReply, HEARTBEAT, MemberId, Partitions};
use crate::source::kafka_config::GroupProtocol;

/// Rebalance that the process executes within a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rebalance {
    Assign(Partitions),
    Revoke { partitions: Partitions, lost: bool },
}

/// A permanent refusal of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another process has joined with this one's `group.instance.id`.
    NameTaken,
    /// Another member has the `group.instance.id`.
    NameHeld,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not subscribed, or unsubscribed.
    Left,
    /// Joins at the next contact.
    Joining,
    Member,
    /// Leaves once all partitions are revoked.
    Leaving,
    /// The client has a permanent error.
    Refused,
}

#[derive(Debug)]
pub(super) struct Membership {
    protocol: GroupProtocol,
    /// `group.instance.id` of a static member.
    instance: Option<u32>,
    id: Option<MemberId>,
    stage: Stage,
    owned: Partitions,
    pending: VecDeque<Rebalance>,
    /// Revocation that the process executes now.
    revoking: Option<Rebalance>,
    /// True if the member joins again when all rebalances are executed.
    joins_again: bool,
    /// True if the session ended while a revocation was being executed.
    is_lost: bool,
    was_accepted: bool,
    next_contact: Duration,
    pub(super) refusal: Option<Refusal>,
}

impl Membership {
    pub(super) fn new(protocol: GroupProtocol, instance: Option<u32>) -> Self {
        Self {
            protocol,
            instance,
            id: None,
            stage: Stage::Joining,
            owned: Partitions::new(),
            pending: VecDeque::new(),
            revoking: None,
            joins_again: false,
            is_lost: false,
            was_accepted: false,
            next_contact: Duration::ZERO,
            refusal: None,
        }
    }

    pub(super) const fn owned(&self) -> &Partitions {
        &self.owned
    }

    pub(super) const fn has_left(&self) -> bool {
        matches!(self.stage, Stage::Left)
    }

    pub(super) const fn was_accepted(&self) -> bool {
        self.was_accepted
    }

    pub(super) fn subscribe(&mut self) {
        if self.stage == Stage::Left {
            self.stage = Stage::Joining;
            self.id = None;
        }
    }

    /// Begins to leave the group permanently; partitions are revoked before.
    pub(super) fn unsubscribe(&mut self) {
        if matches!(self.stage, Stage::Member | Stage::Joining) {
            self.stage = Stage::Leaving;
            self.pending.clear();
            self.joins_again = false;
            let partitions = self.owned.clone();
            if self.revoking.is_none() && !partitions.is_empty() {
                self.pending.push_back(Rebalance::Revoke { partitions, lost: false });
            }
        }
    }

    /// Contacts the group if a contact is due. Returns the time of the next one.
    pub(super) fn contact(&mut self, now: Duration, group: &mut Group) -> Option<Duration> {
        if matches!(self.stage, Stage::Left | Stage::Refused) {
            return None;
        }
        if self.next_contact <= now {
            self.next_contact = now + HEARTBEAT;
            match self.stage {
                Stage::Joining if self.is_settled() => self.join(now, group),
                Stage::Leaving if self.is_settled() && self.owned.is_empty() => {
                    if let Some(id) = self.id.take() {
                        group.leave(now, id, true);
                    }
                    self.stage = Stage::Left;
                }
                _ => self.heartbeat(now, group),
            }
        }
        Some(self.next_contact)
    }

    /// Returns the time of the next contact; None if the client has left or was refused.
    pub(super) fn next_contact(&self) -> Option<Duration> {
        (!matches!(self.stage, Stage::Left | Stage::Refused)).then_some(self.next_contact)
    }

    fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.revoking.is_none()
    }

    fn join(&mut self, now: Duration, group: &mut Group) {
        match group.join(now, self.id, self.instance, &self.owned) {
            Ok(id) => {
                (self.id, self.stage) = (Some(id), Stage::Member);
                self.joins_again = false;
                // The assignment follows within a moment, not at the next heartbeat.
                self.next_contact = now + Duration::from_millis(100);
            }
            Err(reply) => self.handle(reply),
        }
    }

    fn heartbeat(&mut self, now: Duration, group: &mut Group) {
        let Some(id) = self.id else { return };
        let reply = group.heartbeat(now, id, &self.owned);
        if reply == GroupReply::JoinAgain || (reply == GroupReply::Unchanged && self.is_waiting()) {
            self.next_contact = now + Duration::from_millis(300);
        }
        self.handle(reply);
        if self.stage == Stage::Joining && self.is_settled() {
            self.join(now, group);
        }
    }

    /// Returns whether the member waits for its first assignment or another generation.
    fn is_waiting(&self) -> bool {
        !self.was_accepted
    }

    fn handle(&mut self, reply: GroupReply) {
        if self.stage == Stage::Leaving
            && !matches!(reply, GroupReply::UnknownMember | GroupReply::Fenced)
        {
            return;
        }
        match reply {
            GroupReply::Unchanged => {}
            GroupReply::JoinAgain => {
                if self.is_settled() {
                    self.stage = Stage::Joining;
                } else {
                    self.joins_again = true;
                }
            }
            GroupReply::Assignment(partitions) => self.assign(&partitions),
            GroupReply::UnknownMember => self.lose(),
            GroupReply::Fenced => self.refuse(Refusal::NameTaken),
            GroupReply::NameHeld => self.refuse(Refusal::NameHeld),
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        (self.stage, self.refusal) = (Stage::Refused, Some(refusal));
    }

    fn assign(&mut self, partitions: &Partitions) {
        self.was_accepted = true;
        // Partitions of rebalances that are not executed yet are known to the member.
        let mut known = self.owned.clone();
        for rebalance in self.revoking.iter().chain(&self.pending) {
            match rebalance {
                Rebalance::Assign(added) => known.extend(added.iter().cloned()),
                Rebalance::Revoke { partitions, .. } => known.retain(|p| !partitions.contains(p)),
            }
        }
        let revoked: Partitions = known.difference(partitions).cloned().collect();
        if !revoked.is_empty() {
            self.joins_again |= self.protocol == GroupProtocol::Classic;
            self.pending.push_back(Rebalance::Revoke { partitions: revoked, lost: false });
        }
        let added = partitions.difference(&known).cloned().collect();
        self.pending.push_back(Rebalance::Assign(added));
    }

    fn lose(&mut self) {
        self.id = None;
        self.pending.clear();
        self.joins_again = self.stage != Stage::Leaving;
        self.is_lost = true;
        if self.revoking.is_none() {
            self.revoke_lost();
        }
    }

    fn revoke_lost(&mut self) {
        self.is_lost = false;
        let partitions = self.owned.clone();
        if partitions.is_empty() {
            self.end_rebalances();
        } else {
            self.pending.push_back(Rebalance::Revoke { partitions, lost: true });
        }
    }

    fn end_rebalances(&mut self) {
        if self.is_settled() && std::mem::take(&mut self.joins_again) {
            self.stage = Stage::Joining;
            self.next_contact = Duration::ZERO;
        }
        if self.stage == Stage::Leaving || self.protocol == GroupProtocol::Consumer {
            // The group learns at once that partitions were given up.
            self.next_contact = Duration::ZERO;
        }
    }

    pub(super) fn has_rebalance(&self) -> bool {
        !self.pending.is_empty() && self.revoking.is_none()
    }

    /// Takes the next rebalance. A revocation ends with [`Self::revoked`].
    pub(super) fn next_rebalance(&mut self) -> Option<Rebalance> {
        if self.revoking.is_some() {
            return None;
        }
        let rebalance = self.pending.pop_front()?;
        match &rebalance {
            Rebalance::Assign(added) => {
                self.owned.extend(added.iter().cloned());
                self.end_rebalances();
            }
            Rebalance::Revoke { .. } => self.revoking = Some(rebalance.clone()),
        }
        Some(rebalance)
    }

    /// Ends the revocation that is being executed.
    pub(super) fn revoked(&mut self) {
        let Some(Rebalance::Revoke { partitions, .. }) = self.revoking.take() else { return };
        self.owned.retain(|partition| !partitions.contains(partition));
        if self.is_lost {
            self.revoke_lost();
        } else {
            if self.stage == Stage::Leaving && !self.owned.is_empty() && self.pending.is_empty() {
                let partitions = self.owned.clone();
                self.pending.push_back(Rebalance::Revoke { partitions, lost: false });
            }
            self.end_rebalances();
        }
    }

    /// Leaves the group after its partitions were revoked. A static member only stops its heartbeats.
    pub(super) fn close(&mut self, now: Duration, group: &mut Group) {
        if let Some(id) = self.id.take() {
            group.leave(now, id, false);
        }
        self.stage = Stage::Left;
    }

    /// Starts to revoke all partitions before a close. Returns whether there are any.
    pub(super) fn begin_close(&mut self) -> bool {
        self.pending.clear();
        let partitions = std::mem::take(&mut self.owned);
        self.owned.clone_from(&partitions);
        if partitions.is_empty() {
            return false;
        }
        self.pending.push_back(Rebalance::Revoke { partitions, lost: self.is_lost });
        true
    }
}
