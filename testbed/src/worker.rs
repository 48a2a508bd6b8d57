//! Running consumer: log, metrics, readiness and signals.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    http,
    pipeline::WAIT_TIMEOUT,
    program::{ProgramExit, RunningProgram},
    wait,
};

/// Started consumer. Killed when dropped.
#[derive(Debug)]
pub struct Worker {
    running: RunningProgram,
    port: u16,
}

impl Worker {
    pub(crate) const fn new(running: RunningProgram, port: u16) -> Self {
        Self { running, port }
    }

    /// Returns the process, for signals and resource usage.
    pub const fn process(&mut self) -> &mut RunningProgram {
        &mut self.running
    }

    /// Sends SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        self.running.kill().map(|_| ())
    }

    /// Waits for the end; an error unless it succeeded.
    pub fn succeed(&mut self) -> Result<ProgramExit> {
        self.running.succeed(WAIT_TIMEOUT)
    }

    /// Sends SIGTERM; an error unless it exits with 0 within its `--shutdown-timeout`.
    pub fn stop(&mut self) -> Result<ProgramExit> {
        self.running.terminate()?;
        self.running.succeed(Duration::from_secs(25))
    }

    /// Waits for the end and returns the exit code.
    pub fn exit_code(&mut self) -> Result<i32> {
        let finished = self.running.wait(WAIT_TIMEOUT)?;
        finished.status.code().with_context(|| format!("ended by a signal: {}", finished.status))
    }

    /// Returns an error with the reason unless `/readyz` reports ready.
    pub fn check_ready(&self) -> Result<()> {
        http::get(self.port, "/readyz").map(|_| ())
    }

    /// Waits until `/readyz` reports ready (`wanted`) or not ready.
    pub fn await_ready(&self, wanted: bool) -> Result<()> {
        let what = if wanted { "the consumer is ready" } else { "the consumer is not ready" };
        wait::until(what, WAIT_TIMEOUT, || match self.check_ready() {
            Ok(()) => Ok(wanted),
            Err(_) if !wanted => Ok(true),
            Err(error) => Err(error),
        })
    }

    /// Returns an error unless `/healthz` reports that the process is alive.
    pub fn check_alive(&self) -> Result<()> {
        http::get(self.port, "/healthz").map(|_| ())
    }

    /// Waits until `/readyz` reports not ready with a reason that contains this text.
    pub fn await_unready(&self, reason: &str) -> Result<()> {
        wait::until(&format!("it is not ready: {reason}"), WAIT_TIMEOUT, || {
            match self.check_ready() {
                Ok(()) => Ok(false),
                Err(error) if error.to_string().contains(reason) => Ok(true),
                Err(error) => Err(error),
            }
        })
    }

    /// Returns all metrics in Prometheus' text format.
    pub fn metrics(&self) -> Result<String> {
        http::get(self.port, "/metrics")
    }

    /// Returns the sum of a metric over its labels; 0 if it does not exist. `name` is without the
    /// prefix `ducktide_consumer_`.
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

    /// Returns the lines of its log that are JSON objects.
    pub fn log(&self) -> Result<Vec<Value>> {
        let lines = self.running.log()?;
        Ok(lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Returns the first line of its log that contains a text, in the message or in a field.
    pub fn logged(&self, text: &str) -> Result<Option<Value>> {
        let lines = self.running.log()?;
        let found = lines.lines().find(|line| line.contains(text));
        found.map(serde_json::from_str).transpose().context("parse a line of the log")
    }

    /// Waits until its log contains a text, and returns that line.
    pub fn await_logged(&self, text: &str) -> Result<Value> {
        wait::until(&format!("`{text}` is logged"), WAIT_TIMEOUT, || {
            Ok(self.logged(text)?.is_some())
        })?;
        self.logged(text)?.context("a log does not lose lines")
    }

    /// Returns the message of the last line of level ERROR.
    pub fn last_error(&self) -> Result<String> {
        let log = self.log()?;
        let errors = log.iter().filter(|line| line["level"] == "ERROR");
        let message = errors.filter_map(|line| line["message"].as_str()).next_back();
        message.map(str::to_owned).context("no error was logged")
    }
}
