//! Traces of batches: the batch that fills, and the one that moves (`batch_cycle`).
//!
//! | span | from | to |
//! |---|---|---|
//! | `batch` | first record | end of the commit |
//! | `fill` | first record | cut: records are received, decoded and written to files |
//! | `write` | cut | all files are complete |
//! | `identify` | files complete | the ids of the topics are confirmed |
//! | `commit` | commit sent | committed or dropped |

use std::sync::Arc;
use std::time::Instant;

use ducktide_protocol::commit::Commit;
use ducktide_protocol::position::SnapshotId;
use ducktide_service::traces::{Trace, Traces};

/// The traces of a worker.
#[derive(Debug)]
pub(super) struct BatchTraces {
    exporter: Arc<Traces>,
    /// Time of the first record of the batch that fills.
    opened: Option<Instant>,
    /// Times of the first record and of the cut of the batch whose files are being completed.
    cut: Option<(Instant, Instant)>,
    /// Trace of the batch that is being identified and committed.
    moving: Trace,
}

impl BatchTraces {
    pub(super) fn new(exporter: Arc<Traces>) -> Self {
        Self { exporter, opened: None, cut: None, moving: Trace::default() }
    }

    /// Returns the identifier of the trace of the batch that moves, if traces are exported.
    pub(super) fn id(&self) -> Option<String> {
        self.moving.id()
    }

    pub(super) fn batch_opened(&mut self, now: Instant) {
        self.opened.get_or_insert(now);
    }

    pub(super) fn batch_cut(&mut self, now: Instant) {
        self.cut = Some((self.opened.take().unwrap_or(now), now));
    }

    /// Starts the trace of the batch that was cut: its files are complete.
    pub(super) fn written(&mut self, now: Instant) {
        let Some((opened, cut)) = self.cut.take() else { return };
        self.moving = self.exporter.start("batch", opened);
        self.moving.end_step("fill", cut);
        self.moving.end_step("write", now);
    }

    pub(super) fn identified(&mut self, now: Instant) {
        self.moving.end_step("identify", now);
    }

    pub(super) fn committed(
        &mut self,
        commit: &Commit,
        snapshot_id: Option<SnapshotId>,
        now: Instant,
    ) {
        let mut trace = std::mem::take(&mut self.moving);
        trace.end_step("commit", now);
        trace.set("rows", i64::try_from(commit.rows()).unwrap_or(i64::MAX));
        trace.set("files", i64::try_from(commit.files().len()).unwrap_or(i64::MAX));
        trace.set("partitions", i64::try_from(commit.progress().len()).unwrap_or(i64::MAX));
        if let Some(snapshot_id) = snapshot_id {
            trace.set("snapshot_id", snapshot_id.0);
        }
        trace.end(now, None);
    }

    /// Ends the trace of a batch that is not committed.
    pub(super) fn dropped(&mut self, reason: &str, now: Instant) {
        std::mem::take(&mut self.moving).end(now, Some(reason));
    }

    /// Drops the batch that fills, and the one that was cut unless its commit was sent.
    pub(super) fn reset(&mut self, is_commit_sent: bool, now: Instant) {
        (self.opened, self.cut) = (None, None);
        if !is_commit_sent {
            self.dropped("reset", now);
        }
    }
}
