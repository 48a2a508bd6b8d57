//! `cargo xtask bench`: measurements, compared with a baseline on the same machine. Not a test:
//! only a lake that is not exact is an error.

mod chart;
mod commits;
mod compactor;
mod day;
mod drain;
mod drain_target;
mod evolution;
mod latency;
mod measurement;
mod plain_loop;
mod produce;
mod progress;
mod rebalance;
mod report;
mod start;
mod steady;
mod volume;
mod worker_log;

use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand};
use ducktide_testbed::services;

use self::{report::BenchReport, volume::Volume};
use crate::verbs::signals;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Measures one consumer that drains a topic into new lakes in SQLite, compared with a loop
    /// that only polls the topic, or with `--storage s3` object storage compared with a local directory.
    /// Compares each lake with the producer's ledger.
    Drain(drain::DrainArgs),
    /// Measures one producer, with and without a ledger.
    Produce(Volume),
    /// Measures one compactor that merges a backlog of small files, compared with DuckLake's own
    /// merge. Compares the lake's content before and after.
    Compactor(compactor::BacklogArgs),
    /// Fills two lakes with small commits, one of them with a compactor, and reports number of
    /// files and query time during a compressed day.
    Day(day::DayArgs),
    /// Measures the effect of members that join, leave or are killed: longest pause of a partition,
    /// and records that are read twice.
    Rebalance,
    /// Measures four consumers that drain a backlog with twenty versions of a schema, compared with
    /// a backlog of one version.
    Evolution,
    /// Measures the start of programs on small lakes in both catalogs: time to the output of
    /// commands, to the assignment, and to the first commit.
    Start(start::StartArgs),
    /// Measures the commits per second of 1 to 16 workers with one partition each, in lakes in PostgreSQL.
    /// Compares each lake with the producer's ledger.
    Commits(commits::CommitsArgs),
    /// Measures the delay from an event to the snapshot that has it, at constant rates with a flush interval
    /// of 100 ms. Compares each lake with the producer's ledger.
    Latency(latency::LoadArgs),
    /// Measures CPU time, wake-ups and memory of a consumer without records, and at a low rate with a flush
    /// interval of 1 second. Compares each lake with the producer's ledger.
    Idle(latency::LoadArgs),
    /// Polls a topic to its end without processing records; started by `drain`.
    #[command(hide = true)]
    PlainLoop(plain_loop::PlainLoopArgs),
}

/// Runs the benchmark and prints the results.
pub(crate) fn run(args: BenchArgs) -> Result<()> {
    match args.command {
        BenchCommand::Drain(args) => {
            finish(args.volume.json.as_deref(), |folder| drain::measure(&args, folder))
        }
        BenchCommand::Produce(volume) => {
            finish(volume.json.as_deref(), |folder| produce::measure(&volume, folder))
        }
        BenchCommand::Compactor(backlog) => {
            finish(backlog.json.as_deref(), |folder| compactor::measure(&backlog, folder))
        }
        BenchCommand::Day(day) => day::run(&day),
        BenchCommand::Rebalance => rebalance::run(),
        BenchCommand::Evolution => evolution::run(),
        BenchCommand::Start(args) => start::run(&args),
        BenchCommand::Commits(args) => commits::run(&args),
        BenchCommand::Latency(args) => latency::run_latency(&args),
        BenchCommand::Idle(args) => latency::run_idle(&args),
        BenchCommand::PlainLoop(args) => plain_loop::run(&args),
    }
}

/// Runs the benchmark and prints the report; an error when a lake is not exact.
fn finish(json: Option<&Path>, measure: impl FnOnce(&Path) -> Result<BenchReport>) -> Result<()> {
    let folder = services::log_folder()?;
    signals::exit_on_interrupt(format!("interrupted; {} can be removed", folder.display()));
    let report = measure(&folder)?;
    report.print();
    if let Some(file) = json {
        report.write_json(file)?;
    }
    report.require_exactness()
}
