//! Reason why files are merged by DuckLake instead.

/// Reason, as a phrase for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotSpliceable(pub(super) &'static str);
