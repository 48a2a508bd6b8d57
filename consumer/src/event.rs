//! Events that threads and tasks send to the worker, which owns all state and takes all decisions.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::batch::event::BatcherEvent;
use crate::batch::topic_route::TopicRoute;
use crate::commit::event::CommitterEvent;
use crate::error::ConsumerError;
use crate::source::event::{ClusterAnswer, SourceEvent};

/// An event for the worker.
#[derive(Debug)]
pub(crate) enum Event {
    Source(SourceEvent),
    Batcher(BatcherEvent),
    Committer(CommitterEvent),
    Cluster(ClusterAnswer),
    TopicOpened(Box<OpenedTopic>),
    /// A thread of the worker ended by a panic.
    ThreadPanicked,
    /// The process received a signal to stop.
    Stop,
}

/// The result of opening a topic.
#[derive(Debug)]
pub(crate) struct OpenedTopic {
    pub(crate) topic: Arc<str>,
    pub(crate) route: Result<TopicRoute, ConsumerError>,
}

/// Sender of events. Unbounded, but events are rare: they are sent for a rebalance, a batch or a commit,
/// never for a record.
#[derive(Clone, Debug)]
pub(crate) struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    pub(crate) fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    pub(crate) fn send(&self, event: Event) {
        // A worker that has ended needs no events.
        let _ = self.0.send(event);
    }
}
