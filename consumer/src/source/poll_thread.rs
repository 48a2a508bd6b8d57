//! The poll thread, which drives the poll loop: the only thread that calls the consumer client. It waits
//! for the client's records and events, for commands, for the worker's answer to a revocation, and for
//! batchers that are behind.

use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::error::KafkaResult;

use super::client::KafkaClient as _;
use super::command::SourceCommand;
use super::delivery::Delivery;
use super::event::SourceEvent;
use super::ffi::{NativeConsumer, RebalanceListener};
use super::in_flight::InFlight;
use super::kafka_config::ConsumerConfig;
use super::poll_loop::{PollLoop, PollLoopConfig, TIMER_CHECK, Turn};
use super::shared_assignment::SharedAssignment;
use super::topic_partition::TopicPartition;
use super::wake_signal::WakeSignal;
use crate::clock::Clock;
use crate::event::{Event, Events};
use crate::metrics::Metrics;

/// Configuration of a member, and its timeouts.
pub(crate) struct JoinConfig {
    pub(crate) client: ConsumerConfig,
    /// Names and patterns of the topics to subscribe to.
    pub(crate) topics: Vec<String>,
    /// Longest time that a revocation waits for the worker.
    pub(crate) revocation_timeout: Duration,
    /// Longest time that a static member waits for its `group.instance.id`.
    pub(crate) name_timeout: Duration,
}

/// Handle of the poll thread.
pub(crate) struct Source {
    commands: mpsc::Sender<SourceCommand>,
    wake: WakeSignal,
    clock: Clock,
    thread: JoinHandle<()>,
}

impl Source {
    /// Joins the group and starts the poll thread.
    pub(crate) fn spawn(
        join_config: JoinConfig,
        batchers: Vec<crossbeam_channel::Sender<Delivery>>,
        in_flight: Arc<InFlight>,
        metrics: Arc<Metrics>,
        clock: Clock,
        events: Events,
    ) -> KafkaResult<Self> {
        let JoinConfig { client, topics, revocation_timeout, name_timeout } = join_config;
        let assignment = SharedAssignment::default();
        let listener = Listener {
            assignment: assignment.clone(),
            events: events.clone(),
            timeout: revocation_timeout,
        };
        let (subscription, of_client) = (topics.clone(), listener.clone());
        let wake = WakeSignal::default();
        let wake_by_client = wake.clone();
        let join = Box::new(move || {
            let listener = Box::new(of_client.clone());
            let mut consumer = NativeConsumer::new(&client, listener, wake_by_client.clone())?;
            consumer.subscribe(&subscription)?;
            Ok(consumer)
        });
        let config = PollLoopConfig { topics, revocation_timeout, name_timeout };
        let poll_loop = PollLoop::new(config, join, assignment, in_flight, metrics, clock.clone())?;
        let (commands, inbox) = mpsc::channel();
        let poll_thread =
            PollThread { poll_loop, listener, inbox, wake: wake.clone(), batchers, events };
        let thread = thread::Builder::new()
            .name("poll".to_owned())
            .spawn(move || poll_thread.run())
            .expect("the operating system starts a thread");
        Ok(Self { commands, wake, clock, thread })
    }

    pub(crate) fn send(&self, command: SourceCommand) {
        // A poll thread that has ended has sent an event, and needs no more commands.
        let _ = self.commands.send(command);
        self.wake.set();
    }

    pub(crate) fn join(self) {
        drop(self.commands);
        self.wake.set();
        let _ = self.thread.join();
    }

    /// Leaves the group while the worker no longer answers events. Waits for at most `timeout`.
    pub(crate) fn leave(self, timeout: Duration) {
        let deadline = self.clock.now() + timeout;
        self.send(SourceCommand::Close);
        while !self.thread.is_finished() && self.clock.now() < deadline {
            thread::sleep(TIMER_CHECK);
        }
    }
}

/// Listener for rebalances, which lets the worker commit the records of revoked partitions.
#[derive(Clone)]
struct Listener {
    assignment: SharedAssignment,
    events: Events,
    timeout: Duration,
}

impl RebalanceListener for Listener {
    fn assigned(&self, partitions: Vec<TopicPartition>) {
        self.assignment.assigned(&partitions);
        self.events.send(Event::Source(SourceEvent::Assigned(partitions)));
    }

    fn revoked(&self, partitions: Vec<TopicPartition>, lost: bool) -> Vec<TopicPartition> {
        let fetched = self.assignment.begin_revocation(&partitions);
        let (done, flushed) = mpsc::sync_channel(1);
        let revoking = SourceEvent::Revoking { partitions: partitions.clone(), lost, done };
        self.events.send(Event::Source(revoking));
        // librdkafka continues to send heartbeats from its own thread. The worker has the same limit; the
        // additional second is for its answer.
        let _ = flushed.recv_timeout(self.timeout + Duration::from_secs(1));
        self.assignment.end_revocation(&partitions);
        fetched
    }
}

struct PollThread {
    poll_loop: PollLoop<NativeConsumer>,
    listener: Listener,
    inbox: mpsc::Receiver<SourceCommand>,
    wake: WakeSignal,
    batchers: Vec<crossbeam_channel::Sender<Delivery>>,
    events: Events,
}

impl PollThread {
    fn run(mut self) {
        loop {
            self.receive_commands();
            let turn = self.poll_loop.turn();
            // Events precede those of a rebalance, which the next turn may cause.
            self.send_outputs();
            match turn {
                Turn::Continue => {}
                Turn::Idle(limit) => self.wake.wait(limit),
                Turn::Wait(time) => thread::sleep(time),
                Turn::Replace(lost) => self.replace_client(lost),
                Turn::Close => break,
            }
        }
        self.poll_loop.close();
        self.send_outputs();
    }

    fn receive_commands(&mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok(command) => self.poll_loop.handle_command(command),
                Err(mpsc::TryRecvError::Empty) => return,
                Err(mpsc::TryRecvError::Disconnected) => {
                    return self.poll_loop.handle_command(SourceCommand::Close);
                }
            }
        }
    }

    fn replace_client(&mut self, lost: Vec<TopicPartition>) {
        if !lost.is_empty() {
            self.listener.revoked(lost, true);
        }
        self.poll_loop.join_again();
        self.send_outputs();
    }

    fn send_outputs(&mut self) {
        let outbox = self.poll_loop.outbox();
        for (index, delivery) in outbox.deliveries.drain(..) {
            // Batchers end only after this thread.
            let _ = self.batchers[index].send(delivery);
        }
        for event in outbox.events.drain(..) {
            self.events.send(Event::Source(event));
        }
    }
}

#[cfg(test)]
#[path = "poll_thread_tests.rs"]
mod tests;
