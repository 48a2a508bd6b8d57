//! The verbs of `cargo xtask` that need the real parts.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

mod verbs;

/// The verbs of `cargo xtask` that need the real parts.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Starts Kafka, the schema registry and PostgreSQL on free ports, prints the environment
    /// variables that point to them, and ends them on Ctrl-C.
    Services {
        /// Where the services' logs go; by default a fresh folder below .ducktide/logs.
        #[arg(long, value_name = "DIR")]
        logs: Option<PathBuf>,
    },
    /// Moves events from a producer through Kafka into a lake, kills a consumer on the way, proves
    /// that nothing was lost or doubled, and asks the lake some questions.
    Demo(verbs::demo::DemoArgs),
    /// Measures producer or consumer; prints a table.
    Bench(verbs::bench::BenchArgs),
    /// Attacks the pipeline by a seeded schedule of kills, pauses and outages, and compares lake and
    /// ledger.
    Chaos(verbs::chaos::ChaosArgs),
}

#[expect(clippy::print_stderr, reason = "the one place where a failed verb says why")]
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
