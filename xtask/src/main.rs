//! Sets up the workspace and runs its verbs: `cargo xtask VERB`.
//!
//! Has no native dependencies and no other crate of the workspace, so that it builds on a machine
//! with only the Rust toolchain; [`setup`] installs everything else.

mod archive;
mod artifacts;
mod cargo;
mod compose;
mod debian_package;
mod deploy;
mod dist;
mod docs;
mod documents;
mod download;
mod help;
mod layout;
mod machine;
mod pins;
mod process;
mod setup;
mod simulate;
mod test;
mod testbed_verbs;

use std::process::ExitCode;

use anyhow::{Result, bail};

#[expect(clippy::print_stderr, reason = "the error of a failed verb is printed here")]
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
    if let Some(handed) = testbed_verbs::find(verb) {
        return testbed_verbs::run(handed, rest);
    }
    if arguments.iter().any(|word| matches!(word.as_str(), "help" | "--help" | "-h")) {
        return Ok(help());
    }
    match verb.as_str() {
        "setup" => setup::verb(rest),
        "test" => test::verb(rest),
        "docs" => docs::verb(rest),
        "dist" => dist::verb(rest),
        "simulate" => simulate::verb(rest),
        "compose-test" => compose::verb(rest),
        verb => bail!("unknown verb `{verb}`; `cargo xtask --help` lists them"),
    }
}

fn help() -> ExitCode {
    help::print();
    ExitCode::SUCCESS
}
