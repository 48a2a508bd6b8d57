//! Outcome of a step.

use super::cargo_test::TestCounts;

/// Outcome of a step.
pub(super) enum StepOutcome {
    Ok,
    /// Succeeded, but some of it could not be tested; with the reason.
    PartlyTested(String),
    /// Succeeded, with test counts.
    Counted(TestCounts),
    /// Could not run; with the reason.
    Skipped(String),
    Failed(String),
    /// Failed, with test counts.
    FailedTests(String, TestCounts),
}

impl StepOutcome {
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::FailedTests(..))
    }

    /// Returns the counts of its tests. A step without tests counts as one, so that a failed format
    /// check is not reported as "0 failed".
    pub(super) fn counts(&self) -> TestCounts {
        match self {
            Self::Counted(counts) | Self::FailedTests(_, counts) => *counts,
            Self::Ok | Self::PartlyTested(_) => TestCounts { passed: 1, ..TestCounts::default() },
            Self::Skipped(_) => TestCounts { ignored: 1, ..TestCounts::default() },
            Self::Failed(_) => TestCounts { failed: 1, ..TestCounts::default() },
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Ok => "ok".to_owned(),
            Self::PartlyTested(what) => format!("ok       NOT TESTED: {what}"),
            Self::Counted(counts) => format!("ok       {counts}"),
            Self::Skipped(reason) => format!("SKIPPED  {reason}"),
            Self::Failed(reason) => format!("FAILED   {reason}"),
            Self::FailedTests(reason, counts) => format!("FAILED   {counts}: {reason}"),
        }
    }
}
