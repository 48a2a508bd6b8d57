//! `ducktide-producer`: parses the command line, runs, and maps the result to an exit code.

use std::io::{self, BufWriter};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use ducktide_producer::{Args, Config, ProducerError, preview};
use ducktide_service::process::stop_signal;
use ducktide_service::telemetry;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::try_from(Args::parse()).unwrap_or_else(exit_with_usage_error);
    telemetry::init("ducktide-producer").unwrap_or_else(exit_with_usage_error);
    match run(config).await {
        Ok(exit_code) => ExitCode::from(exit_code),
        Err(error) => {
            let exit_code = error.exit_code();
            tracing::error!("{:#}", anyhow::Error::new(error));
            ExitCode::from(exit_code)
        }
    }
}

async fn run(config: Config) -> Result<u8, ProducerError> {
    if config.dry_run {
        let mut out = BufWriter::new(io::stdout().lock());
        return preview::print(&config, &mut out).map(|()| 0).map_err(ProducerError::Print);
    }
    Ok(ducktide_producer::run(config, stop_signal()).await?.exit_code())
}

/// Reports an invalid setting in clap's format and exits with its code, 2.
fn exit_with_usage_error<T>(error: impl std::fmt::Display) -> T {
    Args::command().error(ErrorKind::ValueValidation, error).exit()
}
