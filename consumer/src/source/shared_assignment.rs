//! The assignment of a member, shared by its poll loop and the callback for rebalances.
//!
//! librdkafka calls the callback from within a poll, on the poll thread. A revocation has two halves,
//! between which the driver waits until the worker has committed the records of the partitions, or has
//! given them up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::assignment::Assignment;
use super::topic_partition::TopicPartition;

/// The assignment. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedAssignment(Arc<Mutex<Assignment>>);

impl SharedAssignment {
    /// Adds partitions, none of which is fetched before the worker starts it.
    pub(crate) fn assigned(&self, partitions: &[TopicPartition]) {
        self.lock().assigned(partitions);
    }

    /// Holds partitions that are revoked. Returns those that are being fetched, which the caller must
    /// stop at the end of the revocation.
    pub(crate) fn begin_revocation(&self, partitions: &[TopicPartition]) -> Vec<TopicPartition> {
        self.lock().hold(partitions)
    }

    /// Removes revoked partitions.
    pub(crate) fn end_revocation(&self, partitions: &[TopicPartition]) {
        self.lock().revoked(partitions);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Assignment> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
