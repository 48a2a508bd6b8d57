//! Slot of a consumer in the group: a consumer that ends is replaced by a new one.

use std::{
    os::unix::process::ExitStatusExt as _,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    pipeline::{Pipeline, Protocol},
    program::ProgramExit,
    worker::Worker,
};

/// Session settings. The timeout is shorter than all scheduled pauses, and longer than delays of a
/// busy machine.
const SESSION: [&str; 4] = [
    "--kafka-property",
    "session.timeout.ms=4000",
    "--kafka-property",
    "heartbeat.interval.ms=1000",
];

/// Settings for frequent commits, which give many moments to interrupt.
const BATCHES: [&str; 4] = ["--flush-interval", "300ms", "--memory-limit", "96MiB"];

/// Time before a consumer that has ended is replaced.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Slot of a consumer.
#[derive(Debug)]
pub(super) struct ConsumerSlot {
    pub(super) number: usize,
    name: String,
    catalog: String,
    /// Instance ID of a static member. None for the first consumer, and for all with KIP-848: there
    /// Kafka rejects an instance ID until the session of the previous member is over.
    instance: Option<String>,
    worker: Option<Worker>,
    /// Time of the end of the last consumer.
    ended_at: Option<Instant>,
    pub(super) starts: u64,
}

impl ConsumerSlot {
    pub(super) fn new(number: usize, catalog: String, protocol: Protocol) -> Self {
        let name = format!("consumer-{number}");
        let is_static = number > 0 && protocol == Protocol::Classic;
        let instance = is_static.then(|| name.clone());
        Self { number, name, catalog, instance, worker: None, ended_at: None, starts: 0 }
    }

    pub(super) const fn instance(&self) -> Option<&String> {
        self.instance.as_ref()
    }

    /// Starts a consumer, unless one is running.
    pub(super) fn start(&mut self, pipeline: &Pipeline, failpoints: &str) -> Result<()> {
        self.start_with(pipeline, &[("DUCKTIDE_FAILPOINTS", failpoints)])
    }

    /// Starts a consumer with environment variables, unless one is running.
    pub(super) fn start_with(
        &mut self,
        pipeline: &Pipeline,
        variables: &[(&str, &str)],
    ) -> Result<()> {
        if self.worker.is_some() {
            return Ok(());
        }
        let worker = start(pipeline, &self.name, &self.catalog, self.instance.as_ref(), variables)?;
        self.worker = Some(worker);
        self.starts += 1;
        Ok(())
    }

    /// Returns the consumer, if one is running.
    pub(super) const fn worker(&mut self) -> Option<&mut Worker> {
        self.worker.as_mut()
    }

    /// Sends SIGKILL. Returns false if no consumer is running.
    pub(super) fn kill(&mut self) -> Result<bool> {
        let Some(mut worker) = self.worker.take() else { return Ok(false) };
        self.ended_at = Some(Instant::now());
        worker.kill().map(|()| true)
    }

    /// Sends SIGTERM. Kills the consumer if it does not end in time, as in an outage.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(mut worker) = self.worker.take() else { return Ok(()) };
        self.ended_at = Some(Instant::now());
        // It can be stopped at a failpoint that it reached after the timeout of its fault.
        worker.process().resume()?;
        if worker.stop().is_err() {
            worker.kill()?;
        }
        Ok(())
    }

    /// Returns how the consumer has ended, if it has, and clears the slot.
    pub(super) fn ended(&mut self) -> Result<Option<ProgramExit>> {
        let Some(worker) = &mut self.worker else { return Ok(None) };
        if worker.process().is_running()? {
            return Ok(None);
        }
        let finished = worker.process().wait(Duration::ZERO)?;
        self.worker = None;
        self.ended_at = Some(Instant::now());
        Ok(Some(finished))
    }

    /// Returns true if no consumer has been running for [`RESTART_PAUSE`].
    pub(super) fn is_vacant(&self) -> bool {
        self.worker.is_none() && self.ended_at.is_none_or(|at| at.elapsed() > RESTART_PAUSE)
    }
}

/// Starts a consumer outside of the slots.
pub(super) fn start(
    pipeline: &Pipeline,
    name: &str,
    catalog: &str,
    instance: Option<&String>,
    variables: &[(&str, &str)],
) -> Result<Worker> {
    let mut consumer = pipeline.consumer(catalog)?.args(BATCHES);
    if pipeline.protocol == Protocol::Classic {
        consumer = consumer.args(SESSION);
    }
    if let Some(instance) = instance {
        consumer = consumer.args(["--group-instance-id", instance]);
    }
    for (variable, value) in variables {
        consumer = consumer.env(*variable, *value);
    }
    pipeline.start_worker(name, consumer)
}

/// Returns true if SIGKILL ended the consumer.
pub(super) fn was_killed(finished: &ProgramExit) -> bool {
    finished.status.signal() == Some(9)
}

/// Returns true if the consumer ended because another member has its instance ID: it was paused for
/// longer than its session, or a duplicate was started.
pub(super) fn was_fenced_by_name(finished: &ProgramExit) -> bool {
    finished.status.code() == Some(7)
}
