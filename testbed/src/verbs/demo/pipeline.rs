//! Producer and consumers; one consumer is killed and restarted.

use std::{
    num::NonZeroU64,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ducktide_testbed::program::RunningProgram;
use jiff::Timestamp;

use super::{
    catalog_watch::{CatalogWatch, LakeState},
    context::{DemoContext, TABLE},
};
use crate::verbs::terminal::{Terminal, grouped};

/// Number of partitions of the topic: more than consumers.
const PARTITIONS: &str = "8";

/// Minimum duration of producing, in seconds: long enough for several commits before and after the
/// kill of a consumer.
const PRODUCE_SECONDS: NonZeroU64 = NonZeroU64::new(15).expect("15 is not zero");

/// Range of the event timestamps, in microseconds. It ends now, so that the table has several days
/// as partitions, and events of the last hour to query.
const EVENTS_SPAN_MICROS: u64 = 72 * 3_600_000_000;

/// Time between two reads of the lake's state. Short, so that a consumer is killed just after a
/// lake commit and before its offset commit: a sink that reads its position from Kafka writes
/// duplicates then.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Maximum time without new rows.
const STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// Maximum time for a consumer to commit its last batch and leave the group.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Running programs of the demonstration.
#[derive(Debug)]
pub(super) struct DemoPipeline<'a> {
    terminal: &'a mut Terminal,
    context: &'a DemoContext,
    catalog_watch: CatalogWatch,
    rows: u64,
    producer: RunningProgram,
    consumers: Vec<RunningProgram>,
}

impl<'a> DemoPipeline<'a> {
    /// Starts a producer and the consumers.
    pub(super) fn start(
        terminal: &'a mut Terminal,
        context: &'a DemoContext,
        rows: NonZeroU64,
        consumers: u8,
    ) -> Result<Self> {
        terminal
            .step(&format!("Produce events and write them to the lake; consumers: {consumers}"));
        let catalog_watch = CatalogWatch::open(&context.catalog_file())?;
        let producer = start_producer(terminal, context, rows)?;
        let numbers = 1..=consumers;
        let consumers = numbers.map(|number| start_consumer(terminal, context, &name(number), ""));
        let consumers = consumers.collect::<Result<_>>()?;
        Ok(Self { terminal, context, catalog_watch, rows: rows.get(), producer, consumers })
    }

    /// Kills and restarts a consumer, waits until every event is in the lake, and stops the
    /// programs. Returns the state of the lake at the kill.
    pub(super) fn complete(mut self) -> Result<LakeState> {
        let rows = self.rows;
        self.wait_for_progress(|state, running| {
            Ok(state.rows >= rows / 3 && running.share_partitions()?)
        })?;
        let killed = self.kill_and_restart()?;
        let last = self.consumers.len() - 1;
        let restarted = Instant::now();
        self.wait_for_progress(|_, running| is_assigned(&running.consumers[last]))?;
        self.print_restart(restarted.elapsed());
        self.wait_for_progress(|_, running| Ok(!running.producer.is_running()?))?;
        let produced = Instant::now();
        self.wait_for_progress(|state, _| Ok(state.rows >= rows))?;
        self.stop(produced.elapsed())?;
        Ok(killed)
    }

    /// Kills a consumer with SIGKILL and restarts it.
    fn kill_and_restart(&mut self) -> Result<LakeState> {
        let mut consumer = self.consumers.pop().context("no consumer to kill")?;
        consumer.kill()?;
        let killed = self.catalog_watch.read()?;
        let number = u8::try_from(self.consumers.len() + 1).context("count consumers")?;
        let name = name(number);
        self.terminal.step(&format!("Kill {name} with SIGKILL, and restart it"));
        self.terminal.print(&format!(
            "killed at snapshot {} with {} rows in the lake;\n{}",
            killed.snapshot_id,
            grouped(killed.rows),
            if killed.rows < self.rows {
                "its uncommitted records will be read again"
            } else {
                "all rows were committed before; use more --rows to kill it earlier"
            }
        ));
        let restarted = start_consumer(self.terminal, self.context, &name, "-restarted")?;
        self.consumers.push(restarted);
        Ok(killed)
    }

