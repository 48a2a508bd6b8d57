//! Docker Compose, version 2: the client's plugin, or a program that is built from its Go module.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{call, docker::Docker};
use crate::{layout, machine};

/// How Compose is started.
pub(super) struct Compose {
    /// None: `docker compose`.
    program: Option<PathBuf>,
    description: String,
}

pub(super) enum Search {
    Found(Compose),
    /// It cannot be had; says why.
    Nothing(String),
}

/// Three minutes on two cores; modules have to be downloaded first.
const BUILT_WITHIN: Duration = Duration::from_mins(20);

impl Compose {
    pub(super) fn find_or_build(docker: &Docker) -> Result<Search> {
        if let Ok(version) = docker.run(["compose", "version", "--short"]) {
            let description = format!("{version}, the client's plugin");
            return Ok(Search::Found(Self { program: None, description }));
        }
        let program = layout::tool("docker-compose");
        let pins = pins()?;
        if !is_built(&program, &pins) {
            if !machine::on_path("go") {
                let why = "the docker client has no Compose v2 (`docker compose version`), and Go, \
                           which could build it, is not installed: install docker-compose-plugin or Go";
                return Ok(Search::Nothing(why.to_owned()));
            }
            build(&program).context("build Docker Compose")?;
            fs::write(stamp(&program), pins).context("write a stamp")?;
        }
        let version = call::output(call::within(Duration::from_secs(30), &program).args(SHORT))?;
        let description = format!("{version}, built from its Go module");
        Ok(Search::Found(Self { program: Some(program), description }))
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }

    /// The words that start it, for a shell.
    pub(super) fn words(&self) -> Vec<String> {
        self.program.as_ref().map_or_else(
            || vec!["docker".to_owned(), "compose".to_owned()],
            |program| vec![program.display().to_string()],
        )
    }

    pub(super) fn command(&self, limit: Duration) -> Command {
        let words = self.words();
        let mut command = call::within(limit, &words[0]);
        command.args(&words[1..]);
        command
    }
}

/// As in `xtask/compose-plugin/go.mod`; the program is to know its own.
const VERSION: &str = "v2.40.3";

const SHORT: [&str; 2] = ["version", "--short"];

/// Compose and all that it is built of, by version and checksum.
fn pins() -> Result<String> {
    fs::read_to_string(module().join("go.sum")).context("read xtask/compose-plugin/go.sum")
}

fn module() -> PathBuf {
    layout::root().join("xtask/compose-plugin")
}

fn stamp(program: &Path) -> PathBuf {
    program.with_extension("stamp")
}

fn is_built(program: &Path, pins: &str) -> bool {
    program.is_file() && fs::read_to_string(stamp(program)).is_ok_and(|found| found == pins)
}

#[expect(clippy::print_stderr, reason = "says why nothing happens for some minutes")]
fn build(program: &Path) -> Result<()> {
    eprintln!("setup: Docker Compose: building from its Go module");
    // `-mod=readonly` refuses what go.sum does not know.
    let version = format!("-X github.com/docker/compose/v2/internal.Version={VERSION}");
    call::output(
        call::within(BUILT_WITHIN, "go")
            .args(["build", "-mod=readonly", "-trimpath", "-ldflags"])
            .arg(format!("-s -w {version}"))
            .arg("-o")
            .arg(program)
            .arg("github.com/docker/compose/v2/cmd")
            .current_dir(module()),
    )
    .map(drop)
}
