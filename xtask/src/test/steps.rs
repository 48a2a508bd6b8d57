//! The steps of `cargo xtask test`.

use std::{
    process::{Command, Stdio},
    slice,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    cargo_test::{self, TestCounts},
    fuzz,
    nextest::{self, TestSelection},
    outcome::StepOutcome,
    services::Services,
    words,
};
use crate::{
    cargo,
    compose::{self as local_stack, StackTestResult},
    deploy as manifests_and_units, dist, docs as pages, documents, layout, machine, process, setup,
};

/// A check.
pub(super) struct TestStep {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// The step uses the tools of [`crate::artifacts::FOR_CHECKS`].
    pub(super) needs_tools: bool,
    /// The step uses Kafka, registry, PostgreSQL and the DuckDB command line, and the result of the
    /// step `build`.
    pub(super) needs_services: bool,
    pub(super) run: fn() -> Result<StepOutcome>,
}

pub(super) const STEPS: &[TestStep] = &[
    TestStep::plain("format", "the code is formatted", format),
    TestStep::with_tools("spelling", "no known misspelling", spelling),
    TestStep::plain("words", "doc summaries and vocabulary follow the style", words::run),
    TestStep::plain("documents", "links and commands of the pages are valid", documents),
    TestStep::plain("build", "all programs, tests and examples compile", build),
    TestStep::with_tools("licences", "licences, sources and versions of dependencies", licences),
    TestStep::with_tools("advisories", "no dependency has a known vulnerability", advisories),
    TestStep::with_tools("unused", "no dependency is unused", unused),
    TestStep::plain("clippy", "the lints of the workspace", clippy),
    TestStep::plain("rustdoc", "the documentation builds without broken links", rustdoc),
    TestStep::plain("unit", "tests without services", unit),
    TestStep::plain("docs", "the generated pages are up to date", docs),
    TestStep::plain("deploy", "Kubernetes manifests and systemd units are valid", deploy),
    TestStep::plain("fuzz", "the decoder handles random input for a minute", fuzz::run),
    TestStep {
        name: "monitoring",
        title: "alerts, dashboard and exported metrics, checked by promtool",
        needs_tools: false,
        needs_services: true,
        run: monitoring,
    },
    TestStep {
        name: "object-storage",
        title: "a lake in object storage",
        needs_tools: false,
        needs_services: true,
        run: object_storage,
    },
    TestStep {
        name: "other-stores",
        title: "a lake in the object stores of Azure and Google Cloud",
        needs_tools: false,
        needs_services: true,
        run: other_stores,
    },
    TestStep {
        name: "package",
        title: "the archive of `cargo xtask dist`, unpacked into an empty root without network",
        needs_tools: false,
        needs_services: true,
        run: package,
    },
    TestStep {
        name: "end-to-end",
        title: "tests with real services: all tests marked #[ignore] except those of other steps",
        needs_tools: false,
        needs_services: true,
        run: || end_to_end(TestSelection::All),
    },
    TestStep {
        name: "compose",
        title: "the local stack in containers: start, scale, fail, query, remove",
        needs_tools: false,
        needs_services: true,
        run: compose,
    },
];

impl TestStep {
    const fn plain(
        name: &'static str,
        title: &'static str,
        run: fn() -> Result<StepOutcome>,
    ) -> Self {
        Self { name, title, needs_tools: false, needs_services: false, run }
    }

    const fn with_tools(
        name: &'static str,
        title: &'static str,
        run: fn() -> Result<StepOutcome>,
    ) -> Self {
        Self { name, title, needs_tools: true, needs_services: false, run }
    }
}

fn format() -> Result<StepOutcome> {
    run_command(cargo::command(["fmt", "--all", "--check"]))
}

fn spelling() -> Result<StepOutcome> {
    run_command(Command::new(layout::tool("typos")).current_dir(layout::root()))
}

/// Runs offline, so that the result depends on the lock file only; the crates are fetched before.
fn licences() -> Result<StepOutcome> {
    run_command(cargo::command(["fetch", "--locked", "--quiet"]))?;
    run_command(deny().args(["--offline", "--locked", "check", "bans", "licenses", "sources"]))
}

