//! `cargo xtask bench`: measurements, compared with a baseline on the same machine. Not a test:
//! only a lake that is not exact is an error.

mod chart;
mod compactor;
mod day;
mod drain;
mod evolution;
mod measurement;
mod plain_loop;
mod produce;
mod rebalance;
mod report;
mod start;
mod worker_log;

use std::{
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
};

use anyhow::Result;
use clap::{Args, Subcommand};
use ducktide_testbed::services;

use self::report::BenchReport;
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
    /// that only polls the topic. Compares each lake with the producer's ledger.
    Drain(Volume),
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
    /// Polls a topic to its end without processing records; started by `drain`.
    #[command(hide = true)]
    PlainLoop(plain_loop::PlainLoopArgs),
}

/// Number of events, partitions and runs.
#[derive(Debug, Args)]
struct Volume {
    /// Number of events in the topic.
    #[arg(long, value_name = "N", default_value = "3000000")]
    rows: NonZeroU64,

    /// Number of runs of each program; the median is reported.
    #[arg(long, value_name = "N", default_value = "5")]
    runs: NonZeroU32,

    /// Number of partitions of the topic.
    #[arg(long, value_name = "N", default_value = "8")]
    partitions: NonZeroU32,

    /// File for the results as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Additional arguments of the measured program, such as `-- --batchers 1`.
    #[arg(last = true, value_name = "ARGUMENT")]
    program_arguments: Vec<String>,
}

/// Runs the benchmark and prints the results.
pub(crate) fn run(args: BenchArgs) -> Result<()> {
    match args.command {
        BenchCommand::Drain(volume) => measure(&volume, drain::measure),
        BenchCommand::Produce(volume) => measure(&volume, produce::measure),
        BenchCommand::Compactor(backlog) => {
            finish(backlog.json.as_deref(), |folder| compactor::measure(&backlog, folder))
        }
        BenchCommand::Day(day) => day::run(&day),
        BenchCommand::Rebalance => rebalance::run(),
        BenchCommand::Evolution => evolution::run(),
        BenchCommand::Start(args) => start::run(&args),
        BenchCommand::PlainLoop(args) => plain_loop::run(&args),
    }
}

fn measure(
    volume: &Volume,
    measure: impl FnOnce(&Volume, &Path) -> Result<BenchReport>,
) -> Result<()> {
    finish(volume.json.as_deref(), |folder| measure(volume, folder))
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

/// Prints progress to standard error; standard output contains only the table.
#[expect(clippy::print_stderr, reason = "progress of a benchmark that takes minutes")]
fn log_progress(text: &str) {
    eprintln!("{text}");
}
