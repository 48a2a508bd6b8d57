//! `ducktide`: parses the command line, runs the command, returns its exit code.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use ducktide::{Args, run};
use ducktide_protocol::failpoint;
use ducktide_service::telemetry;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Err(error) = telemetry::init_tool() {
        Args::command().error(ErrorKind::ValueValidation, error).exit();
    }
    if let Err(error) = failpoint::arm() {
        Args::command().error(ErrorKind::ValueValidation, error).exit();
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.exit_code())
        }
    }
}
