//! Table at the end of a run: a row for each step, and the sums of all tests.

use std::time::Duration;

use super::{cargo_test::TestCounts, outcome::StepOutcome};

/// Line before the table.
const HEADING: &str = "=== summary";

/// Row of one step.
pub(super) struct StepResult {
    row: String,
    counts: TestCounts,
    is_failure: bool,
}

impl StepResult {
    pub(super) fn new(step: &str, outcome: &StepOutcome, elapsed: Duration) -> Self {
        let (seconds, text) = (elapsed.as_secs_f64(), outcome.text());
        Self {
            row: format!("{step:<14} {seconds:>6.1} s  {text}"),
            counts: outcome.counts(),
            is_failure: outcome.is_failure(),
        }
    }
}

/// Rows of a run, and the sums of their tests.
#[derive(Default)]
pub(super) struct TestSummary {
    rows: Vec<String>,
    counts: TestCounts,
    has_failures: bool,
}

impl TestSummary {
    /// Creates the summary of a run that failed or whose output could not be parsed.
    pub(super) fn failed(name: &str, reason: &str) -> Self {
        let outcome = StepOutcome::Failed(reason.to_owned());
        [StepResult::new(name, &outcome, Duration::ZERO)].into_iter().collect()
    }

    /// Parses the table at the end of another run's output; None if the run ended before.
    pub(super) fn parse(output: &str) -> Option<Self> {
        let (_, table) = output.rsplit_once(HEADING)?;
        let mut rows: Vec<_> = table.lines().filter(|line| !line.is_empty()).collect();
        let counts = TestCounts::parse(rows.pop()?)?;
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

impl FromIterator<StepResult> for TestSummary {
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
    fn a_table_is_parsed_with_its_sums() {
        let output = "=== unit: tests\n9 passed\n\n=== summary\nunit  1.0 s  ok\n\
                      clippy  2.0 s  FAILED   lint\n9 passed, 1 failed, 0 skipped\n";
        let summary = TestSummary::parse(output).unwrap();
        assert_eq!(summary.rows, ["unit  1.0 s  ok", "clippy  2.0 s  FAILED   lint"]);
        assert_eq!(summary.counts, TestCounts { passed: 9, failed: 1, ignored: 0 });
        assert!(summary.has_failures());
    }

    #[test]
    fn an_aborted_run_has_no_table() {
        assert!(TestSummary::parse("=== unit: tests\n9 passed, 0 failed, 0 skipped\n").is_none());
        assert!(TestSummary::parse("=== summary\nunit  1.0 s  ok\n").is_none());
    }
}
