//! Skip: an operator gives records up, and the ledger says so for ever.

use crate::catalog::{self, ledger};
use crate::commit::{CommitKind, CommitMessage, Counts, ProgressDelta};
use crate::duck_lake::DuckLake;
use crate::duckdb_error;
use crate::error::{LakeError, Result};
use crate::lake::Source;
use crate::position::{Offset, OffsetRange, Partition};

impl DuckLake {
    /// Moves a partition forward to `to` without its records, and begins a new epoch.
    pub fn skip(
        &mut self,
        source: &Source,
        partition: Partition,
        to: Offset,
    ) -> Result<ProgressDelta> {
        let (session, lock) = self.session_and_lock()?;
        let guard = lock.acquire(session)?;
        let progress = catalog::progress(session, source.id)?;
        let Some(now) = progress.iter().find(|now| now.partition == partition) else {
            return Err(LakeError::invalid(format!(
                "the lake has no such partition: partition=`{partition}`"
            )));
        };
        let (epoch, from) = (now.position.epoch, now.position.next_offset);
        if to <= from {
            return Err(LakeError::invalid(format!(
                "the lake is past that offset; a skip goes forward, a replay back: \
                 partition=`{partition}` to_offset=`{to}` next_offset=`{from}`"
            )));
        }
        let counts = Counts { given_up: to.0 - from.0, ..Counts::default() };
        let range = OffsetRange { from, to };
        let step = ProgressDelta { source: source.id, partition, epoch, range, counts };
        let posted = catalog::post(session, &CommitMessage::new(CommitKind::Skip, vec![step]));
        drop(guard);
        // The ledger tells, whatever the answer was.
        match (ledger::applied(session, CommitKind::Skip, &[step])?, posted) {
            (Some(_), _) => Ok(step),
            (None, Err(error)) => Err(duckdb_error::failed("skip", error)),
            (None, Ok(())) => Err(LakeError::invalid(
                "the skip was accepted but progress did not move: the lake's triggers are gone; \
                 stop all workers and run `ducktide verify`",
            )),
        }
    }
}
