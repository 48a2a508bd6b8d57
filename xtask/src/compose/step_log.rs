//! Progress output of the test and the table at its end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Log of the completed steps.
pub(super) struct StepLog {
    started: Instant,
    steps: Vec<(String, Duration, String)>,
    not_tested: Vec<String>,
}

#[expect(clippy::print_stdout, reason = "the progress is printed")]
impl StepLog {
    pub(super) fn start() -> Self {
        Self { started: Instant::now(), steps: Vec::new(), not_tested: Vec::new() }
    }

    /// Records a fact that took no time.
    pub(super) fn record(&mut self, title: &str, remark: &str) {
        println!("compose-test: {title}: {remark}");
        self.steps.push((title.to_owned(), Duration::ZERO, remark.to_owned()));
    }

    /// Records something that could not be tested on this machine.
    pub(super) fn not_tested(&mut self, what: &str) {
        println!("compose-test: NOT TESTED: {what}");
        self.not_tested.push(what.to_owned());
    }

    /// Runs a step, which returns a remark for the table.
    pub(super) fn run_step(
        &mut self,
        title: &str,
        step: impl FnOnce() -> Result<String>,
    ) -> Result<()> {
        self.run_step_with(title, || step().map(|remark| ((), remark)))
    }

    /// Runs a step with a result for later steps.
    pub(super) fn run_step_with<T>(
        &mut self,
        title: &str,
        step: impl FnOnce() -> Result<(T, String)>,
    ) -> Result<T> {
        let started = Instant::now();
        let (result, remark) = match step() {
            Ok((result, remark)) => (Ok(result), remark),
            Err(error) => (Err(error), "FAILED".to_owned()),
        };
        let elapsed = started.elapsed();
        println!("compose-test: {}", line(title, elapsed, &remark));
        self.steps.push((title.to_owned(), elapsed, remark));
        result.with_context(|| title.to_owned())
    }

    pub(super) fn print_table(&self) {
        println!("\nThe local stack");
        for (title, elapsed, remark) in &self.steps {
            println!("  {}", line(title, *elapsed, remark));
        }
        println!("  {}", line("total", self.started.elapsed(), ""));
        for what in &self.not_tested {
            println!("  NOT TESTED: {what}");
        }
    }

    pub(super) fn into_not_tested(self) -> Vec<String> {
        self.not_tested
    }
}

fn line(title: &str, elapsed: Duration, remark: &str) -> String {
    format!("{title:<52} {:>6.1} s  {remark}", elapsed.as_secs_f64()).trim_end().to_owned()
}
