//! Steps that run in a separate process, concurrently with others.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::summary::TestSummary;
use crate::{layout, machine};

/// Argument for the process of a lane: the step `build` has already run.
pub(super) const BUILT_ARGUMENT: &str = "--built";

/// A sequence of steps.
pub(super) struct Lane {
    pub(super) name: &'static str,
    /// Runs at low priority; none of its steps depends on time.
    pub(super) is_nice: bool,
    pub(super) steps: &'static [&'static str],
}

/// A running lane. Killed when dropped.
pub(super) struct RunningLane {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Lane {
    /// Starts `cargo xtask test STEP...` with these steps and redirects its output to a log.
    #[expect(clippy::print_stdout, reason = "prints the path of the log")]
    pub(super) fn start(&self) -> Result<RunningLane> {
        let log = layout::cache().join("logs").join(format!("test-{}.log", self.name));
        fs::create_dir_all(log.parent().expect("logs have a parent folder"))
            .context("create logs")?;
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let errors = output.try_clone().context("clone the log's handle")?;
        let child = self
            .command()?
            .args(["test", BUILT_ARGUMENT])
            .args(self.steps)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start the lane {}", self.name))?;
        println!("\n=== running concurrently: {}; log: {}", self.steps.join(", "), log.display());
        Ok(RunningLane { name: self.name, child, log })
    }

    fn command(&self) -> Result<Command> {
        let xtask = layout::binary()?;
        if !self.is_nice || !machine::on_path("nice") {
            return Ok(Command::new(xtask));
        }
        let mut nice = Command::new("nice");
        nice.args(["-n", "10"]).arg(xtask);
        Ok(nice)
    }
}

impl RunningLane {
    /// Waits for the lane, prints its log, and returns its table.
    #[expect(clippy::print_stdout, reason = "prints the output of the steps")]
    pub(super) fn finish(mut self) -> Result<TestSummary> {
        let status = self.child.wait().context("wait for a lane")?;
        let log = fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        let log = String::from_utf8_lossy(&log);
        println!("{log}");
        let broken = || TestSummary::failed(self.name, &format!("{status} before its summary"));
        let mut summary = TestSummary::parse(&log).unwrap_or_else(broken);
        if !status.success() && !summary.has_failures() {
            summary.extend(TestSummary::failed(self.name, &status.to_string()));
        }
        Ok(summary)
    }
}

impl Drop for RunningLane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
