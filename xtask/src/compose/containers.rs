//! The services of the end-to-end tests, as containers of the same images.

use anyhow::{Result, ensure};

use super::{docker::Docker, step_log::StepLog};
use crate::cargo;

/// State of the test programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TestPrograms {
    Current,
    Unknown,
}

/// Tests that start, kill, pause and restart each service.
const SERVICES: [&str; 5] = ["--test", "end_to_end", "--", "--ignored", "services::"];

pub(super) fn run(log: &mut StepLog, docker: &Docker, built: TestPrograms) -> Result<()> {
    if built == TestPrograms::Unknown {
        log.not_tested("DUCKTIDE_SERVICES=containers: its tests need a build");
        return Ok(());
    }
    log.run_step("testbed's services as containers", || {
        let mut tests = cargo::command(["test", "--release", "--locked", "--workspace"]);
        tests.args(SERVICES).env("DUCKTIDE_SERVICES", "containers").envs(docker.environment());
        ensure!(
            tests.status()?.success(),
            "the tests of services failed with DUCKTIDE_SERVICES=containers"
        );
        Ok(String::new())
    })
}
