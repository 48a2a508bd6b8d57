//! The compactor's slot: whoever dies in it is followed by another.

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

/// Before somebody follows a compactor that died.
const RESTART_PAUSE: Duration = Duration::from_millis(200);

/// How long a polite end may take: longer than its `--shutdown-timeout`.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The compactor's slot.
#[derive(Debug, Default)]
pub(super) struct CompactorSlot {
    running: Option<RunningProgram>,
    /// When the last one ended; none so far.
    ended_at: Option<Instant>,
    /// How many were started here.
    pub(super) starts: u64,
}

/// How a compactor ended that nobody ended.
#[derive(Debug)]
pub(super) enum Exit {
    /// By SIGKILL, its own, at an armed step.
    Killed,
    /// In any other way, with the end of what it logged.
    Unexpected(String),
}

impl CompactorSlot {
    /// Starts a compactor, unless there is one.
    pub(super) fn start(&mut self, pipeline: &Pipeline, failpoints: &str) -> Result<()> {
        if self.running.is_none() {
            self.running = Some(start(pipeline, "compactor", failpoints)?);
            self.starts += 1;
        }
        Ok(())
    }

    /// The compactor, if there is one.
    pub(super) const fn running(&self) -> Option<&RunningProgram> {
        self.running.as_ref()
    }

    /// SIGKILL; whether there was anybody to kill.
    pub(super) fn kill(&mut self) -> Result<bool> {
        let Some(mut running) = self.running.take() else { return Ok(false) };
        self.ended_at = Some(Instant::now());
        running.kill().map(|_| true)
    }

    /// SIGTERM. Errors unless it then exits with 0 in time.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        self.ended_at = Some(Instant::now());
        running.terminate()?;
        running.succeed(STOP_TIMEOUT).map(|_| ())
    }

    /// Another compactor takes the slot.
    pub(super) fn fill(&mut self, running: RunningProgram) {
        self.running = Some(running);
        self.starts += 1;
    }

    /// How the compactor ended, if it has since the last look; its slot is free then.
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

    /// Whether a compactor is missing, and has been for a moment.
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

/// A compactor with a temporary folder of the run's own.
pub(super) fn program(pipeline: &Pipeline, arguments: &[&str]) -> Result<Program> {
    let folder = pipeline.file("temporary");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(pipeline.compactor(arguments)?.env("TMPDIR", folder))
}
