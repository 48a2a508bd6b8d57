//! Waits of a worker with `--until-end`, for Kafka and for other members of its group.

use std::time::{Duration, Instant};

/// Longest time that a run with `--until-end` waits while Kafka refuses a request. Brokers that have just
/// started may not have loaded their access rules.
pub(crate) const REFUSAL_LIMIT: Duration = Duration::from_secs(10);

/// The wait for partitions that other members read, which is logged once.
#[derive(Debug, Default)]
pub(super) struct OtherMembersWait {
    /// Time since which only other members can reach the goals.
    pub(super) since: Option<Instant>,
    /// True once the members were queried. The query is repeated only if no member owns the partitions.
    pub(super) is_asked: bool,
}
