//! `ducktide-consumer`: parses, initialises, runs, maps to an exit code.

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
    // Questions to a cluster or lake that does not answer may still be under way; nobody needs the
    // answers, so they are not waited for.
    exit_now(exit_code)
}

/// Says what is wrong with a setting the way clap does, and exits with its code, 2.
fn refuse<T>(error: impl std::fmt::Display) -> T {
    Args::command().error(ErrorKind::ValueValidation, error).exit()
}
