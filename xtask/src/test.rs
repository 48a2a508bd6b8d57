//! `cargo xtask test`: every check there is, and a summary at the end.
//!
//! A failed step does not stop the later ones: one run shows everything that is wrong. The whole run
//! builds first; then the end-to-end tests, which mostly wait, share the processors with the checks
//! that compute and with the local stack, each of these in a process with a log of its own.

mod cargo_test;
mod fuzz;
mod lane;
mod nextest;
mod services;
mod steps;
mod summary;

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use self::{
    cargo_test::Counts,
    lane::Lane,
    nextest::Selection,
    steps::{STEPS, Step},
    summary::{StepResult, Summary},
};
use crate::setup;

/// How a step ended.
enum Outcome {
    Ok,
    /// Ended well, but could not try all of it; says what.
    OkExcept(String),
    /// Ended well, having run tests.
    Counted(Counts),
    /// Could not be tried; says why.
    Skipped(String),
    Failed(String),
    /// Failed, having run tests.
    FailedTests(String, Counts),
}

/// The step of the whole run that comes first: nothing is tested that does not compile.
const FIRST: &str = "build";

/// What runs next to the end-to-end tests.
const LANES: &[Lane] = &[
    Lane {
        name: "checks",
        is_nice: true,
        steps: &[
            "format",
            "spelling",
            "documents",
            "clippy",
            "rustdoc",
            "unit",
            "docs",
            "licences",
            "advisories",
            "unused",
            "fuzz",
        ],
    },
    Lane { name: "stack", is_nice: false, steps: &["monitoring", "compose"] },
];

/// What answers within minutes, for the inner loop.
const FAST_LANES: &[Lane] = &[Lane {
    name: "checks",
    is_nice: true,
    steps: &["format", "spelling", "documents", "clippy", "unit"],
}];

/// Tells the process of a lane that the step `build` was done before it.
const BUILT: &str = "--built";

/// `cargo xtask test [--fast | --list | STEP...]`.
pub(crate) fn verb(arguments: &[String]) -> Result<ExitCode> {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let summary = match words[..] {
        ["--list"] => {
            list();
            return Ok(ExitCode::SUCCESS);
        }
        [] => run_beside(LANES, Selection::All)?,
        ["--fast"] => run_beside(FAST_LANES, Selection::OnePerArea)?,
        [BUILT, ref steps @ ..] => run_in_turn(&chosen(steps)?)?,
        ref steps => run_in_turn(&with_build(&chosen(steps)?))?,
    };
    summary.print();
    Ok(if summary.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn chosen(names: &[&str]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = names.iter().find(|name| !STEPS.iter().any(|s| s.name == **name)) {
        bail!("unknown step `{unknown}`; `cargo xtask test --list` names them");
    }
    Ok(STEPS.iter().filter(|step| names.contains(&step.name)).collect())
}

/// What runs on real services runs what was built.
fn with_build(chosen: &[&'static Step]) -> Vec<&'static Step> {
    let is_needed = chosen.iter().any(|step| step.needs_services);
    let is_chosen = |step: &Step| chosen.iter().any(|chosen| chosen.name == step.name);
    STEPS.iter().filter(|step| is_chosen(step) || is_needed && step.name == "build").collect()
}

fn run_in_turn(steps: &[&'static Step]) -> Result<Summary> {
    setup::for_build()?;
    if steps.iter().any(|step| step.needs_services) {
        setup::for_tests()?;
    }
    if steps.iter().any(|step| step.needs_tools) {
        setup::for_checks()?;
    }
    Ok(steps.iter().map(|step| run(step)).collect())
}

/// Builds, and then runs the end-to-end tests with the lanes next to them.
fn run_beside(lanes: &'static [Lane], selection: Selection) -> Result<Summary> {
    setup::for_tests()?;
    let mut summary = run_in_turn(&chosen(&[FIRST])?)?;
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

fn run(step: &'static Step) -> StepResult {
    headline(step);
    run_as(step.name, step.run)
}

fn run_as(name: &'static str, step: impl FnOnce() -> Result<Outcome>) -> StepResult {
    let started = Instant::now();
    let outcome = step().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
    StepResult::new(name, &outcome, started.elapsed())
}

#[expect(clippy::print_stdout, reason = "headlines between the steps' own output")]
fn headline(step: &Step) {
    println!("\n=== {}: {}", step.name, step.title);
}

impl Outcome {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::FailedTests(..))
    }

    /// The counts of its tests; a step without tests counts as one, so that a red formatter is not
    /// "0 failed".
    fn counts(&self) -> Counts {
        match self {
            Self::Counted(counts) | Self::FailedTests(_, counts) => *counts,
            Self::Ok | Self::OkExcept(_) => Counts { passed: 1, ..Counts::default() },
            Self::Skipped(_) => Counts { ignored: 1, ..Counts::default() },
            Self::Failed(_) => Counts { failed: 1, ..Counts::default() },
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Ok => "ok".to_owned(),
            Self::OkExcept(what) => format!("ok       NOT TRIED: {what}"),
            Self::Counted(counts) => format!("ok       {counts}"),
            Self::Skipped(why) => format!("SKIPPED  {why}"),
            Self::Failed(why) => format!("FAILED   {why}"),
            Self::FailedTests(why, counts) => format!("FAILED   {counts}: {why}"),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the list is what was asked for")]
fn list() {
    for step in STEPS {
        println!("{:<14} {}", step.name, step.title);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_run_has_every_step_once() {
        let lanes = LANES.iter().flat_map(|lane| lane.steps);
        let mut run: Vec<_> = lanes.chain(&[FIRST, "end-to-end"]).collect();
        let mut all: Vec<_> = STEPS.iter().map(|step| &step.name).collect();
        run.sort();
        all.sort();
        assert_eq!(run, all);
    }

    #[test]
    fn steps_of_lanes_exist() {
        for lane in LANES.iter().chain(FAST_LANES) {
            assert_eq!(chosen(lane.steps).unwrap().len(), lane.steps.len(), "{}", lane.name);
        }
    }
}
