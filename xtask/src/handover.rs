//! The verbs that testbed's binary carries out. xtask sets up, builds it, and becomes it.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{layout, setup};

/// A verb of testbed's binary, under the same name there.
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    /// Whether the workers' binaries are built first: the verb starts them.
    starts_workers: bool,
}

pub(crate) const VERBS: &[Verb] = &[Verb {
    name: "services",
    summary: "Starts Kafka, the schema registry and PostgreSQL on free ports, prints the\n             \
              environment variables that point to them, and ends them on Ctrl-C.",
    starts_workers: false,
}];

pub(crate) fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// Does not return when all goes well: testbed's binary takes this process over, so that signals
/// and exit codes are its own.
pub(crate) fn run(verb: &Verb, arguments: &[String]) -> Result<ExitCode> {
    setup::for_build()?;
    setup::for_services()?;
    if verb.starts_workers {
        build_workers()?;
    }
    let failure = Command::new("cargo")
        .args(["run", "--release", "--locked", "--package", "ducktide-testbed"])
        .arg("--manifest-path")
        .arg(layout::root().join("Cargo.toml"))
        .args(["--", verb.name])
        .args(arguments)
        .exec();
    Err(failure).context("start testbed's binary")
}

fn build_workers() -> Result<()> {
    let build = ["build", "--release", "--locked", "--workspace", "--bins"];
    let status = Command::new("cargo").args(build).current_dir(layout::root()).status();
    anyhow::ensure!(status.context("start cargo build")?.success(), "cargo build failed");
    Ok(())
}
