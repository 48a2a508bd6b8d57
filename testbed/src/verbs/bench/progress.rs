//! Progress of a benchmark.

/// Prints progress to standard error; standard output contains only the table.
#[expect(clippy::print_stderr, reason = "progress of a benchmark that takes minutes")]
pub(super) fn log_progress(text: &str) {
    eprintln!("{text}");
}
