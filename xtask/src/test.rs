//! `cargo xtask test`: every check there is, one after the other, and a summary at the end.
//!
//! A failed step does not stop the later ones: one run shows everything that is wrong.

mod cargo_test;
mod fuzz;
mod steps;

use std::{
    env,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use self::{
    cargo_test::Counts,
    steps::{STEPS, Step},
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

/// `cargo xtask test [STEP...]`.
pub(crate) fn verb(arguments: &[String]) -> Result<ExitCode> {
    if arguments.iter().any(|argument| argument == "--list") {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    let steps = chosen(arguments)?;
    setup::for_build()?;
    if steps.iter().any(|step| step.needs_services) {
        setup::for_services()?;
    }
    if steps.iter().any(|step| step.needs_tools) {
        setup::for_checks()?;
    }
    let results: Vec<_> = steps.iter().map(|step| run(step)).collect();
    summarise(&results);
    let failed = results.iter().any(|result| result.outcome.is_failure());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Step>> {
    if names.is_empty() {
        return Ok(STEPS.iter().collect());
    }
    for name in names {
        if !STEPS.iter().any(|step| step.name == name) {
            bail!("unknown step `{name}`; `cargo xtask test --list` names them");
        }
    }
    Ok(STEPS.iter().filter(|step| names.iter().any(|name| step.name == name)).collect())
}

struct StepResult {
    step: &'static Step,
    outcome: Outcome,
    elapsed: Duration,
}

#[expect(clippy::print_stdout, reason = "headlines between the steps' own output")]
fn run(step: &'static Step) -> StepResult {
    println!("\n=== {}: {}", step.name, step.title);
    let started = Instant::now();
    let outcome = (step.run)().unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
    if let Outcome::Failed(why) | Outcome::Skipped(why) = &outcome {
        println!("{why}");
    }
    StepResult { step, outcome, elapsed: started.elapsed() }
}

/// Whether tests that were skipped count as failures.
fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}

impl Outcome {
    fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::FailedTests(..))
    }

    fn counts(&self) -> Option<&Counts> {
        match self {
            Self::Counted(counts) | Self::FailedTests(_, counts) => Some(counts),
            Self::Ok | Self::OkExcept(_) | Self::Skipped(_) | Self::Failed(_) => None,
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

#[expect(clippy::print_stdout, reason = "the summary is the result")]
fn summarise(results: &[StepResult]) {
    println!("\n=== summary");
    for StepResult { step, outcome, elapsed } in results {
        println!("{:<14} {:>6.1} s  {}", step.name, elapsed.as_secs_f64(), outcome.text());
    }
    let total = results.iter().filter_map(|result| result.outcome.counts()).sum::<Counts>();
    // Steps without tests count as one each, so that a red formatter is not "0 failed".
    let checks = results.iter().filter(|result| result.outcome.counts().is_none());
    let (failed, good): (Vec<_>, Vec<_>) = checks.partition(|result| result.outcome.is_failure());
    let skipped = good.iter().filter(|r| matches!(r.outcome, Outcome::Skipped(_))).count();
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed + good.len() - skipped,
        total.failed + failed.len(),
        total.ignored + skipped,
    );
}

#[expect(clippy::print_stdout, reason = "the list is what was asked for")]
fn list() {
    for step in STEPS {
        println!("{:<14} {}", step.name, step.title);
    }
}
