//! Committer thread, which owns the lake: one commit at a time while the next batch fills.

use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use ducktide_protocol::Lake;

use crate::clock::Clock;
use crate::commit::core::CommitCore;
use crate::commit::request::CommitterRequest;
use crate::event::{Event, Events};
use crate::random::Random;

/// Handle of the committer thread.
pub(crate) struct Committer {
    requests: Sender<CommitterRequest>,
    thread: JoinHandle<()>,
}

impl Committer {
    pub(crate) fn spawn(lake: Box<dyn Lake>, clock: Clock, events: Events) -> Self {
        let (requests, inbox) = crossbeam_channel::unbounded();
        let thread = thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || run(lake, &clock, &inbox, &events))
            .expect("the operating system starts a thread");
        Self { requests, thread }
    }

    pub(crate) fn send(&self, request: CommitterRequest) {
        // A committer that ended has reported it by an event.
        let _ = self.requests.send(request);
    }

    /// Ends the thread. A statement in progress is not interrupted, but no request is retried.
    pub(crate) fn join(self) {
        drop(self.requests);
        let _ = self.thread.join();
    }
}

/// Attempts requests when they are due, and receives new ones in between.
fn run(
    mut lake: Box<dyn Lake>,
    clock: &Clock,
    inbox: &Receiver<CommitterRequest>,
    events: &Events,
) {
    let mut core = CommitCore::new(clock.clone(), Random::system());
    let send = |event| events.send(Event::Committer(event));
    loop {
        let received = match core.due() {
            Some(due) if due <= clock.now() => {
                core.attempt(lake.as_mut(), send);
                continue;
            }
            Some(due) => inbox.recv_deadline(due),
            None => inbox.recv().map_err(RecvTimeoutError::from),
        };
        match received {
            Ok(request) => {
                if let Some(abandoned) = core.handle_request(request) {
                    send(abandoned);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
