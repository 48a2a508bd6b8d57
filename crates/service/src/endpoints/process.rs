//! Metrics of every worker: Prometheus' standard metrics of a process, its version and readiness.

use std::fmt;
use std::fs;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::Readiness;

/// Unit of times in `/proc` (`USER_HZ`), the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    program: &'static str,
    version: &'static str,
}

/// Collector of the metrics at each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    build: BuildLabels,
    readiness: Readiness,
    started: Timestamp,
}

impl ProcessCollector {
    /// Creates the collector; call it at the start of the program.
    pub(super) fn new(program: &'static str, readiness: Readiness) -> Self {
        let build = BuildLabels { program, version: env!("CARGO_PKG_VERSION") };
        Self { build, readiness, started: Timestamp::now() }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name, help, unit: Option<&Unit>, value: f64| {
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
        let started = self.started.as_millisecond() as f64 / 1e3;
        let ready = f64::from(u8::from(self.readiness.reason().is_none()));
        gauge(
            "process_start_time",
            "When the process started, since 1970.",
            Some(&Unit::Seconds),
            started,
        )?;
        gauge(
            "ducktide_ready",
            "1 if /readyz says that the worker could do its work now.",
            None,
            ready,
        )?;
        if let Some(bytes) = resident_memory() {
            gauge("process_resident_memory", "Resident memory.", Some(&Unit::Bytes), bytes)?;
        }
        let help = "Processor time, of user and system.";
        let unit = Some(&Unit::Seconds);
        if let Some(seconds) = processor_seconds() {
            let metric =
                encoder.encode_descriptor("process_cpu", help, unit, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        let help = "1, with the program and its version.";
        let kind = MetricType::Gauge;
        let mut metric = encoder.encode_descriptor("ducktide_build_info", help, None, kind)?;
        ConstGauge::new(1).encode(metric.encode_family(&self.build)?)
    }
}

/// Returns the resident memory in bytes; None without `/proc`.
fn resident_memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// Returns the used processor time in seconds; None without `/proc`.
fn processor_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, in parentheses, can hold any character; fields are counted after it.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_its_processor() {
        assert!(resident_memory().unwrap() > 1e5);
        let before = processor_seconds().unwrap();
        while processor_seconds().unwrap() < before + 0.02 {}
    }

    #[test]
    fn a_worker_that_starts_is_not_ready() {
        let readiness = Readiness::starting();
        let registry = super::super::registry("test", &readiness);
        assert!(super::super::open_metrics(&registry).contains("ducktide_ready 0.0\n"));

        readiness.set(Ok(()));

        assert!(super::super::open_metrics(&registry).contains("ducktide_ready 1.0\n"));
    }
}
