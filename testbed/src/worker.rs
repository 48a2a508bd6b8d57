//! A running consumer, as its operator sees it: log, metrics, readiness, signals.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    http,
    pipeline::WAIT_TIMEOUT,
    program::{ProgramExit, RunningProgram},
    wait,
};

/// A started consumer. Killed when dropped.
#[derive(Debug)]
pub struct Worker {
    running: RunningProgram,
    port: u16,
}

impl Worker {
    pub(crate) const fn new(running: RunningProgram, port: u16) -> Self {
        Self { running, port }
    }

    /// The process, for signals and its usage.
    pub const fn process(&mut self) -> &mut RunningProgram {
        &mut self.running
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        self.running.kill().map(|_| ())
    }

    /// Waits for the end, and errors unless it succeeded.
    pub fn succeed(&mut self) -> Result<ProgramExit> {
        self.running.succeed(WAIT_TIMEOUT)
    }

    /// SIGTERM; errors unless it then exits with 0 before its `--shutdown-timeout` is over.
    pub fn stop(&mut self) -> Result<ProgramExit> {
        self.running.terminate()?;
        self.running.succeed(Duration::from_secs(25))
    }

    /// Waits for the end; its exit code.
    pub fn exit_code(&mut self) -> Result<i32> {
        let finished = self.running.wait(WAIT_TIMEOUT)?;
        finished.status.code().with_context(|| format!("ended by a signal: {}", finished.status))
    }

    /// Whether `/readyz` says so; an error tells why not.
    pub fn check_ready(&self) -> Result<()> {
        http::get(self.port, "/readyz").map(|_| ())
    }

    /// Waits until `/readyz` says that it is ready, or that it is not.
    pub fn await_ready(&self, wanted: bool) -> Result<()> {
        let what = if wanted { "the consumer is ready" } else { "the consumer is not ready" };
        wait::until(what, WAIT_TIMEOUT, || match self.check_ready() {
            Ok(()) => Ok(wanted),
            Err(_) if !wanted => Ok(true),
            Err(error) => Err(error),
        })
    }

    /// Errors unless `/healthz` says that the process lives.
    pub fn check_alive(&self) -> Result<()> {
        http::get(self.port, "/healthz").map(|_| ())
    }

    /// Waits until `/readyz` says that it is not ready, for a reason that holds this text.
    pub fn await_unready(&self, reason: &str) -> Result<()> {
        wait::until(&format!("it is not ready: {reason}"), WAIT_TIMEOUT, || {
            match self.check_ready() {
                Ok(()) => Ok(false),
                Err(error) if error.to_string().contains(reason) => Ok(true),
                Err(error) => Err(error),
            }
        })
    }

    /// All metrics, in Prometheus' plain text.
    pub fn metrics(&self) -> Result<String> {
        http::get(self.port, "/metrics")
    }

    /// The sum of a metric's values over its labels, without the prefix of all of them; 0 while
    /// there is none.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let text = self.metrics()?;
        let name = format!("ducktide_consumer_{name}");
        let values = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let is_it = series.split('{').next() == Some(name.as_str());
            is_it.then(|| value.parse::<f64>().ok()).flatten()
        });
        Ok(values.sum())
    }

    /// Waits until a metric has reached a value.
    pub fn await_metric(&self, name: &str, at_least: f64) -> Result<()> {
        wait::until(&format!("{name} is {at_least}"), WAIT_TIMEOUT, || {
            let value = self.metric(name)?;
            ensure!(value >= at_least, "{name} is {value}");
            Ok(true)
        })
    }

    /// The lines of its log, each an object; lines that are none are left out.
    pub fn log(&self) -> Result<Vec<Value>> {
        let lines = self.running.log()?;
        Ok(lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// The first line of its log that holds a text, in the message or in any field.
    pub fn logged(&self, text: &str) -> Result<Option<Value>> {
        let lines = self.running.log()?;
        let found = lines.lines().find(|line| line.contains(text));
        found.map(serde_json::from_str).transpose().context("parse a line of the log")
    }

    /// Waits until its log holds a text; the line that does.
    pub fn await_logged(&self, text: &str) -> Result<Value> {
        wait::until(&format!("`{text}` is logged"), WAIT_TIMEOUT, || {
            Ok(self.logged(text)?.is_some())
        })?;
        self.logged(text)?.context("a log does not lose lines")
    }

    /// The line of level ERROR that says why it ended.
    pub fn last_error(&self) -> Result<String> {
        let log = self.log()?;
        let errors = log.iter().filter(|line| line["level"] == "ERROR");
        let message = errors.filter_map(|line| line["message"].as_str()).next_back();
        message.map(str::to_owned).context("no error was logged")
    }
}
