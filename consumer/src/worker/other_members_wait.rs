//! The wait of a worker with `--until-end` for other members.

use std::time::Instant;

/// The wait for partitions that other members read, which is logged once.
#[derive(Debug, Default)]
pub(super) struct OtherMembersWait {
    /// Time since which only other members can reach the goals.
    pub(super) since: Option<Instant>,
    /// True once the members were queried. The query is repeated only if no member owns the partitions.
    pub(super) is_asked: bool,
}
