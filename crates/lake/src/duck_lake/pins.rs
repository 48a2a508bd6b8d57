//! Pins of snapshots.

use std::time::Duration;

use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::SnapshotId;

use super::DuckLake;
use crate::catalog::pin::{self, Pin};

impl DuckLake {
    /// Returns all pins, the oldest snapshot first.
    pub fn pins(&mut self) -> Result<Vec<Pin>> {
        pin::pins(self.session()?)
    }

    /// Keeps a snapshot, or the newest one, until it is unpinned.
    ///
    /// Waits at most `timeout` for the maintenance lock: no snapshot expires while a pin is
    /// created, so a pinned snapshot exists.
    pub fn pin(
        &mut self,
        name: &str,
        snapshot: Option<SnapshotId>,
        timeout: Duration,
    ) -> Result<Pin> {
        pin::check_name(name)?;
        let (session, _, lock) = self.session_and_locks()?;
        let Some(_guard) = lock.take(timeout)? else {
            return Err(LakeError::unavailable(
                "an operation of a compactor, or a replay, holds the maintenance lock; retry later",
            ));
        };
        let pinned = pin::pin(session, name, snapshot)?;
        // If the lock's connection broke, the lock was released, and an expiry may have removed the
        // snapshot.
        if !pin::has_snapshot(session, pinned.snapshot)? {
            pin::unpin(session, name)?;
            return Err(pin::no_such_snapshot(pinned.snapshot));
        }
        Ok(pinned)
    }

    /// Deletes a pin and returns it. Fails if there is no such pin.
    pub fn unpin(&mut self, name: &str) -> Result<Pin> {
        let session = self.session()?;
        let found = pin::pins(session)?.into_iter().find(|pin| pin.name == name);
        let found = found
            .ok_or_else(|| LakeError::invalid(format!("there is no such pin: name=`{name}`")))?;
        pin::unpin(session, name).map(|()| found)
    }
}
