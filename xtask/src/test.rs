//! `cargo xtask test`: runs all checks and prints a summary.
//!
//! A failed step does not stop later steps, so that one run reports all failures. The full run
//! builds first. Then the end-to-end tests, which mostly wait, run concurrently with the CPU-bound
//! checks and with the local stack, each in a process with its own log.

mod cargo_test;
mod fuzz;
mod lane;
mod nextest;
mod outcome;
mod services;
mod steps;
mod summary;
mod words;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use self::{
    lane::{BUILT_ARGUMENT, Lane},
    nextest::TestSelection,
    outcome::StepOutcome,
    steps::{STEPS, TestStep},
    summary::{StepResult, TestSummary},
};
use crate::setup;

/// First step of the full run: nothing is tested if the build fails.
const BUILD_STEP: &str = "build";

/// Lanes that run concurrently with the end-to-end tests.
const LANES: &[Lane] = &[
    Lane {
        name: "checks",
        is_nice: true,
        steps: &[
            "format",
            "spelling",
            "words",
            "documents",
            "clippy",
            "rustdoc",
            "unit",
            "docs",
            "deploy",
            "licences",
            "advisories",
            "unused",
            "fuzz",
        ],
    },
    Lane {
        name: "stack",
        is_nice: false,
        steps: &["monitoring", "object-storage", "other-stores", "package", "compose"],
    },
];

/// Lanes of `--fast`, which takes a few minutes, for the development loop.
const FAST_LANES: &[Lane] = &[Lane {
    name: "checks",
    is_nice: true,
    steps: &["format", "spelling", "words", "documents", "clippy", "unit"],
}];

/// `cargo xtask test [--fast | --list | STEP...]`.
pub(crate) fn verb(arguments: &[String]) -> Result<ExitCode> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let summary = match arguments[..] {
        ["--list"] => {
            list();
            return Ok(ExitCode::SUCCESS);
        }
        [] => run_concurrently(LANES, TestSelection::All)?,
        ["--fast"] => run_concurrently(FAST_LANES, TestSelection::OnePerArea)?,
        [BUILT_ARGUMENT, ref steps @ ..] => run_sequentially(&selected(steps)?)?,
        ref steps => run_sequentially(&with_build(&selected(steps)?))?,
    };
    summary.print();
    Ok(if summary.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn selected(names: &[&str]) -> Result<Vec<&'static TestStep>> {
    if let Some(unknown) = names.iter().find(|name| !STEPS.iter().any(|s| s.name == **name)) {
        bail!("unknown step `{unknown}`; `cargo xtask test --list` lists them");
    }
    Ok(STEPS.iter().filter(|step| names.contains(&step.name)).collect())
}

/// Adds the build if a step needs services, because those tests run built programs.
fn with_build(selected: &[&'static TestStep]) -> Vec<&'static TestStep> {
    let is_needed = selected.iter().any(|step| step.needs_services);
    let is_selected = |step: &TestStep| selected.iter().any(|selected| selected.name == step.name);
    STEPS.iter().filter(|step| is_selected(step) || is_needed && step.name == "build").collect()
}

fn run_sequentially(steps: &[&'static TestStep]) -> Result<TestSummary> {
    setup::for_build()?;
    if steps.iter().any(|step| step.needs_services) {
        setup::for_tests()?;
    }
    if steps.iter().any(|step| step.needs_tools) {
        setup::for_checks()?;
    }
    Ok(steps.iter().map(|step| run(step)).collect())
}

/// Builds, then runs the end-to-end tests concurrently with the lanes.
fn run_concurrently(lanes: &'static [Lane], selection: TestSelection) -> Result<TestSummary> {
    setup::for_tests()?;
    let mut summary = run_sequentially(&selected(&[BUILD_STEP])?)?;
    if summary.has_failures() {
        return Ok(summary);
    }
    let lanes = lanes.iter().map(Lane::start).collect::<Result<Vec<_>>>()?;
    summary.add(run_as("end-to-end", || steps::end_to_end(selection)));
    for lane in lanes {
        summary.extend(lane.finish()?);
    }
    Ok(summary)
}

fn run(step: &'static TestStep) -> StepResult {
    headline(step);
    run_as(step.name, step.run)
}

fn run_as(name: &'static str, step: impl FnOnce() -> Result<StepOutcome>) -> StepResult {
    let started = Instant::now();
    let outcome = step().unwrap_or_else(|error| StepOutcome::Failed(format!("{error:#}")));
    StepResult::new(name, &outcome, started.elapsed())
}

#[expect(clippy::print_stdout, reason = "headlines between the steps' own output")]
fn headline(step: &TestStep) {
    println!("\n=== {}: {}", step.name, step.title);
}

#[expect(clippy::print_stdout, reason = "the list is printed")]
fn list() {
    for step in STEPS {
        println!("{:<14} {}", step.name, step.title);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_run_has_every_other_step_once() {
        let lanes = LANES.iter().flat_map(|lane| lane.steps);
        let others = [BUILD_STEP, "end-to-end"];
        let mut run: Vec<_> = lanes.chain(&others).collect();
        let mut all: Vec<_> = STEPS.iter().map(|step| &step.name).collect();
        run.sort();
        all.sort();
        assert_eq!(run, all);
    }

    #[test]
    fn steps_of_lanes_exist() {
        for lane in LANES.iter().chain(FAST_LANES) {
            assert_eq!(selected(lane.steps).unwrap().len(), lane.steps.len(), "{}", lane.name);
        }
    }
}
