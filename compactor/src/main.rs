//! `ducktide-compactor`: parses, runs, maps to an exit code.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use ducktide_compactor::{Args, CompactorError, Verb, once, run, show_plan};
use ducktide_lake::process::{exit_now, stop_signal};
use ducktide_lake::{failpoint, telemetry};

#[tokio::main(worker_threads = 1)]
async fn main() {
    let args = Args::parse();
    match &args.verb {
        Verb::Plan(_) => telemetry::init_tool().unwrap_or_else(refuse),
        _ => telemetry::init("ducktide-compactor").unwrap_or_else(refuse),
    }
    failpoint::arm().unwrap_or_else(refuse);
    let ended = match args.verb {
        Verb::Run(args) => run(args, stop_signal()).await,
        Verb::Once(args) => once(args, stop_signal()).await,
        Verb::Plan(args) => show_plan(args, &mut std::io::stdout().lock()),
    };
    let exit_code = match ended {
        Ok(()) => 0,
        Err(CompactorError::Config(error)) => refuse(error),
        Err(error) => {
            tracing::error!("{error}");
            error.exit_code()
        }
    };
    // An operation that did not end in time is given up; nothing of it is in the catalog.
    exit_now(exit_code)
}

/// Says what is wrong with a setting the way clap does, and exits with its code, 2.
fn refuse<T>(error: impl std::fmt::Display) -> T {
    Args::command().error(ErrorKind::ValueValidation, error).exit()
}
