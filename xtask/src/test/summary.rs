//! The table at the end of a run: a row for each step, and the sums of all tests.

use std::time::Duration;

use super::{Outcome, cargo_test::Counts};

/// The line before the table.
const HEADING: &str = "=== summary";

/// How one step ended, as the table shows it.
pub(super) struct StepResult {
    row: String,
    counts: Counts,
    is_failure: bool,
}

impl StepResult {
    pub(super) fn new(step: &str, outcome: &Outcome, elapsed: Duration) -> Self {
        let (seconds, text) = (elapsed.as_secs_f64(), outcome.text());
        Self {
            row: format!("{step:<14} {seconds:>6.1} s  {text}"),
            counts: outcome.counts(),
            is_failure: outcome.is_failure(),
        }
    }
}

/// The rows of a run, and the sums of their tests.
#[derive(Default)]
pub(super) struct Summary {
    rows: Vec<String>,
    counts: Counts,
    has_failures: bool,
}

impl Summary {
    /// A run that could not be read or did not end well, whatever its table says.
    pub(super) fn failed(name: &str, why: &str) -> Self {
        let outcome = Outcome::Failed(why.to_owned());
        [StepResult::new(name, &outcome, Duration::ZERO)].into_iter().collect()
    }

    /// Reads the table at the end of another run's output; none if the run did not get there.
    pub(super) fn parse(output: &str) -> Option<Self> {
        let (_, table) = output.rsplit_once(HEADING)?;
        let mut rows: Vec<_> = table.lines().filter(|line| !line.is_empty()).collect();
        let counts = Counts::parse(rows.pop()?)?;
        let rows = rows.into_iter().map(str::to_owned).collect();
        Some(Self { rows, counts, has_failures: counts.failed > 0 })
    }

    pub(super) fn add(&mut self, result: StepResult) {
        self.rows.push(result.row);
        self.counts = [self.counts, result.counts].into_iter().sum();
        self.has_failures |= result.is_failure;
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.counts = [self.counts, other.counts].into_iter().sum();
        self.has_failures |= other.has_failures;
    }

    pub(super) const fn has_failures(&self) -> bool {
        self.has_failures
    }

    #[expect(clippy::print_stdout, reason = "the summary is the result")]
    pub(super) fn print(&self) {
        println!("\n{HEADING}");
        for row in &self.rows {
            println!("{row}");
        }
        println!("{}", self.counts);
    }
}

impl FromIterator<StepResult> for Summary {
    fn from_iter<I: IntoIterator<Item = StepResult>>(results: I) -> Self {
        let mut summary = Self::default();
        results.into_iter().for_each(|result| summary.add(result));
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_back_with_its_sums() {
        let output = "=== unit: tests\n9 passed\n\n=== summary\nunit  1.0 s  ok\n\
                      clippy  2.0 s  FAILED   lint\n9 passed, 1 failed, 0 skipped\n";
        let summary = Summary::parse(output).unwrap();
        assert_eq!(summary.rows, ["unit  1.0 s  ok", "clippy  2.0 s  FAILED   lint"]);
        assert_eq!(summary.counts, Counts { passed: 9, failed: 1, ignored: 0 });
        assert!(summary.has_failures());
    }

    #[test]
    fn a_run_that_broke_off_has_no_table() {
        assert!(Summary::parse("=== unit: tests\n9 passed, 0 failed, 0 skipped\n").is_none());
        assert!(Summary::parse("=== summary\nunit  1.0 s  ok\n").is_none());
    }
}
