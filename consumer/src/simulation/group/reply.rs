//! Answers of the group, and what both protocols have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::source::topic_partition::TopicPartition;

/// Time without a contact after which a member is removed.
pub(in crate::simulation) const SESSION: Duration = Duration::from_secs(6);

/// Time between two contacts of a member.
pub(in crate::simulation) const HEARTBEAT: Duration = Duration::from_millis(1500);

/// Longest time for which a rebalance waits for a member that heartbeats, but does not join.
pub(in crate::simulation) const REBALANCE_TIMEOUT: Duration = Duration::from_mins(1);

/// Number of a member; each join of a new process gets another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::simulation) struct MemberId(pub(super) u32);

/// Set of partitions.
pub(in crate::simulation) type Partitions = BTreeSet<TopicPartition>;

/// Answer of the group to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::simulation) enum GroupReply {
    /// Nothing changed.
    Unchanged,
    /// A rebalance has begun: join again.
    JoinAgain,
    /// All partitions of the member from now on.
    Assignment(Partitions),
    /// The session has ended: all partitions are lost.
    UnknownMember,
    /// Another process has joined with the member's `group.instance.id`.
    Fenced,
    /// Another member has the `group.instance.id` until it leaves or its session ends.
    NameHeld,
}

/// Members and their partitions, as the brokers describe them.
#[derive(Clone, Debug)]
pub(in crate::simulation) struct Description {
    pub(in crate::simulation) is_stable: bool,
    pub(in crate::simulation) owned: Partitions,
}

/// Distributes partitions evenly. Each member keeps as many of its own as it may have.
pub(super) fn balance(
    members: &[(MemberId, Partitions)],
    all: &[TopicPartition],
) -> BTreeMap<MemberId, Partitions> {
    let mut target: BTreeMap<MemberId, Partitions> =
        members.iter().map(|(member, _)| (*member, Partitions::new())).collect();
    if members.is_empty() {
        return target;
    }
    let (least, mut extra) = (all.len() / members.len(), all.len() % members.len());
    let mut free: Partitions = all.iter().cloned().collect();
    for (member, owned) in members {
        let mine: Vec<_> = owned.iter().filter(|p| free.contains(*p)).cloned().collect();
        let mut quota = least;
        if mine.len() > least && extra > 0 {
            quota += 1;
            extra -= 1;
        }
        for partition in mine.into_iter().take(quota) {
            free.remove(&partition);
            target.entry(*member).or_default().insert(partition);
        }
    }
    for partition in free {
        let (_, fewest) =
            target.iter_mut().min_by_key(|(_, mine)| mine.len()).expect("there is a member");
        fewest.insert(partition);
    }
    target
}
