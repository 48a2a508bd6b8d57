//! One consumer of a topic that is published at a constant rate.

use std::{fs, thread, time::Duration};

use anyhow::{Context as _, Result};
use ducktide_testbed::{
    catalog::CatalogKind,
    pipeline::{PARTITIONS, Pipeline, TABLE},
    program::RunningProgram,
    services::{shared_kafka, shared_s3},
};
use serde_json::Value;

use super::measurement::median;

/// Time after the start that is not measured.
const WARM_UP: Duration = Duration::from_secs(20);

/// Arguments of the producer: a linger time that is small compared with what is measured, and the default
/// of librdkafka.
const SHORT_LINGER: &[&str] = &["--kafka-property", "linger.ms=5"];

/// Configuration of a measurement.
#[derive(Debug, Clone)]
pub(super) struct SteadyLoad {
    pub(super) kind: CatalogKind,
    /// Records per second; 0 for none.
    pub(super) rate: u32,
    /// Time of the measurement.
    pub(super) time: Duration,
    /// Port of the object store, or of a proxy of it; None for a lake in a local directory.
    pub(super) store: Option<u16>,
    /// Arguments of the consumer.
    pub(super) arguments: Vec<String>,
}

/// Result of a measurement.
#[derive(Debug, Clone, Copy)]
pub(super) struct SteadyResult {
    /// Time from a record's timestamp to the snapshot that has it, milliseconds.
    pub(super) median_ms: f64,
    pub(super) p99_ms: f64,
    /// Cores that the consumer uses.
    pub(super) cores: f64,
    /// Times per second that its threads wait for something.
    pub(super) waits: f64,
    /// Resident memory, MiB.
    pub(super) memory_mib: f64,
    pub(super) commits: f64,
    pub(super) files_per_commit: f64,
}

impl SteadyResult {
    /// Returns the median of each number separately; None without results.
    pub(super) fn median(results: &[Self]) -> Option<Self> {
        let of = |number: fn(&Self) -> f64| median(results.iter().map(number).collect());
        Some(Self {
            median_ms: of(|result| result.median_ms)?,
            p99_ms: of(|result| result.p99_ms)?,
            cores: of(|result| result.cores)?,
            waits: of(|result| result.waits)?,
            memory_mib: of(|result| result.memory_mib)?,
            commits: of(|result| result.commits)?,
            files_per_commit: of(|result| result.files_per_commit)?,
        })
    }
}

impl SteadyLoad {
    /// Measures the load once, in a lake of its own. An error unless the lake has exactly the producer's records.
    pub(super) fn measure(&self) -> Result<SteadyResult> {
        let pipeline = Pipeline::on_shared_services("steady", self.kind)?;
        let pipeline = match self.store {
            Some(port) => pipeline.in_store(shared_s3(), port)?,
            None => pipeline,
        };
        shared_kafka().create_topic(&pipeline.topic, PARTITIONS, &[])?;
        let rate = self.rate.to_string();
        let arguments = [&["--continuous", "--rate", &rate, "--delay", "0"], SHORT_LINGER].concat();
        let mut producer =
            (self.rate > 0).then(|| pipeline.start_producer(&arguments)).transpose()?;
        if producer.is_none() {
            // The consumer waits for a schema.
            pipeline.produce(1, &[])?;
        }
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        let mut consumer = pipeline.start_consumer("consumer", &arguments)?;
        pipeline.await_committed(1)?;
        thread::sleep(WARM_UP);
        let mut catalog = pipeline.catalog()?;
        let first = catalog.newest_snapshot()?;
        let before = ProcessCounters::of(consumer.process())?;
        thread::sleep(self.time);
        let after = ProcessCounters::of(consumer.process())?;
        let last = catalog.newest_snapshot()?;
        if let Some(producer) = &mut producer {
            let published = pipeline.stop_producer(producer)?;
            pipeline.await_committed(published)?;
            consumer.stop()?;
            pipeline.check_exact(published)?;
        }
        let seconds = self.time.as_secs_f64();
        let delays = delays(&pipeline, first, last)?;
        let number = |name: &str| delays.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
        Ok(SteadyResult {
            median_ms: number("p50"),
            p99_ms: number("p99"),
            cores: after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds,
            waits: (after.waits - before.waits) / seconds,
            memory_mib: after.memory_kib / 1024.0,
            commits: number("commits"),
            files_per_commit: number("files") / number("commits"),
        })
    }
}

/// Returns the delays of the records between two snapshots, and the numbers of commits and files.
fn delays(pipeline: &Pipeline, first: i64, last: i64) -> Result<Value> {
    let rows = pipeline.lake()?.query(&format!(
        "WITH delays AS (
             SELECT epoch_us(snapshot_time) / 1e3 - epoch_ms(_kafka_timestamp) AS ms, snapshot_id, filename
             FROM (SELECT snapshot_id, filename, _kafka_timestamp FROM {TABLE}
                   WHERE snapshot_id > {first} AND snapshot_id <= {last}) AS rows
             JOIN lake.snapshots() USING (snapshot_id)
         )
         SELECT quantile_cont(ms, 0.5) AS p50, quantile_cont(ms, 0.99) AS p99,
                count(DISTINCT snapshot_id) AS commits, count(DISTINCT filename) AS files
         FROM delays"
    ))?;
    rows.into_iter().next().context("a query without groups has one row")
}

/// Counters of a process.
struct ProcessCounters {
    cpu: Duration,
    /// Voluntary context switches of all threads.
    waits: f64,
    memory_kib: f64,
}

impl ProcessCounters {
    fn of(process: &mut RunningProgram) -> Result<Self> {
        let folder = format!("/proc/{}", process.id());
        let mut waits = 0.0;
        for thread in fs::read_dir(format!("{folder}/task")).context("list the threads")? {
            // Threads end meanwhile.
            let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
            waits += field(&status, "voluntary_ctxt_switches").unwrap_or_default();
        }
        let status = fs::read_to_string(format!("{folder}/status")).context("read its status")?;
        let memory_kib = field(&status, "VmRSS").context("find its resident memory")?;
        Ok(Self { cpu: process.usage().cpu, waits, memory_kib })
    }
}

/// Returns a number of `/proc/PID/status`.
fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "VmHWM:\t 9 kB\nVmRSS:\t    2048 kB\nnonvoluntary_ctxt_switches:\t7\n\
                      voluntary_ctxt_switches:\t150\n";
        assert_eq!(field(status, "VmRSS"), Some(2048.0));
        assert_eq!(field(status, "voluntary_ctxt_switches"), Some(150.0));
        assert_eq!(field(status, "Threads"), None);
    }
}
