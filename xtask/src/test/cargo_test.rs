//! Runs `cargo test`, prints its output, and sums up the test counts.

use std::{
    fmt,
    io::{BufRead as _, BufReader},
    iter::Sum,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

/// Sums of the `test result:` lines of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TestCounts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) ignored: usize,
}

/// Runs the command; returns whether it succeeded, and the counts of all test programs.
#[expect(clippy::print_stdout, reason = "prints the output of the tests")]
pub(super) fn run(command: &mut Command) -> Result<(bool, TestCounts)> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let output = child.stdout.take().expect("standard output is piped");
    let mut counts = TestCounts::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("read the output of cargo test")?;
        println!("{line}");
        counts = [counts, TestCounts::of_line(&line)].into_iter().sum();
    }
    let status = child.wait().context("wait for cargo test")?;
    Ok((status.success(), counts))
}

impl TestCounts {
    /// Returns the counts of a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`;
    /// zeros for any other line.
    fn of_line(line: &str) -> Self {
        let Some(result) = line.strip_prefix("test result: ") else { return Self::default() };
        let count = |what: &str| {
            let arguments: Vec<_> =
                result.split([' ', ';']).filter(|word| !word.is_empty()).collect();
            let pair = arguments.windows(2).find(|pair| pair[1] == what);
            pair.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
        };
        Self { passed: count("passed"), failed: count("failed"), ignored: count("ignored") }
    }
}

impl TestCounts {
    /// Returns the counts of nextest's last line, such as
    /// `Summary [ 12.345s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 0 skipped`. Tests
    /// that timed out count as failed; tests that were filtered out do not count.
    pub(super) fn of_nextest(line: &str) -> Option<Self> {
        let (_, result) = line.trim_start().strip_prefix("Summary [")?.split_once("run: ")?;
        let mut counts = Self::default();
        for artifact in result.split(", ") {
            let mut arguments = artifact.split_whitespace();
            let count: usize = arguments.next()?.parse().ok()?;
            match arguments.collect::<Vec<_>>().join(" ").split(" (").next()? {
                "passed" => counts.passed += count,
                "skipped" => {}
                _ => counts.failed += count,
            }
        }
        Some(counts)
    }

    /// Parses the displayed text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut numbers = ["passed", "failed", "skipped"].into_iter().zip(text.split(", "));
        let mut next = || {
            let (name, artifact) = numbers.next()?;
            artifact.strip_suffix(name)?.trim_end().parse().ok()
        };
        Some(Self { passed: next()?, failed: next()?, ignored: next()? })
    }
}

impl Sum for TestCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            passed: a.passed + b.passed,
            failed: a.failed + b.failed,
            ignored: a.ignored + b.ignored,
        })
    }
}

impl fmt::Display for TestCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.ignored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted() {
        let line =
            "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out";
        assert_eq!(TestCounts::of_line(line), TestCounts { passed: 12, failed: 2, ignored: 1 });
    }

    #[test]
    fn tests_that_timed_out_count_as_failed() {
        let line = "     Summary [ 101.2s] 6 tests run: 3 passed (1 slow), 2 failed, 1 timed out, 9 skipped";
        let expected = TestCounts { passed: 3, failed: 3, ignored: 0 };
        assert_eq!(TestCounts::of_nextest(line), Some(expected));
        assert_eq!(TestCounts::of_nextest("        PASS [   0.1s] a::b c"), None);
    }

    #[test]
    fn displayed_counts_are_parsed() {
        let counts = TestCounts { passed: 12, failed: 0, ignored: 3 };
        assert_eq!(TestCounts::parse(&counts.to_string()), Some(counts));
        assert_eq!(TestCounts::parse("12 passed"), None);
    }

    #[test]
    fn other_lines_have_no_counts() {
        assert_eq!(TestCounts::of_line("test tests::ok ... ok"), TestCounts::default());
        assert_eq!(TestCounts::of_line("99 passed; 99 failed"), TestCounts::default());
    }
}
