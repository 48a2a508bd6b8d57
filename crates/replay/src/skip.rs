//! Skip: an operator gives up records; the ledger counts them permanently.

use ducktide_lake::DuckLake;
use ducktide_lake::catalog::{self, ledger};
use ducktide_lake::duckdb_error;
use ducktide_protocol::Source;
use ducktide_protocol::commit::{CommitKind, CommitMessage, Counts, ProgressDelta};
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::{Offset, OffsetRange, Partition};

/// Moves a partition forward to `to` without its records, and starts a new epoch.
pub fn skip(
    lake: &mut DuckLake,
    source: &Source,
    partition: Partition,
    to: Offset,
) -> Result<ProgressDelta> {
    let (session, lock) = lake.session_and_lock()?;
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
    // The ledger decides, whatever the answer was.
    match (ledger::applied(session, CommitKind::Skip, &[step])?, posted) {
        (Some(_), _) => Ok(step),
        (None, Err(error)) => Err(duckdb_error::failed("skip", error)),
        (None, Ok(())) => Err(LakeError::invalid(
            "the skip was accepted but progress did not move: the lake's triggers are missing; \
             stop all workers and run `ducktide verify`",
        )),
    }
}
