//! Sets the workspace up and runs its verbs: `cargo xtask VERB`.
//!
//! Depends on nothing native and on no other crate of the workspace, so that it builds on a machine
//! that has only the Rust toolchain; whatever else is needed, [`setup`] brings.

mod archive;
mod cargo;
mod compose;
mod docs;
mod documents;
mod download;
mod handover;
mod help;
mod layout;
mod machine;
mod parts;
mod pins;
mod setup;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

#[expect(clippy::print_stderr, reason = "the one place where a failed verb says why")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    layout::binary()?;
    let Some((verb, rest)) = arguments.split_first() else { return Ok(help()) };
    if let Some(handed) = handover::find(verb) {
        return handover::run(handed, rest);
    }
    if arguments.iter().any(|word| matches!(word.as_str(), "help" | "--help" | "-h")) {
        return Ok(help());
    }
    match verb.as_str() {
        "setup" => setup::verb(rest),
        "test" => test::verb(rest),
        "docs" => docs::verb(rest),
        "compose-test" => compose::verb(rest),
        verb => bail!("unknown verb `{verb}`; `cargo xtask --help` lists them"),
    }
}

fn help() -> ExitCode {
    help::print();
    ExitCode::SUCCESS
}