    /// Returns whether every consumer has partitions. A static member that is killed while a
    /// rebalance is between its two phases rejoins without another rebalance, and the partitions
    /// that it had just revoked have no owner until the next one.
    fn share_partitions(&self) -> Result<bool> {
        let assigned = self.consumers.iter().map(is_assigned).collect::<Result<Vec<_>>>()?;
        Ok(assigned.into_iter().all(|is_assigned| is_assigned))
    }

    fn print_restart(&mut self, after: Duration) {
        self.terminal.print(&format!(
            "its partitions were assigned again after {:.1} s; it continues at the offsets in the lake",
            after.as_secs_f64()
        ));
    }

    fn stop(&mut self, caught_up: Duration) -> Result<()> {
        let state = self.catalog_watch.read()?;
        self.terminal.print(&format!(
            "all {} rows are in the lake, {:.1} s after the producer ended",
            grouped(state.rows),
            caught_up.as_secs_f64()
        ));
        self.terminal.print("stopping the consumers with SIGTERM");
        self.consumers.iter().try_for_each(RunningProgram::terminate)?;
        for consumer in &mut self.consumers {
            consumer.succeed(STOP_TIMEOUT)?;
        }
        Ok(())
    }

    /// Prints progress until a condition holds.
    fn wait_for_progress(
        &mut self,
        is_reached: impl Fn(&LakeState, &mut Self) -> Result<bool>,
    ) -> Result<()> {
        let (mut rows, mut moved) = (0, Instant::now());
        loop {
            let state = self.catalog_watch.read()?;
            if state.rows > rows {
                (rows, moved) = (state.rows, Instant::now());
            }
            self.terminal.progress("events are in the lake", state.rows, self.rows);
            if is_reached(&state, self)? {
                return Ok(());
            }
            self.check(moved.elapsed())?;
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Returns an error when a program has failed, or when there are no new rows.
    fn check(&mut self, stalled: Duration) -> Result<()> {
        if !self.producer.is_running()? {
            self.producer.succeed(Duration::ZERO)?;
        }
        for consumer in &mut self.consumers {
            if !consumer.is_running()? {
                consumer.succeed(Duration::ZERO)?;
                ensure!(false, "a consumer ended unexpectedly");
            }
        }
        let logs = self.context.logs();
        ensure!(stalled < STALL_TIMEOUT, "no new row for {stalled:?}; logs: {}", logs.display());
        Ok(())
    }
}

fn start_producer(
    terminal: &mut Terminal,
    context: &DemoContext,
    rows: NonZeroU64,
) -> Result<RunningProgram> {
    let rate = rows.get().div_ceil(PRODUCE_SECONDS.get()).to_string();
    let interval_micros = EVENTS_SPAN_MICROS / rows;
    let start_time = Timestamp::now() - Duration::from_micros(EVENTS_SPAN_MICROS);
    let arguments = [
        ["--rows", &rows.to_string()],
        ["--partitions", PARTITIONS],
        ["--rate", &rate],
        ["--start-time", &format!("{start_time:.0}")],
        ["--event-interval", &format!("{interval_micros}us")],
        ["--ledger", &context.ledger().display().to_string()],
    ];
    context.start(terminal, "ducktide-producer", arguments.as_flattened(), "producer")
}

/// Starts a consumer as a static member: after a restart it gets its partitions immediately,
/// without waiting for the session timeout.
fn start_consumer(
    terminal: &mut Terminal,
    context: &DemoContext,
    name: &str,
    label_suffix: &str,
) -> Result<RunningProgram> {
    let arguments = ["--partition-by", "event_timestamp", "--group-instance-id", name];
    context.start(terminal, "ducktide-consumer", &arguments, &format!("{name}{label_suffix}"))
}

fn name(number: u8) -> String {
    format!("consumer-{number}")
}

fn is_assigned(consumer: &RunningProgram) -> Result<bool> {
    let assigned = consumer.log()?.lines().any(|line| {
        line.contains(r#""message":"partitions assigned""#) && line.contains(&format!("{TABLE}["))
    });
    Ok(assigned)
}
