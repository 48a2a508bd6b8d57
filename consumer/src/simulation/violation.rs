//! Results of checks.

/// Description of a violation.
pub(super) type Violation = String;
