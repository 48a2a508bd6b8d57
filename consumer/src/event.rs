//! What the threads tell the worker, which owns all state and takes all decisions.

use tokio::sync::mpsc;

use crate::batcher::BatcherEvent;
use crate::committer::CommitterEvent;
use crate::source::SourceEvent;
use crate::survey::SurveyEvent;
use crate::worker::Opened;

/// Something happened.
#[derive(Debug)]
pub(crate) enum Event {
    Source(SourceEvent),
    Batcher(BatcherEvent),
    Committer(CommitterEvent),
    Survey(SurveyEvent),
    Opened(Box<Opened>),
}

/// Where threads leave events. Unbounded, but each kind of event is rare: it is sent once for a
/// rebalance, a batch or a commit, never for a record.
#[derive(Clone, Debug)]
pub(crate) struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    pub(crate) fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    pub(crate) fn send(&self, event: Event) {
        // A worker that ended has no use for it.
        let _ = self.0.send(event);
    }
}
