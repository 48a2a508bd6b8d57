//! `ducktide-consumer`: parses, initialises, runs, maps to an exit code.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use ducktide_consumer::{Args, Config};
use ducktide_lake::telemetry;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let config = Config::try_from(Args::parse()).unwrap_or_else(refuse);
    telemetry::init("ducktide-consumer").unwrap_or_else(refuse);
    match ducktide_consumer::run(config, stop_signal()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            // Threads may still wait for a lake that does not answer; nothing of theirs is needed.
            std::process::exit(i32::from(error.exit_code()))
        }
    }
}

async fn stop_signal() {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be listened to");
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.expect("Ctrl-C can be listened to"),
        _ = terminate.recv() => {}
    }
}

/// Says what is wrong with a setting the way clap does, and exits with its code, 2.
fn refuse<T>(error: impl std::fmt::Display) -> T {
    Args::command().error(ErrorKind::ValueValidation, error).exit()
}
