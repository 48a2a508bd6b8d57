//! Steps that run in a process of their own, next to others.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{BUILT, summary::Summary};
use crate::{layout, machine};

/// Some steps, one after the other.
pub(super) struct Lane {
    pub(super) name: &'static str,
    /// Whether it leaves the processors to those who want them: nothing in it depends on time.
    pub(super) is_nice: bool,
    pub(super) steps: &'static [&'static str],
}

/// A lane under way. Killed when dropped.
pub(super) struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Lane {
    /// Starts `cargo xtask test STEP...` with these steps, its output in a log.
    #[expect(clippy::print_stdout, reason = "says where the output goes")]
    pub(super) fn start(&self) -> Result<Running> {
        let log = layout::cache().join("logs").join(format!("test-{}.log", self.name));
        fs::create_dir_all(log.parent().expect("logs lie in a folder")).context("create logs")?;
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let errors = output.try_clone().context("clone the log's handle")?;
        let child = self
            .command()?
            .args(["test", BUILT])
            .args(self.steps)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start the lane {}", self.name))?;
        println!("\n=== next to it: {}; log: {}", self.steps.join(", "), log.display());
        Ok(Running { name: self.name, child, log })
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

impl Running {
    /// Waits for its end, prints its log, and returns its table.
    #[expect(clippy::print_stdout, reason = "hands the steps' own output through")]
    pub(super) fn finish(mut self) -> Result<Summary> {
        let status = self.child.wait().context("wait for a lane")?;
        let log = fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        let log = String::from_utf8_lossy(&log);
        println!("{log}");
        let broken = || Summary::failed(self.name, &format!("{status} before its summary"));
        let mut summary = Summary::parse(&log).unwrap_or_else(broken);
        if !status.success() && !summary.has_failures() {
            summary.extend(Summary::failed(self.name, &status.to_string()));
        }
        Ok(summary)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
