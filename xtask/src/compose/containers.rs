//! The services of the end-to-end tests, run as containers of the same images.

use anyhow::{Result, ensure};

use super::{docker::Docker, story::Story};
use crate::cargo;

/// Whether the tests' programs are known to be those of this workspace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Built {
    Now,
    Unknown,
}

/// Starts, kills, pauses and restarts each service.
const SERVICES: [&str; 4] = ["--test", "services", "--", "--ignored"];

pub(super) fn run(story: &mut Story, docker: &Docker, built: Built) -> Result<()> {
    if built == Built::Unknown {
        story.untried("DUCKTIDE_SERVICES=containers: its tests take a build");
        return Ok(());
    }
    story.tell("testbed's services as containers", || {
        let mut tests = cargo::command(["test", "--release", "--locked", "--workspace"]);
        tests.args(SERVICES).env("DUCKTIDE_SERVICES", "containers").envs(docker.environment());
        ensure!(
            tests.status()?.success(),
            "the tests of services failed with DUCKTIDE_SERVICES=containers"
        );
        Ok(String::new())
    })
}
