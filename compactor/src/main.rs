//! `ducktide-compactor`: parses the command line, runs, and maps the result to an exit code.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use ducktide_compactor::{Args, CompactorError, Verb, once, run, show_plan};
use ducktide_protocol::failpoint;
use ducktide_service::process::{exit_now, stop_signal};
use ducktide_service::telemetry;

#[tokio::main(worker_threads = 1)]
async fn main() {
    let args = Args::parse();
    match &args.verb {
        Verb::Plan(_) => telemetry::init_tool().unwrap_or_else(exit_with_usage_error),
        _ => telemetry::init("ducktide-compactor").unwrap_or_else(exit_with_usage_error),
    }
    failpoint::arm().unwrap_or_else(exit_with_usage_error);
    let ended = match args.verb {
        Verb::Run(args) => run(args, stop_signal()).await,
        Verb::Once(args) => once(args, stop_signal()).await,
        Verb::Plan(args) => show_plan(args, &mut std::io::stdout().lock()),
    };
    let exit_code = match ended {
        Ok(()) => 0,
        Err(CompactorError::Config(error)) => exit_with_usage_error(error),
        Err(error) => {
            tracing::error!("{error}");
            error.exit_code()
        }
    };
    // An operation that did not finish in time is abandoned; the catalog has none of its changes.
    exit_now(exit_code)
}

/// Reports an invalid setting in clap's format and exits with its code, 2.
fn exit_with_usage_error<T>(error: impl std::fmt::Display) -> T {
    Args::command().error(ErrorKind::ValueValidation, error).exit()
}
