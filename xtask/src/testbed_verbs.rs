//! Verbs implemented by the testbed binary: xtask prepares, builds it, and replaces itself with it.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};

use crate::{cargo, layout, setup};

/// A verb of the testbed binary, with the same name there.
pub(crate) struct TestbedVerb {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    /// The verb starts workers, so their binaries are built first.
    starts_workers: bool,
}

pub(crate) const VERBS: &[TestbedVerb] = &[
    TestbedVerb {
        name: "demo",
        summary: "Runs a demonstration: a producer writes to Kafka, consumers write to a lake, one consumer is\n             \
                  killed; then checks for lost and duplicate events and prints some queries.",
        starts_workers: true,
    },
    TestbedVerb {
        name: "bench",
        summary: "Measures throughput: `bench drain` of one consumer, compared with a loop that only polls;\n             \
                  `bench produce` of one producer; `bench commits`: commits per second of several\n             \
                  workers; `bench latency` and `bench idle`: delay of rows and cost of a consumer at\n             \
                  constant rates. Prints a table; `--json FILE` also writes the numbers.",
        starts_workers: true,
    },
    TestbedVerb {
        name: "chaos",
        summary: "Injects faults into consumers and compactor with real services for `--minutes M`: kills,\n             \
                  pauses, outages, lost commit responses, scheduled from `--seed N`, with\n             \
                  `--catalog postgres|sqlite` and `--storage local|s3`. Compares lake and ledger during\n             \
                  the run and at the end.",
        starts_workers: true,
    },
    TestbedVerb {
        name: "services",
        summary: "Starts Kafka, the schema registry and PostgreSQL on free ports, prints the\n             \
                  environment variables for them, and stops them on Ctrl-C.",
        starts_workers: false,
    },
];

pub(crate) fn find(name: &str) -> Option<&'static TestbedVerb> {
    VERBS.iter().find(|verb| verb.name == name)
}

/// Replaces this process with the testbed binary, so that signals and exit codes are its own.
/// Returns only if that fails.
pub(crate) fn run(verb: &TestbedVerb, arguments: &[String]) -> Result<ExitCode> {
    setup::for_build()?;
    setup::for_services()?;
    if arguments.iter().any(|argument| argument == "s3" || argument == "--storage=s3") {
        ensure!(
            setup::for_object_storage()?,
            "install Go for `--storage s3`, which builds versitygw"
        );
    }
    let binary = layout::binary()?.with_file_name(TESTBED);
    build(if verb.starts_workers { WORKSPACE } else { TESTBED_ONLY })?;
    // Not with `cargo run`, which would rebuild with the features of a single package.
    let failure = Command::new(binary).arg(verb.name).args(arguments).exec();
    Err(failure).context("start the testbed binary")
}

/// Name of the testbed binary, which cargo puts next to xtask's.
const TESTBED: &str = "ducktide-testbed";

/// Arguments of a plain `cargo build --release`, so that nothing is built twice, and the examples
/// that the fault injection uses.
const WORKSPACE: &[&str] = &["--workspace", "--lib", "--bins", "--examples"];

/// Builds a single program, but with the features that all packages together request of its
/// dependencies.
const TESTBED_ONLY: &[&str] = &["--workspace", "--bin", TESTBED];

fn build(packages: &[&str]) -> Result<()> {
    let mut cargo = cargo::command(["build", "--release", "--locked"]);
    cargo.args(packages);
    ensure!(cargo.status().context("start cargo build")?.success(), "cargo build failed");
    Ok(())
}
