//! Delay from an event to the snapshot in which it can be queried, and cost of a consumer at constant
//! rates.

use std::{num::NonZeroU32, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use ducktide_testbed::{
    catalog::CatalogKind,
    faults::{StoreFault, StoreFaultProxy},
    services::{BucketStore as _, shared_s3},
};

use super::{
    progress::log_progress,
    steady::{SteadyLoad, SteadyResult},
};
use crate::verbs::storage_kind::StorageKind;

/// Arguments of `bench latency` and `bench idle`.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Records per second, each rate measured in a lake of its own.
    #[arg(long, value_name = "PER_SECOND", value_delimiter = ',')]
    rates: Option<Vec<u32>>,

    /// Flush interval of the consumer.
    #[arg(long, value_name = "DURATION")]
    flush_interval: Option<String>,

    /// Seconds of each measurement.
    #[arg(long, value_name = "SECONDS", default_value = "20")]
    seconds: u64,

    /// Number of measurements of each rate; the median is reported.
    #[arg(long, value_name = "N", default_value = "3")]
    runs: NonZeroU32,

    /// Also measure lakes with a SQLite catalog.
    #[arg(long)]
    sqlite: bool,

    /// Storage of the lake's files. `s3` starts versitygw, an object store.
    #[arg(long, value_enum, default_value = "local")]
    storage: StorageKind,

    /// Delay of each answer of the object store, milliseconds; as of a store at a distance.
    #[arg(long, value_name = "MS", default_value = "0")]
    store_delay: u64,

    /// Additional arguments of the consumer, such as `-- --batchers 1`.
    #[arg(last = true, value_name = "ARGUMENT")]
    consumer_arguments: Vec<String>,
}

/// Measures the delay of events, by default with a short interval.
pub(super) fn run_latency(args: &LoadArgs) -> Result<()> {
    args.run(&[2000, 100_000], "100ms")
}

/// Measures the cost of a consumer without and with a few records, by default with the interval of the
/// default settings.
pub(super) fn run_idle(args: &LoadArgs) -> Result<()> {
    args.run(&[0, 2000], "1s")
}

impl LoadArgs {
    #[expect(clippy::print_stdout, reason = "the table is the result")]
    fn run(&self, rates: &[u32], flush_interval: &str) -> Result<()> {
        let interval = self.flush_interval.as_deref().unwrap_or(flush_interval);
        let flush = ["--flush-interval".to_owned(), interval.to_owned()];
        let arguments = [flush.as_slice(), &self.consumer_arguments].concat();
        let store = self.store()?;
        let catalogs = [(CatalogKind::Postgres, true), (CatalogKind::Sqlite, self.sqlite)];
        let mut table = format!(
            "Flush interval {interval}.\n\n\
             | catalog | records/s | p50 | p99 | cores | waits/s | resident | commits | files per commit |\n\
             |:--|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        );
        for kind in catalogs.into_iter().filter_map(|(kind, measured)| measured.then_some(kind)) {
            for &rate in self.rates.as_deref().unwrap_or(rates) {
                let time = Duration::from_secs(self.seconds);
                let arguments = arguments.clone();
                let load = SteadyLoad { kind, rate, time, store, arguments };
                let mut results = Vec::new();
                for _ in 0..self.runs.get() {
                    let result = load.measure()?;
                    log_progress(row(&load, &result).trim_end());
                    results.push(result);
                }
                let median = SteadyResult::median(&results).context("there is at least one run")?;
                table.push_str(&row(&load, &median));
            }
        }
        println!("\n{table}");
        Ok(())
    }
}

impl LoadArgs {
    /// Starts the object store, and a proxy of it if answers are delayed. Returns the port.
    fn store(&self) -> Result<Option<u16>> {
        if self.storage == StorageKind::Local {
            return Ok(None);
        }
        let port = shared_s3().port();
        if self.store_delay == 0 {
            return Ok(Some(port));
        }
        let proxy = StoreFaultProxy::start(port)?;
        proxy.set_fault(StoreFault::Delayed(Duration::from_millis(self.store_delay)));
        Ok(Some(proxy.port()))
    }
}

/// Returns a row of the table.
fn row(load: &SteadyLoad, result: &SteadyResult) -> String {
    let delay = |ms: f64| if ms.is_nan() { "–".to_owned() } else { format!("{ms:.0} ms") };
    let files = result.files_per_commit;
    let files = if files.is_nan() { "–".to_owned() } else { format!("{files:.1}") };
    format!(
        "| {:?} | {} | {} | {} | {:.4} | {:.0} | {:.0} MiB | {:.0} | {files} |\n",
        load.kind,
        load.rate,
        delay(result.median_ms),
        delay(result.p99_ms),
        result.cores,
        result.waits,
        result.memory_mib,
        result.commits,
    )
}
