//! The verbs that testbed's binary carries out. xtask sets up, builds it, and becomes it.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};

use crate::{cargo, layout, setup};

/// A verb of testbed's binary, under the same name there.
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    /// Whether the workers' binaries are built first: the verb starts them.
    starts_workers: bool,
}

pub(crate) const VERBS: &[Verb] = &[
    Verb {
        name: "demo",
        summary: "Events from a producer through Kafka into a lake, a consumer killed on the way, the\n             \
                  proof that nothing was lost or doubled, and some questions to the lake.",
        starts_workers: true,
    },
    Verb {
        name: "bench",
        summary: "Measures: `bench drain` one consumer, beside a loop that only polls; `bench produce`\n             \
                  one producer. Prints a table, and with `--json FILE` writes the numbers.",
        starts_workers: true,
    },
    Verb {
        name: "chaos",
        summary: "Attacks consumers and compactor on real services for `--minutes M`: kills, pauses, outages,\n             \
                  lost answers, by the schedule of `--seed N`, with `--catalog postgres|sqlite`. Compares\n             \
                  lake and ledger meanwhile and at the end.",
        starts_workers: true,
    },
    Verb {
        name: "services",
        summary: "Starts Kafka, the schema registry and PostgreSQL on free ports, prints the\n             \
                  environment variables that point to them, and ends them on Ctrl-C.",
        starts_workers: false,
    },
];

pub(crate) fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// Does not return when all goes well: testbed's binary takes this process over, so that signals
/// and exit codes are its own.
pub(crate) fn run(verb: &Verb, arguments: &[String]) -> Result<ExitCode> {
    setup::for_build()?;
    setup::for_services()?;
    let binary = layout::binary()?.with_file_name(TESTBED);
    build(if verb.starts_workers { WITH_WORKERS } else { ALONE })?;
    // Not by `cargo run`: with other features for one package than for all, it would build again.
    let failure = Command::new(binary).arg(verb.name).args(arguments).exec();
    Err(failure).context("start testbed's binary")
}

/// testbed's binary; cargo puts it beside xtask's.
const TESTBED: &str = "ducktide-testbed";

/// As a plain `cargo build --release` does, so that nothing is built twice; and what the attacks use
/// beside the programs.
const WITH_WORKERS: &[&str] = &["--workspace", "--lib", "--bins", "--examples"];

/// One program, but with the features that all packages together ask of its dependencies.
const ALONE: &[&str] = &["--workspace", "--bin", TESTBED];

fn build(packages: &[&str]) -> Result<()> {
    let mut cargo = cargo::command(["build", "--release", "--locked"]);
    cargo.args(packages);
    ensure!(cargo.status().context("start cargo build")?.success(), "cargo build failed");
    Ok(())
}
