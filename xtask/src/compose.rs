//! `cargo xtask compose-test`: tests the local stack of `docker-compose.yml` on a real engine:
//! starting, scaling, failures.
//!
//! Works without access to an image registry: locally built images then take the names of the
//! official ones.

mod containers;
mod docker;
mod engine;
mod full_pass;
mod images;
mod local_image;
mod plugin;
mod port;
mod probe;
mod project;
mod sqlite_pass;
mod stack_state;
mod step_log;
mod timeouts;
mod watchdog;

use std::process::ExitCode;

use anyhow::{Result, bail, ensure};

use self::{
    containers::TestPrograms,
    docker::Docker,
    engine::{Engine, EngineSearch},
    images::ProgramSource,
    plugin::{Compose, ComposeSearch},
    step_log::StepLog,
};
use crate::{cargo, process, setup};

/// Result of a test that did not fail.
pub(crate) enum StackTestResult {
    /// All steps passed. Lists what could not be tested on this machine.
    Passed(Vec<String>),
    /// Nothing could be tested, with the reason.
    Skipped(String),
}

/// Build options.
#[derive(Clone, Copy, Default)]
pub(crate) struct StackOptions {
    /// Compiles the programs of our image within the image, instead of copying those of this
    /// workspace.
    from_source: bool,
    /// Uses the programs in `target/release` without running cargo.
    no_build: bool,
    /// The tests of services in containers are built, so that running them takes no build of
    /// minutes.
    tests_are_built: bool,
}

impl StackOptions {
    /// Options after the step `build` of `cargo xtask test`, which also builds the tests of the
    /// containers.
    pub(crate) const AFTER_BUILD: Self =
        Self { from_source: false, no_build: true, tests_are_built: true };
}

/// `cargo xtask compose-test [--from-source] [--no-build]`.
#[expect(clippy::print_stdout, reason = "the result is printed")]
pub(crate) fn verb(arguments: &[String]) -> Result<ExitCode> {
    let mut options = StackOptions::default();
    for argument in arguments {
        match argument.as_str() {
            "--from-source" => options.from_source = true,
            "--no-build" => options.no_build = true,
            other => bail!(
                "unknown argument; compose-test only takes --from-source and --no-build \
                 (see `cargo xtask --help`) argument=`{other}`"
            ),
        }
    }
    match run(options)? {
        StackTestResult::Passed(_) => println!("compose-test: passed"),
        // A skipped test must not look like a success to a user who requested exactly this test.
        StackTestResult::Skipped(reason) => bail!("the local stack was NOT TESTED: {reason}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the whole test. Everything it starts is removed when it returns, and also when it is
/// killed.
pub(crate) fn run(options: StackOptions) -> Result<StackTestResult> {
    setup::for_build()?;
    setup::for_services()?;
    let mut log = StepLog::start();
    let engine = match Engine::find_or_start()? {
        EngineSearch::Found(engine) => engine,
        EngineSearch::Unavailable(reason) => return Ok(StackTestResult::Skipped(reason)),
    };
    log.record("engine", engine.description());
    if let Some(reason) = images::unavailable_reason(engine.docker()) {
        return Ok(StackTestResult::Skipped(reason));
    }
    let compose = match Compose::find_or_build(engine.docker())? {
        ComposeSearch::Found(compose) => compose,
        ComposeSearch::Unavailable(reason) => return Ok(StackTestResult::Skipped(reason)),
    };
    log.record("compose", compose.description());
    let result = run_steps(&mut log, engine.docker(), &compose, options);
    log.print_table();
    result?;
    Ok(StackTestResult::Passed(log.into_not_tested()))
}

fn run_steps(
    log: &mut StepLog,
    docker: &Docker,
    compose: &Compose,
    options: StackOptions,
) -> Result<()> {
    if !options.no_build && !options.from_source {
        log.run_step("build the programs", build)?;
    }
    let source =
        if options.from_source { ProgramSource::Compiled } else { ProgramSource::Prebuilt };
    let image = images::provide_all(log, docker, source)?;
    full_pass::run(log, docker, compose, &image)?;
    sqlite_pass::run(log, docker, compose, &image)?;
    drop(image);
    let built = options.tests_are_built || !options.no_build;
    containers::run(log, docker, if built { TestPrograms::Current } else { TestPrograms::Unknown })
}

/// Builds with the same arguments as the other verbs, so that nothing is built twice.
fn build() -> Result<String> {
    let arguments =
        ["build", "--release", "--locked", "--workspace", "--lib", "--bins", "--examples"];
    ensure!(cargo::command(arguments).status()?.success(), "cargo build failed");
    Ok(String::new())
}
