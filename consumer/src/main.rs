//! `ducktide-consumer`: parses the settings, runs the consumer, returns its exit code.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use ducktide_consumer::{Args, Config};
use ducktide_protocol::failpoint;
use ducktide_service::process::{exit_now, stop_signal};
use ducktide_service::telemetry;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let config = Config::try_from(Args::parse()).unwrap_or_else(refuse);
    telemetry::init("ducktide-consumer").unwrap_or_else(refuse);
    failpoint::arm().unwrap_or_else(refuse);
    let exit_code = match ducktide_consumer::run(config, stop_signal()).await {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!("{error}");
            error.exit_code()
        }
    };
    // Queries to an unavailable cluster or lake may be outstanding. Their answers are not needed.
    exit_now(exit_code)
}

/// Prints an error of a setting as clap does, and exits with its code, 2.
fn refuse<T>(error: impl std::fmt::Display) -> T {
    Args::command().error(ErrorKind::ValueValidation, error).exit()
}
