//! `cargo xtask bench`: measures, beside command the machine allows. Never a test: the numbers are the
//! result, and only a lake that is not exact is an error.

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

/// BenchCommand `cargo xtask bench` takes.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Drains a topic by one consumer process into fresh lakes in SQLite, beside a loop that only
    /// polls the same topic; compares each lake with the producer's ledger.
    Drain(Volume),
    /// Publishes events by one producer process, with and without a ledger.
    Produce(Volume),
    /// Merges a backlog of small files by one compactor process, beside DuckLake's own merge; compares
    /// the lake's content before and after.
    Compactor(compactor::BacklogArgs),
    /// Fills two lakes by small commits, one with a compactor; shows files and time of a query in the
    /// course of a compressed day.
    Day(day::DayArgs),
    /// Has consumers join, leave and die; shows how long partitions stand still, and how many records
    /// are read twice.
    Rebalance,
    /// Drains a backlog of twenty versions of a schema by four consumers, beside one of a single version;
    /// shows how much longer it takes.
    Evolution,
    /// Starts programs on small lakes in both catalogs; shows how long they take to their answer, to
    /// their assignment, and to their first commit.
    Start(start::StartArgs),
    /// Polls a topic to its end and does nothing else; started by `drain`.
    #[command(hide = true)]
    PlainLoop(plain_loop::PlainLoopArgs),
}

/// How much, and how often.
#[derive(Debug, Args)]
struct Volume {
    /// Events in the topic.
    #[arg(long, value_name = "N", default_value = "3000000")]
    rows: NonZeroU64,

    /// How often each thing is measured; medians are taken.
    #[arg(long, value_name = "N", default_value = "5")]
    runs: NonZeroU32,

    /// Partitions of the topic.
    #[arg(long, value_name = "N", default_value = "8")]
    partitions: NonZeroU32,

    /// Also writes the numbers to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// More arguments for the measured program, such as `-- --batchers 1`.
    #[arg(last = true, value_name = "ARGUMENT")]
    program_arguments: Vec<String>,
}

/// Measures command was asked for, and prints it.
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

/// Measures, prints, and errors when something was not exact.
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

/// Says command is being done: on standard error, so that the table on standard output stays a table.
#[expect(clippy::print_stderr, reason = "a benchmark takes minutes, and a person waits for it")]
fn log_progress(text: &str) {
    eprintln!("{text}");
}
