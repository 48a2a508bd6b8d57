//! Slot of the compactor: a compactor that ends is replaced by a new one.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::{
    compactor,
    pipeline::Pipeline,
    program::{Program, RunningProgram},
};

/// Time before a compactor that has ended is replaced.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// Maximum time of a graceful end: longer than `--shutdown-timeout`.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Slot of the compactor.
#[derive(Debug, Default)]
pub(super) struct CompactorSlot {
    running: Option<RunningProgram>,
    /// Time of the end of the last compactor.
    ended_at: Option<Instant>,
    /// Number of compactors started.
    pub(super) starts: u64,
}

/// End of a compactor without a signal from the test.
#[derive(Debug)]
pub(super) enum Exit {
    /// Killed itself with SIGKILL at a failpoint.
    Killed,
    /// Any other end, with its exit status and the last line of its log.
    Unexpected(String),
}

impl CompactorSlot {
    /// Starts a compactor, unless one is running.
    pub(super) fn start(&mut self, pipeline: &Pipeline, failpoints: &str) -> Result<()> {
        if self.running.is_none() {
            self.running = Some(start(pipeline, "compactor", failpoints)?);
            self.starts += 1;
        }
        Ok(())
    }

    /// Returns the compactor, if one is running.
    pub(super) const fn running(&self) -> Option<&RunningProgram> {
        self.running.as_ref()
    }

    /// Sends SIGKILL. Returns false if no compactor is running.
    pub(super) fn kill(&mut self) -> Result<bool> {
        let Some(mut running) = self.running.take() else { return Ok(false) };
        self.ended_at = Some(Instant::now());
        running.kill().map(|_| true)
    }

    /// Sends SIGTERM; an error unless it exits with 0 in time.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        self.ended_at = Some(Instant::now());
        running.terminate()?;
        running.succeed(STOP_TIMEOUT).map(|_| ())
    }

    /// Puts another running compactor into the slot.
    pub(super) fn fill(&mut self, running: RunningProgram) {
        self.running = Some(running);
        self.starts += 1;
    }

    /// Returns how the compactor has ended, if it has, and clears the slot.
    pub(super) fn ended(&mut self) -> Result<Option<Exit>> {
        let Some(running) = &mut self.running else { return Ok(None) };
        if running.is_running()? {
            return Ok(None);
        }
        let status = running.wait(Duration::ZERO)?.status;
        let log = running.log()?;
        self.running = None;
        self.ended_at = Some(Instant::now());
        Ok(Some(if status.signal() == Some(9) {
            Exit::Killed
        } else {
            Exit::Unexpected(format!("{status}: {}", log.lines().last().unwrap_or_default()))
        }))
    }

    /// Returns true if no compactor has been running for [`RESTART_PAUSE`].
    pub(super) fn is_vacant(&self) -> bool {
        self.running.is_none() && self.ended_at.is_none_or(|at| at.elapsed() > RESTART_PAUSE)
    }
}

/// Starts a compactor outside of the slot.
pub(super) fn start(pipeline: &Pipeline, label: &str, failpoints: &str) -> Result<RunningProgram> {
    program(pipeline, compactor::RUN)?
        .env("DUCKTIDE_FAILPOINTS", failpoints)
        .start(pipeline.logs(), label)
}

/// Returns a compactor with the temporary folder of the run.
pub(super) fn program(pipeline: &Pipeline, arguments: &[&str]) -> Result<Program> {
    let folder = pipeline.file("temporary");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(pipeline.compactor(arguments)?.env("TMPDIR", folder))
}
