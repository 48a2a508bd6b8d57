//! Committer thread, which owns the lake: one commit at a time while the next batch fills.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ducktide_protocol::commit::{Commit, CommitOutcome};
use ducktide_protocol::position::{Offset, Partition, SourceId};
use ducktide_protocol::table::{Column, TableName};
use ducktide_protocol::{ErrorKind, Lake};
use ducktide_service::telemetry::LogOnChange;
use rand::RngExt as _;

use crate::commit::event::{CommitterEvent, DropReason};
use crate::commit::request::{CommitterRequest, RecentRowsRequest};
use crate::event::{Event, Events};
use crate::metrics::RetryCause;

/// Shortest and longest pause between two attempts. The shortest is about the duration of a commit;
/// the longest limits both the delay after an outage and the load on a lake that recovers.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Handle of the worker to the committer thread.
pub(crate) struct Committer {
    requests: mpsc::Sender<CommitterRequest>,
    abandon: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Committer {
    pub(crate) fn spawn(lake: Box<dyn Lake>, events: Events) -> Self {
        let (requests, inbox) = mpsc::channel();
        let abandon = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new()
            .name("commit".to_owned())
            .spawn({
                let abandon = Arc::clone(&abandon);
                move || CommitterThread { lake, inbox, events, abandon }.run()
            })
            .expect("the operating system starts a thread");
        Self { requests, abandon, thread }
    }

    pub(crate) fn send(&self, request: CommitterRequest) {
        // A committer that ended has reported it by an event.
        let _ = self.requests.send(request);
    }

    /// Ends the retries of the current request. A statement in progress is not interrupted.
    pub(crate) fn abandon(&self) {
        self.abandon.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
    }

    pub(crate) fn join(self) {
        self.abandon();
        drop(self.requests);
        let _ = self.thread.join();
    }
}

struct CommitterThread {
    lake: Box<dyn Lake>,
    inbox: mpsc::Receiver<CommitterRequest>,
    events: Events,
    abandon: Arc<AtomicBool>,
}

impl CommitterThread {
    fn run(mut self) {
        while let Ok(request) = self.inbox.recv() {
            let event = match request {
                CommitterRequest::Commit(commit) => self.commit(commit),
                CommitterRequest::Load { source, starts, recent } => {
                    self.load(source, &starts, recent.as_ref())
                }
                CommitterRequest::Alter(tables) => self.alter(&tables),
            };
            self.abandon.store(false, Ordering::Relaxed);
            self.events.send(Event::Committer(event));
        }
    }

    fn commit(&mut self, commit: Commit) -> CommitterEvent {
        let started = Instant::now();
        let dropped = |reason| CommitterEvent::Dropped { reason, unusable: BTreeSet::new() };
        let events = self.events.clone();
        let attempt = |lake: &mut dyn Lake| {
            let outcome = lake.commit(&commit);
            if let Some(inquiry) = lake.take_outcome_check() {
                events.send(Event::Committer(CommitterEvent::OutcomeChecked(inquiry)));
            }
            outcome
        };
        match self.retry(RetryCause::Commit, "commit", attempt) {
            Ok(Some(CommitOutcome::Committed(snapshot_id))) => {
                CommitterEvent::Committed { commit, snapshot_id, elapsed: started.elapsed() }
            }
            Ok(Some(CommitOutcome::Fenced)) => dropped(DropReason::Fenced),
            Ok(Some(CommitOutcome::TableChanged)) => dropped(DropReason::TableChanged),
            Ok(Some(CommitOutcome::FilesUnusable(unusable))) => {
                CommitterEvent::Dropped { reason: DropReason::FilesUnusable, unusable }
            }
            Ok(None) => dropped(DropReason::Abandoned),
            Err(error) => CommitterEvent::Failed(error),
        }
    }

    fn load(
        &mut self,
        source: SourceId,
        starts: &[(Partition, Offset)],
        recent: Option<&RecentRowsRequest>,
    ) -> CommitterEvent {
        let read = self.retry(RetryCause::Lake, "load progress", |lake| {
            if !starts.is_empty() {
                lake.start_partitions(source, starts)?;
            }
            let positions = lake.positions(source)?;
            let recent = recent.map(|recent| recent.read(lake, &positions)).transpose()?;
            Ok((positions, recent.unwrap_or_default()))
        });
        match read {
            Ok(loaded) => {
                let (positions, recent) = loaded.unwrap_or_default();
                CommitterEvent::Loaded { source, positions, recent }
            }
            Err(error) => CommitterEvent::Failed(error),
        }
    }

    fn alter(&mut self, tables: &BTreeMap<TableName, Vec<Column>>) -> CommitterEvent {
        let altered = self.retry(RetryCause::Lake, "alter tables", |lake| {
            tables.iter().map(|(table, columns)| lake.add_columns(table, columns)).collect()
        });
        match altered {
            Ok(tables) => CommitterEvent::Altered(tables.unwrap_or_default()),
            Err(error) => CommitterEvent::Failed(error),
        }
    }

    /// Calls the lake, with retries while it is unavailable. Returns None after
    /// [`Committer::abandon`].
    fn retry<T>(
        &mut self,
        cause: RetryCause,
        operation: &str,
        mut call: impl FnMut(&mut dyn Lake) -> ducktide_protocol::Result<T>,
    ) -> ducktide_protocol::Result<Option<T>> {
        let mut pause = FIRST_PAUSE;
        let mut retry_log = LogOnChange::default();
        loop {
            let error = match call(self.lake.as_mut()) {
                Ok(value) => {
                    if retry_log.recovered() {
                        tracing::info!(operation, "lake available again");
                    }
                    return Ok(Some(value));
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => error,
                Err(error) => return Err(error),
            };
            let error = error.chain();
            let retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            if retry_log.is_new(&error) {
                tracing::warn!(operation, error, retry_in_ms, "lake unavailable, retrying");
            } else {
                tracing::debug!(operation, error, retry_in_ms, "lake unavailable, retrying");
            }
            self.events.send(Event::Committer(CommitterEvent::Retrying { cause, error }));
            // Up to 50 % longer, so that workers that failed together do not retry together.
            thread::park_timeout(pause.mul_f64(1.0 + rand::rng().random_range(0.0..0.5)));
            if self.abandon.load(Ordering::Relaxed) {
                return Ok(None);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

#[cfg(test)]
#[path = "committer_tests.rs"]
mod tests;
