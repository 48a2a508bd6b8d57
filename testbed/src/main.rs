//! Commands of `cargo xtask` that need real services.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

mod verbs;

/// Commands of `cargo xtask` that need real services.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Starts Kafka, the schema registry and PostgreSQL on free ports, prints the environment
    /// variables that point to them, and stops them on Ctrl-C.
    Services {
        /// Folder for the logs of the services. Default: a new folder in .ducktide/logs.
        #[arg(long, value_name = "DIR")]
        logs: Option<PathBuf>,
    },
    /// Runs a demonstration: a producer writes to Kafka, consumers write to a lake, one consumer is
    /// killed; then the lake is compared with the producer's ledger and queried.
    Demo(verbs::demo::DemoArgs),
    /// Measures throughput, latency and memory; prints a table.
    Bench(verbs::bench::BenchArgs),
    /// Injects faults by a seeded schedule, and compares the lake with the producer's ledger.
    Chaos(verbs::chaos::ChaosArgs),
}

#[expect(clippy::print_stderr, reason = "prints the error of a failed command")]
fn main() -> ExitCode {
    let result = match Args::parse().verb {
        Verb::Services { logs } => verbs::services::run(logs),
        Verb::Demo(args) => verbs::demo::run(args),
        Verb::Bench(args) => verbs::bench::run(args),
        Verb::Chaos(args) => verbs::chaos::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
