//! The wait for partitions that other members read.

use std::time::Instant;

/// The wait for partitions of other members, which is logged once.
#[derive(Debug, Default)]
pub(super) struct OtherMembersWait {
    /// Since when only other members can reach the goals.
    pub(super) since: Option<Instant>,
    /// Whether it was asked who they are. There is no second question unless nobody reads the
    /// partitions yet.
    pub(super) is_asked: bool,
}
