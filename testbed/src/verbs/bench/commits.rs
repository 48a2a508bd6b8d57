//! Commits per second of several workers, each with one partition and a commit each 50 ms.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;
use ducktide_testbed::{
    catalog::{Catalog, CatalogKind},
    pipeline::{Pipeline, WAIT_TIMEOUT},
    services::shared_kafka,
    wait,
    worker::Worker,
};

use super::{measurement::median, progress::log_progress, worker_log};

/// Arguments of `bench commits`.
#[derive(Debug, Args)]
pub(super) struct CommitsArgs {
    /// Numbers of workers, each measured in a lake of its own.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,4,8,16")]
    workers: Vec<u16>,

    /// Seconds of each measurement.
    #[arg(long, value_name = "SECONDS", default_value = "15")]
    seconds: u64,

    /// Flush interval of the workers: the time between two commits of one, unless a commit takes longer.
    #[arg(long, value_name = "DURATION", default_value = "50ms")]
    flush_interval: String,

    /// Also measure lakes with a SQLite catalog.
    #[arg(long)]
    sqlite: bool,
}

/// Records per second and worker: a few in each commit.
const RATE: u32 = 100;

/// Result of one measurement.
struct CommitRate {
    per_second: f64,
    median_ms: f64,
    p99_ms: f64,
    /// CPU time of a worker per commit, with everything else that it does meanwhile.
    cpu_ms: f64,
}

/// Measures each number of workers once, and prints a table.
#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(super) fn run(args: &CommitsArgs) -> Result<()> {
    let mut table = "| catalog | workers | commits/s | commit p50 | p99 | CPU per commit |\n\
                     |:--|--:|--:|--:|--:|--:|\n"
        .to_owned();
    let catalogs = [(CatalogKind::Postgres, true), (CatalogKind::Sqlite, args.sqlite)];
    for kind in catalogs.into_iter().filter_map(|(kind, measured)| measured.then_some(kind)) {
        for &workers in &args.workers {
            let rate = measure(kind, workers, args)?;
            let row = format!(
                "| {kind:?} | {workers} | {:.0} | {:.0} ms | {:.0} ms | {:.1} ms |\n",
                rate.per_second, rate.median_ms, rate.p99_ms, rate.cpu_ms
            );
            log_progress(row.trim_end());
            table.push_str(&row);
        }
    }
    println!("\n{table}");
    Ok(())
}

fn measure(kind: CatalogKind, workers: u16, args: &CommitsArgs) -> Result<CommitRate> {
    let time = Duration::from_secs(args.seconds);
    let pipeline = Pipeline::on_shared_services("commits", kind)?;
    shared_kafka().create_topic(&pipeline.topic, workers.into(), &[])?;
    let rate = (RATE * u32::from(workers)).to_string();
    let mut producer = pipeline.start_producer(&["--continuous", "--rate", &rate])?;
    let flush = ["--flush-interval", &args.flush_interval];
    let start = |worker| pipeline.start_consumer(&format!("worker-{worker}"), &flush);
    let mut members = (0..workers).map(start).collect::<Result<Vec<Worker>>>()?;
    let is_shared = || members.iter().map(assigned).collect::<Result<Vec<_>>>();
    wait::until("each worker has one partition", WAIT_TIMEOUT, || {
        Ok(is_shared()?.iter().all(|partitions| (partitions - 1.0).abs() < f64::EPSILON))
    })?;
    let mut catalog = pipeline.catalog()?;
    let (before, cpu) = (commits(&mut catalog)?, cpu_time(&mut members));
    thread::sleep(time);
    let committed = commits(&mut catalog)? - before;
    let cpu = cpu_time(&mut members).saturating_sub(cpu);
    let published = pipeline.stop_producer(&mut producer)?;
    pipeline.await_committed(published)?;
    for worker in &mut members {
        worker.stop()?;
    }
    pipeline.check_exact(published)?;
    let mut durations = Vec::new();
    for worker in &mut members {
        let log = worker.process().log()?;
        durations.extend(worker_log::numbers(&log, "batch committed", "elapsed_ms"));
    }
    durations.sort_by(f64::total_cmp);
    let p99 = durations.get(durations.len() * 99 / 100).copied();
    let committed = f64::from(u32::try_from(committed).context("count the commits")?);
    Ok(CommitRate {
        per_second: committed / time.as_secs_f64(),
        median_ms: median(durations).context("find commits in the logs")?,
        p99_ms: p99.context("find commits in the logs")?,
        cpu_ms: cpu.as_secs_f64() * 1e3 / committed,
    })
}

fn assigned(worker: &Worker) -> Result<f64> {
    worker.metric("assigned_partitions")
}

/// Returns the number of snapshots that workers have committed.
fn commits(catalog: &mut Catalog) -> Result<i64> {
    catalog.number("SELECT count(DISTINCT snapshot_id) FROM ducktide_ledger WHERE kind = 'ingest'")
}

fn cpu_time(workers: &mut [Worker]) -> Duration {
    workers.iter_mut().map(|worker| worker.process().usage().cpu).sum()
}
