//! Changes of the number of batchers.

use std::time::Duration;

use super::Worker;
use super::batch_cycle::FlushTrigger;

impl Worker {
    /// Records the time that the batchers have worked on the batch that was cut last.
    pub(super) fn record_load(&mut self, worked: Duration) {
        if let Some((cut, trigger)) = self.batches.last_cut() {
            self.spread.record_batch(cut, worked, trigger == FlushTrigger::Full);
        }
    }

    /// Uses another number of batchers if the load requires it. Called after a commit, when few records are
    /// uncommitted: they are read again.
    pub(super) fn adapt_batchers(&mut self) {
        let Some(used) = self.spread.wanted() else { return };
        if self.is_ending() || self.revocation.is_some() || self.keeps_batchers() {
            return;
        }
        tracing::info!(from = self.spread.used(), to = used, "number of used batchers changed");
        self.spread.change_to(used);
        self.batches.use_batchers(used);
        if !mutated!(BatchersChangedWithoutReset) {
            self.reset();
        }
        self.load_all();
    }

    /// Returns whether a reset would be expensive, or change the result: a drain ends soon, `--max-rows`
    /// counts records that are read twice, and windows of duplicates are read from the lake.
    fn keeps_batchers(&self) -> bool {
        let source = &self.settings.config.source;
        let mut routes = self.topics.routes.values();
        source.until_end || source.max_rows.is_some() || routes.any(|route| route.dedupe.is_some())
    }
}
