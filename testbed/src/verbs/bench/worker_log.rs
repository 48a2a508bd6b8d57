//! Times and numbers from the log of a worker.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Line {
    timestamp: String,
    message: String,
}

/// Returns the time from the first line with one message to the last line with another, in a log of
/// JSON lines.
pub(super) fn time_between(log: &str, first: &str, last: &str) -> Result<Duration> {
    // Other lines, such as those of a panic, have no time.
    let lines: Vec<Line> = log.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let from = time(lines.iter().find(|line| line.message == first), first)?;
    let to = time(lines.iter().rfind(|line| line.message == last), last)?;
    (to - from).try_into().with_context(|| format!("`{last}` comes before `{first}` in a log"))
}

/// Returns the time from `start` to the first line with a message.
pub(super) fn time_since(start: SystemTime, log: &str, message: &str) -> Result<Duration> {
    let lines: Vec<Line> = log.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let at = time(lines.iter().find(|line| line.message == message), message)?;
    let start = Timestamp::try_from(start).context("convert the time of the start")?;
    (at - start).try_into().with_context(|| format!("`{message}` comes before the start"))
}

/// Returns a numeric field of all lines with a message.
pub(super) fn numbers(log: &str, message: &str, field: &str) -> Vec<f64> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"] == message)
        .filter_map(|line| line[field].as_f64())
        .collect()
}

fn time(line: Option<&Line>, message: &str) -> Result<Timestamp> {
    let line = line.with_context(|| format!("find `{message}` in a log"))?;
    line.timestamp.parse().with_context(|| format!("parse the time of `{message}` in a log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"{"timestamp":"2026-01-01T00:00:00.5Z","message":"started"}
{"timestamp":"2026-01-01T00:00:01Z","message":"assigned"}
{"timestamp":"2026-01-01T00:00:02Z","message":"assigned"}
thread panicked
{"timestamp":"2026-01-01T00:00:03Z","message":"committed"}
{"timestamp":"2026-01-01T00:00:04.25Z","message":"committed"}"#;

    #[test]
    fn time_is_measured_from_the_first_to_the_last_line() {
        let time = time_between(LOG, "assigned", "committed").unwrap();
        assert_eq!(time, Duration::from_millis(3250));
    }

    #[test]
    fn numbers_are_read_from_the_lines_with_the_message_and_the_field() {
        let log = r#"{"message":"committed","elapsed_ms":12}
{"message":"other","elapsed_ms":99}
{"message":"committed"}"#;
        assert_eq!(numbers(log, "committed", "elapsed_ms"), [12.0]);
    }

    #[test]
    fn a_missing_message_is_named_in_the_error() {
        let error = time_between(LOG, "assigned", "stopped").unwrap_err().to_string();
        assert!(error.contains("`stopped`"), "{error}");
        assert!(time_between(LOG, "committed", "assigned").is_err());
    }
}
