//! Batcher threads, each of which drives a [`BatchCore`].

use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, never, select};

use crate::batch::core::BatchCore;
use crate::batch::staging::EncoderBudget;
use crate::batch::staging_area::ParquetArea;
use crate::decode::decoders::RecordDecoders;
use crate::event::{Event, Events};
use crate::source::{Delivery, Record};

pub(crate) use crate::batch::command::BatcherCommand;
pub(crate) use crate::batch::context::{BatchLimits, BatcherContext};

/// Handle of the worker to a batcher thread.
pub(crate) struct Batcher {
    commands: Sender<BatcherCommand>,
    thread: JoinHandle<()>,
}

impl Batcher {
    pub(crate) fn spawn(
        index: usize,
        deliveries: Receiver<Delivery>,
        schemas: RecordDecoders,
        context: BatcherContext,
        events: Events,
    ) -> Self {
        let (commands, inbox) = crossbeam_channel::unbounded();
        let area = ParquetArea::new(EncoderBudget::new(context.limits.encoder_bytes()));
        let core = BatchCore::new(index, context, schemas, area);
        let running = BatcherThread { core, inbox, deliveries, events };
        let thread = thread::Builder::new()
            .name(format!("batch-{index}"))
            .spawn(move || running.run())
            .expect("the operating system starts a thread");
        Self { commands, thread }
    }

    pub(crate) fn send(&self, command: BatcherCommand) {
        // A batcher ends only after its worker dropped this handle.
        let _ = self.commands.send(command);
    }

    pub(crate) fn join(self) {
        drop(self.commands);
        if self.thread.join().is_err() {
            tracing::error!("batcher thread panicked");
        }
    }

    /// Returns whether the thread ended, which means that it panicked.
    pub(crate) fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }
}

struct BatcherThread {
    core: BatchCore<Record, ParquetArea>,
    inbox: Receiver<BatcherCommand>,
    deliveries: Receiver<Delivery>,
    events: Events,
}

impl BatcherThread {
    fn run(mut self) {
        loop {
            // Commands first: a `Begin` is sent before the records of its partition.
            while let Ok(command) = self.inbox.try_recv() {
                self.core.handle_command(command);
                self.send_events();
            }
            if self.core.resume() {
                self.send_events();
                continue;
            }
            let accepts = self.core.accepts_deliveries();
            let deliveries = if accepts { self.deliveries.clone() } else { never() };
            select! {
                recv(self.inbox) -> command => match command {
                    Ok(command) => self.core.handle_command(command),
                    Err(_) => return,
                },
                recv(deliveries) -> delivery => match delivery {
                    Ok(delivery) => self.core.handle_delivery(delivery),
                    Err(_) => self.deliveries = never(),
                },
                default(self.core.idle_after()) => self.core.handle_idle(),
            }
            self.send_events();
        }
    }

    fn send_events(&mut self) {
        for event in self.core.outbox().drain(..) {
            self.events.send(Event::Batcher(event));
        }
    }
}
