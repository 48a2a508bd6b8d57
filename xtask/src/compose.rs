//! `cargo xtask compose-test`: the local stack of `docker-compose.yml` on a real engine, as its users
//! run it, scale it and break it.
//!
//! Works where no image registry can be reached: then stand-ins take the official images' names.

mod call;
mod containers;
mod docker;
mod engine;
mod full_pass;
mod images;
mod plugin;
mod port;
mod probe;
mod project;
mod sqlite_pass;
mod stand_in;
mod story;
mod view;
mod watchdog;

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail, ensure};

use self::{
    containers::Built,
    docker::Docker,
    engine::{Engine, Search},
    images::Source,
    plugin::Compose,
    story::Story,
};
use crate::{cargo, setup};

/// How it ended, unless it failed.
pub(crate) enum Verdict {
    /// Everything held. Holds what could not be tried here.
    Passed(Vec<String>),
    /// Nothing could be tried; says why.
    Skipped(String),
}

/// What is built, and how.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// Compiles our image's programs within the image, instead of taking those of this workspace.
    from_source: bool,
    /// Takes what lies in `target/release`, without asking cargo whether it is up to date.
    no_build: bool,
    /// Whether the tests on services in containers can run without a build that takes minutes.
    tests_are_built: bool,
}

impl Options {
    /// After the step `build` of `cargo xtask test`, which has built the containers' tests as well.
    pub(crate) const AFTER_BUILD: Self =
        Self { from_source: false, no_build: true, tests_are_built: true };
}

/// `cargo xtask compose-test [--from-source] [--no-build]`.
#[expect(clippy::print_stdout, reason = "the verdict is the result")]
pub(crate) fn verb(arguments: &[String]) -> Result<ExitCode> {
    let mut options = Options::default();
    for argument in arguments {
        match argument.as_str() {
            "--from-source" => options.from_source = true,
            "--no-build" => options.no_build = true,
            other => bail!(
                "compose-test takes --from-source and --no-build only: argument=`{other}`; \
                 `cargo xtask --help` explains"
            ),
        }
    }
    match run(options)? {
        Verdict::Passed(_) => println!("compose-test: passed"),
        // Whoever asks for this very test would take a success for one.
        Verdict::Skipped(why) => bail!("the local stack was NOT tried: {why}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The whole test. Whatever it starts is gone when it returns, and when it is killed.
pub(crate) fn run(options: Options) -> Result<Verdict> {
    setup::for_build()?;
    setup::for_services()?;
    let mut story = Story::begin();
    let engine = match Engine::find_or_start()? {
        Search::Found(engine) => engine,
        Search::Nothing(why) => return Ok(Verdict::Skipped(why)),
    };
    story.note("engine", engine.description());
    if let Some(why) = images::lack(engine.docker()) {
        return Ok(Verdict::Skipped(why));
    }
    let compose = match Compose::find_or_build(engine.docker())? {
        plugin::Search::Found(compose) => compose,
        plugin::Search::Nothing(why) => return Ok(Verdict::Skipped(why)),
    };
    story.note("compose", compose.description());
    let result = story_on(&mut story, engine.docker(), &compose, options);
    story.print_table();
    result?;
    Ok(Verdict::Passed(story.into_untried()))
}

fn story_on(story: &mut Story, docker: &Docker, compose: &Compose, options: Options) -> Result<()> {
    if !options.no_build && !options.from_source {
        story.tell("build the programs", build)?;
    }
    let source = if options.from_source { Source::Compiled } else { Source::Prebuilt };
    let image = images::make_all(story, docker, source)?;
    full_pass::run(story, docker, compose, &image)?;
    sqlite_pass::run(story, docker, compose, &image)?;
    drop(image);
    let built = options.tests_are_built || !options.no_build;
    containers::run(story, docker, if built { Built::Now } else { Built::Unknown })
}

/// As every other verb builds, so that nothing is built twice.
fn build() -> Result<String> {
    let arguments =
        ["build", "--release", "--locked", "--workspace", "--lib", "--bins", "--examples"];
    ensure!(cargo::command(arguments).status()?.success(), "cargo build failed");
    Ok(String::new())
}

/// What a container may take to become healthy, on a busy machine with two cores.
const HEALTHY_WITHIN: Duration = Duration::from_mins(4);

/// What rows, members and merges may take to show. Far beyond what they do take: a slow machine is no
/// failure.
const SEEN_WITHIN: Duration = Duration::from_mins(2);