/// Checks the advisory database, a separate repository; skipped if that cannot be fetched.
fn advisories() -> Result<StepOutcome> {
    if !succeeds_within(Duration::from_mins(1), deny().args(["fetch", "db"]))? {
        let reason = "the advisory database cannot be fetched: vulnerabilities were NOT TESTED";
        return Ok(StepOutcome::Skipped(reason.to_owned()));
    }
    run_command(deny().args(["--offline", "--locked", "check", "advisories"]))
}

fn unused() -> Result<StepOutcome> {
    let mut shear = Command::new(layout::tool("cargo-shear"));
    run_command(shear.current_dir(layout::root()).args(["--locked", "--deny-warnings"]))
}

fn clippy() -> Result<StepOutcome> {
    let lint = ["clippy", "--release", "--locked", "--workspace", "--all-targets", "--keep-going"];
    run_command(cargo::command(lint).args(["--", "-D", "warnings"]))
}

fn rustdoc() -> Result<StepOutcome> {
    let doc = ["doc", "--release", "--locked", "--workspace", "--no-deps"];
    run_command(cargo::command(doc).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Number of schedules of the simulation: one to two minutes on one core.
const SIMULATION_SCHEDULES: &str = "30000";

/// First seed of the simulation in a source tree without a git repository.
const SEED_WITHOUT_GIT: u64 = 5_550_000_000;

/// Returns the first seed of the simulation: new ones for each commit, and the same ones for each run of a
/// commit, so that a run fails only for a change of the code. `cargo xtask simulate` takes random seeds.
fn simulation_seed() -> u64 {
    let mut git = Command::new("git");
    git.args(["rev-parse", "HEAD^{tree}"]).current_dir(layout::root());
    let tree = git.output().map(|output| output.stdout).unwrap_or_default();
    let start = str::from_utf8(&tree).ok().and_then(|hash| hash.get(..12));
    start.and_then(|start| u64::from_str_radix(start, 16).ok()).unwrap_or(SEED_WITHOUT_GIT)
}

/// Runs unit and documentation tests. Documentation tests are built outside the target folder,
/// where the relative rpath to the DuckDB library does not work, so the loader gets its path.
#[expect(clippy::print_stdout, reason = "the seed repeats the run")]
fn unit() -> Result<StepOutcome> {
    let seed = simulation_seed();
    println!("simulation: {SIMULATION_SCHEDULES} schedules from seed {seed} on");
    let tests = ["test", "--release", "--locked", "--workspace", "--no-fail-fast"];
    let (succeeded, counts) = cargo_test::run(
        cargo::command(tests)
            .env("LD_LIBRARY_PATH", layout::cache().join("duckdb"))
            .env("DUCKTIDE_SIMULATION_SEED", seed.to_string())
            .env("DUCKTIDE_SIMULATION_SCHEDULES", SIMULATION_SCHEDULES),
    )?;
    // Ignored tests run in the end-to-end step.
    let counts = TestCounts { ignored: 0, ..counts };
    Ok(outcome_of(succeeded, counts, "tests failed"))
}

/// Checks the generated pages. Runs after the tests, which build the examples.
fn docs() -> Result<StepOutcome> {
    pages::check().map(|()| StepOutcome::Ok)
}

fn documents() -> Result<StepOutcome> {
    documents::check().map(|()| StepOutcome::Ok)
}

fn deploy() -> Result<StepOutcome> {
    let untested = manifests_and_units::check()?;
    Ok(if untested.is_empty() {
        StepOutcome::Ok
    } else {
        StepOutcome::PartlyTested(untested.join("; "))
    })
}

fn build() -> Result<StepOutcome> {
    nextest::build().map(|()| StepOutcome::Ok)
}

/// Runs the end-to-end tests of `monitoring::promtool`.
fn monitoring() -> Result<StepOutcome> {
    if !setup::for_monitoring()? {
        let reason = "neither promtool nor Go (to build it) is on PATH: \
                   alerts, dashboard and metrics were NOT checked";
        return Ok(StepOutcome::Skipped(reason.to_owned()));
    }
    on_real_services(TestSelection::Monitoring)
}

/// Runs the end-to-end tests of `object_storage`, except those of [`other_stores`].
fn object_storage() -> Result<StepOutcome> {
    if !setup::for_object_storage()? {
        let reason = "Go (to build versitygw) is not on PATH: object storage was NOT TESTED";
        return Ok(StepOutcome::Skipped(reason.to_owned()));
    }
    on_real_services(TestSelection::ObjectStorage)
}

/// Runs the end-to-end tests of Azure and Google Cloud Storage.
fn other_stores() -> Result<StepOutcome> {
    if !setup::for_object_storage()? {
        let reason = "Go (to build versitygw) is not on PATH: Azure and Google were NOT TESTED";
        return Ok(StepOutcome::Skipped(reason.to_owned()));
    }
    if !setup::for_azure()? {
        let reason = "npm (to install Azurite) is not on PATH: Azure and Google were NOT TESTED";
        return Ok(StepOutcome::Skipped(reason.to_owned()));
    }
    on_real_services(TestSelection::OtherStores)
}

/// Makes the archive and runs the end-to-end tests of `package`; skipped if a program cannot be isolated
/// from this machine.
fn package() -> Result<StepOutcome> {
    let isolated = ["--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "true"];
    if !machine::is_root() || !process::succeeds(Command::new("unshare").args(isolated)) {
        let reason = "namespaces and another root folder need root: the archive was NOT TESTED";
        return Ok(StepOutcome::Skipped(reason.to_owned()));
    }
    dist::of_built_programs()?;
    on_real_services(TestSelection::Package)
}

pub(super) fn end_to_end(selection: TestSelection) -> Result<StepOutcome> {
    on_real_services(selection)
}

fn on_real_services(selection: TestSelection) -> Result<StepOutcome> {
    let services = Services::start()?;
    let (succeeded, counts) = nextest::run(selection, slice::from_ref(&services.variable))?;
    if counts.passed + counts.failed == 0 {
        return Ok(StepOutcome::Failed("no test with real services ran".to_owned()));
    }
    Ok(outcome_of(succeeded, counts, "tests failed"))
}

/// Tests the local stack; skipped if no Docker engine is available.
fn compose() -> Result<StepOutcome> {
    Ok(match local_stack::run(local_stack::StackOptions::AFTER_BUILD)? {
        StackTestResult::Passed(not_tested) if not_tested.is_empty() => StepOutcome::Ok,
        StackTestResult::Passed(not_tested) => StepOutcome::PartlyTested(not_tested.join("; ")),
        StackTestResult::Skipped(reason) => {
            StepOutcome::Skipped(format!("{reason}: the local stack was NOT TESTED"))
        }
    })
}

fn outcome_of(succeeded: bool, counts: TestCounts, reason: &str) -> StepOutcome {
    if succeeded {
        StepOutcome::Counted(counts)
    } else {
        StepOutcome::FailedTests(reason.to_owned(), counts)
    }
}

fn deny() -> Command {
    let mut command = Command::new(layout::tool("cargo-deny"));
    command.current_dir(layout::root());
    command
}

fn run_command(command: impl std::borrow::BorrowMut<Command>) -> Result<StepOutcome> {
    let mut command = command;
    let command: &mut Command = command.borrow_mut();
    let program = command.get_program().display().to_string();
    let status = command.status().with_context(|| format!("start {program}"))?;
    anyhow::ensure!(status.success(), "{program} ended with {status}");
    Ok(StepOutcome::Ok)
}

/// Runs a command; returns whether it succeeded in time. A command that hangs is killed.
fn succeeds_within(limit: Duration, command: &mut Command) -> Result<bool> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start")?;
    let started = Instant::now();
    while started.elapsed() < limit {
        if let Some(status) = child.try_wait().context("wait")? {
            return Ok(status.success());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().context("kill")?;
    child.wait().context("wait")?;
    Ok(false)
}
