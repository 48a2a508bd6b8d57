//! The steps of `cargo xtask test`.

use std::{
    process::{Command, Stdio},
    slice,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    Outcome,
    cargo_test::{self, Counts},
    fuzz,
    nextest::{self, Selection},
    services::Services,
};
use crate::{
    cargo,
    compose::{self as local_stack, Verdict},
    docs as pages, documents, layout, setup,
};

/// One check.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Whether the tools of [`crate::parts::FOR_CHECKS`] are used.
    pub(super) needs_tools: bool,
    /// Whether Kafka, registry, PostgreSQL and the DuckDB command line are used, and all that the
    /// step `build` makes.
    pub(super) needs_services: bool,
    pub(super) run: fn() -> Result<Outcome>,
}

pub(super) const STEPS: &[Step] = &[
    Step::plain("format", "the code is formatted", format),
    Step::with_tools("spelling", "no known misspelling", spelling),
    Step::plain(
        "documents",
        "links of the pages hold, and their commands have these flags",
        documents,
    ),
    Step::plain("build", "all programs, tests and examples compile", build),
    Step::with_tools("licences", "licences, sources and versions of dependencies", licences),
    Step::with_tools("advisories", "no dependency has a known vulnerability", advisories),
    Step::with_tools("unused", "no dependency is unused", unused),
    Step::plain("clippy", "the lints of the workspace", clippy),
    Step::plain("rustdoc", "the documentation builds, links hold", rustdoc),
    Step::plain("unit", "tests that need nothing but the build", unit),
    Step::plain("docs", "the pages that are made from the code are up to date", docs),
    Step::plain("fuzz", "the decoder meets bytes that nobody meant, for a minute", fuzz::run),
    Step {
        name: "monitoring",
        title: "alerts, dashboard and what real workers export, judged by promtool",
        needs_tools: false,
        needs_services: true,
        run: monitoring,
    },
    Step {
        name: "end-to-end",
        title: "tests on real services: all that are marked #[ignore], but those of `monitoring`",
        needs_tools: false,
        needs_services: true,
        run: || end_to_end(Selection::All),
    },
    Step {
        name: "compose",
        title: "the local stack in containers: run, scaled, broken, queried, taken down",
        needs_tools: false,
        needs_services: true,
        run: compose,
    },
];

impl Step {
    const fn plain(name: &'static str, title: &'static str, run: fn() -> Result<Outcome>) -> Self {
        Self { name, title, needs_tools: false, needs_services: false, run }
    }

    const fn with_tools(
        name: &'static str,
        title: &'static str,
        run: fn() -> Result<Outcome>,
    ) -> Self {
        Self { name, title, needs_tools: true, needs_services: false, run }
    }
}

fn format() -> Result<Outcome> {
    succeed(cargo::command(["fmt", "--all", "--check"]))
}

fn spelling() -> Result<Outcome> {
    succeed(Command::new(layout::tool("typos")).current_dir(layout::root()))
}

/// Offline, so that the answer depends on the lock file alone; the crates are fetched before.
fn licences() -> Result<Outcome> {
    succeed(cargo::command(["fetch", "--locked", "--quiet"]))?;
    succeed(deny().args(["--offline", "--locked", "check", "bans", "licenses", "sources"]))
}

/// The advisory database is a repository of its own; where it cannot be had, this is not checked.
fn advisories() -> Result<Outcome> {
    if !ends_well_within(Duration::from_mins(1), deny().args(["fetch", "db"]))? {
        let why = "the advisory database cannot be fetched here: vulnerabilities were NOT checked";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    succeed(deny().args(["--offline", "--locked", "check", "advisories"]))
}

fn unused() -> Result<Outcome> {
    let mut shear = Command::new(layout::tool("cargo-shear"));
    succeed(shear.current_dir(layout::root()).args(["--locked", "--deny-warnings"]))
}

fn clippy() -> Result<Outcome> {
    let lint = ["clippy", "--release", "--locked", "--workspace", "--all-targets", "--keep-going"];
    succeed(cargo::command(lint).args(["--", "-D", "warnings"]))
}

fn rustdoc() -> Result<Outcome> {
    let doc = ["doc", "--release", "--locked", "--workspace", "--no-deps"];
    succeed(cargo::command(doc).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Documentation tests are built outside the target folder, where the relative rpath to DuckDB's
/// library does not lead: the loader is told where it is.
fn unit() -> Result<Outcome> {
    let tests = ["test", "--release", "--locked", "--workspace", "--no-fail-fast"];
    let (succeeded, counts) = cargo_test::run(
        cargo::command(tests).env("LD_LIBRARY_PATH", layout::cache().join("duckdb")),
    )?;
    // Ignored here means: left to the end-to-end step.
    let counts = Counts { ignored: 0, ..counts };
    Ok(judge(succeeded, counts, "tests failed"))
}

/// After the tests, which build its example.
fn docs() -> Result<Outcome> {
    pages::check().map(|()| Outcome::Ok)
}

fn documents() -> Result<Outcome> {
    documents::check().map(|()| Outcome::Ok)
}

fn build() -> Result<Outcome> {
    nextest::build().map(|()| Outcome::Ok)
}

/// The end-to-end tests of `monitoring::promtool`.
fn monitoring() -> Result<Outcome> {
    if !setup::for_monitoring()? {
        let why = "neither promtool nor Go, which builds it, is on PATH: \
                   alerts, dashboard and metrics were NOT checked";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    on_real_services(Selection::Monitoring)
}

pub(super) fn end_to_end(selection: Selection) -> Result<Outcome> {
    on_real_services(selection)
}

fn on_real_services(selection: Selection) -> Result<Outcome> {
    let services = Services::start()?;
    let (succeeded, counts) = nextest::run(selection, slice::from_ref(&services.variable))?;
    if counts.passed + counts.failed == 0 {
        return Ok(Outcome::Failed("no test on real services ran".to_owned()));
    }
    Ok(judge(succeeded, counts, "tests failed"))
}

/// Where no Docker engine can be had, this is not checked.
fn compose() -> Result<Outcome> {
    Ok(match local_stack::run(local_stack::Options::AFTER_BUILD)? {
        Verdict::Passed(untried) if untried.is_empty() => Outcome::Ok,
        Verdict::Passed(untried) => Outcome::OkExcept(untried.join("; ")),
        Verdict::Skipped(why) => Outcome::Skipped(format!("{why}: the local stack was NOT tried")),
    })
}

fn judge(succeeded: bool, counts: Counts, why: &str) -> Outcome {
    if succeeded { Outcome::Counted(counts) } else { Outcome::FailedTests(why.to_owned(), counts) }
}

fn deny() -> Command {
    let mut command = Command::new(layout::tool("cargo-deny"));
    command.current_dir(layout::root());
    command
}

fn succeed(command: impl std::borrow::BorrowMut<Command>) -> Result<Outcome> {
    let mut command = command;
    let command: &mut Command = command.borrow_mut();
    let program = command.get_program().display().to_string();
    let status = command.status().with_context(|| format!("start {program}"))?;
    anyhow::ensure!(status.success(), "{program} ended with {status}");
    Ok(Outcome::Ok)
}

/// Whether the command succeeds in time; one that hangs is killed.
fn ends_well_within(limit: Duration, command: &mut Command) -> Result<bool> {
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
