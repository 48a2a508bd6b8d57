//! A consumer's place in the group: whoever dies in it is followed by another.

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

/// Shorter than any pause that a schedule has, and longer than a busy machine's hiccups.
const SESSION: [&str; 4] = [
    "--kafka-property",
    "session.timeout.ms=4000",
    "--kafka-property",
    "heartbeat.interval.ms=1000",
];

/// Many commits, and so many moments to interrupt.
const BATCHES: [&str; 4] = ["--flush-interval", "300ms", "--memory-limit", "96MiB"];

/// Before somebody follows a consumer that ended by itself.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// A consumer's place.
#[derive(Debug)]
pub(super) struct ConsumerSlot {
    pub(super) number: usize,
    name: String,
    catalog: String,
    /// A static member's name: the first of the consumers has none, nor has anybody in KIP-848,
    /// where Kafka refuses a name until the session of whoever had it is over.
    instance: Option<String>,
    worker: Option<Worker>,
    /// When the last one ended; none so far.
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

    /// Starts a consumer, unless there is one.
    pub(super) fn start(&mut self, pipeline: &Pipeline, failpoints: &str) -> Result<()> {
        self.start_with(pipeline, &[("DUCKTIDE_FAILPOINTS", failpoints)])
    }

    /// The same, with environment variables.
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

    /// The consumer, if there is one.
    pub(super) const fn worker(&mut self) -> Option<&mut Worker> {
        self.worker.as_mut()
    }

    /// SIGKILL; whether there was anybody to kill.
    pub(super) fn kill(&mut self) -> Result<bool> {
        let Some(mut worker) = self.worker.take() else { return Ok(false) };
        self.ended_at = Some(Instant::now());
        worker.kill().map(|()| true)
    }

    /// SIGTERM. A consumer that does not end in time for an outage's sake is killed.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(mut worker) = self.worker.take() else { return Ok(()) };
        self.ended_at = Some(Instant::now());
        // It may stand still at a step that its fault gave up waiting for.
        worker.process().resume()?;
        if worker.stop().is_err() {
            worker.kill()?;
        }
        Ok(())
    }

    /// How the consumer ended, if it has since the last look; its place is free then.
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

    /// Whether a consumer is missing, and has been for a moment.
    pub(super) fn is_vacant(&self) -> bool {
        self.worker.is_none() && self.ended_at.is_none_or(|at| at.elapsed() > RESTART_PAUSE)
    }
}

/// Starts a consumer outside of any place.
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

/// Whether SIGKILL ended it.
pub(super) fn was_killed(finished: &ProgramExit) -> bool {
    finished.status.signal() == Some(9)
}

/// Whether it ended because Kafka gave its name away: it slept beyond its session, or has a double.
pub(super) fn was_fenced_by_name(finished: &ProgramExit) -> bool {
    finished.status.code() == Some(7)
}
