//! Logging of every program to standard error: text at a terminal, JSON lines elsewhere.

use std::collections::BTreeSet;
use std::env::{self, VarError};
use std::io::{self, IsTerminal as _, Stderr, Write};

use thiserror::Error;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Variable that selects text or JSON.
const FORMAT_VARIABLE: &str = "DUCKTIDE_LOG_FORMAT";

/// Filter of a worker without `RUST_LOG`.
const DEFAULT_FILTER: &str = "info";

/// Filter of an operator's tool without `RUST_LOG`. The tool itself reports that Kafka is unreachable;
/// librdkafka would log every attempt.
const TOOL_FILTER: &str = "warn,librdkafka=off,rdkafka=off";

/// Invalid value of a variable for logging.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum TelemetryError {
    #[error("read DUCKTIDE_LOG_FORMAT: expected text or json: value=`{value}`")]
    Format { value: String },
    #[error("read RUST_LOG: expected a filter such as info or ducktide_lake=debug: {0}")]
    Filter(#[from] ParseError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// Filter for the log of a retry loop: each reason is logged once, also if several alternate, and so is
/// the recovery.
#[derive(Debug, Default)]
pub struct LogOnChange(BTreeSet<String>);

/// Maximum number of remembered reasons: more than the possible causes of one outage.
const REASONS: usize = 32;

impl LogOnChange {
    /// Records the reason of a failed attempt; returns true if it is new since the last success. Reasons
    /// that differ in digits only are the same.
    pub fn is_new(&mut self, reason: &str) -> bool {
        if self.0.len() >= REASONS {
            return false;
        }
        self.0.insert(reason.split(|c: char| c.is_ascii_digit()).collect())
    }

    /// Records a successful attempt; returns true if an attempt before it failed.
    pub fn recovered(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}

/// Starts logging for the whole process, once, and logs that `program` started.
///
/// `RUST_LOG` sets the filter (default `info`), `DUCKTIDE_LOG_FORMAT` the format (`text` or `json`;
/// default text at a terminal and JSON elsewhere). Events of libraries that use the `log` crate are
/// included. A second call changes nothing.
pub fn init(program: &'static str) -> Result<(), TelemetryError> {
    let terminal = io::stderr().is_terminal();
    let started = start(terminal, DEFAULT_FILTER)?;
    if started {
        tracing::info!(program, version = env!("CARGO_PKG_VERSION"), "started");
    }
    Ok(())
}

/// Starts logging for an operator's tool: warnings only, and text even if standard error is not a
/// terminal. `RUST_LOG` and `DUCKTIDE_LOG_FORMAT` apply as for a worker.
pub fn init_tool() -> Result<(), TelemetryError> {
    start(true, TOOL_FILTER).map(|_| ())
}

/// Returns whether this call was the first.
fn start(text: bool, default_filter: &str) -> Result<bool, TelemetryError> {
    let terminal = io::stderr().is_terminal();
    let format = format(variable(FORMAT_VARIABLE).as_deref(), text)?;
    let filter = filter(variable(EnvFilter::DEFAULT_ENV).as_deref(), default_filter)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    let started = match format {
        Format::Text => subscriber
            .with_ansi(terminal)
            .with_writer(move || StderrLines::new(terminal))
            .try_init(),
        Format::Json => subscriber.json().flatten_event(true).with_writer(io::stderr).try_init(),
    };
    Ok(started.is_ok())
}

/// Logs an event of librdkafka. Call it from a client context's `log`, with syslog's level from 0
/// (emergency) to 7 (debug).
pub fn log_librdkafka(syslog_level: i32, facility: &str, message: &str) {
    match librdkafka_level(syslog_level) {
        Level::ERROR => tracing::error!(target: "librdkafka", facility, "{message}"),
        Level::WARN => tracing::warn!(target: "librdkafka", facility, "{message}"),
        Level::INFO => tracing::info!(target: "librdkafka", facility, "{message}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// Maps the levels of librdkafka, which logs each lost connection as an error although it reconnects
/// automatically. In Ducktide an error requires an operator; a worker that ends logs its own.
const fn librdkafka_level(syslog_level: i32) -> Level {
    match syslog_level {
        ..=2 => Level::ERROR,
        3 | 4 => Level::WARN,
        5 => Level::INFO,
        _ => Level::DEBUG,
    }
}

/// Returns a variable's value; None if it is empty, as compose files write unset variables.
fn variable(name: &str) -> Option<String> {
    match env::var(name) {
        Ok(value) => Some(value).filter(|value| !value.is_empty()),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(value)) => Some(value.to_string_lossy().into_owned()),
    }
}

fn format(setting: Option<&str>, text: bool) -> Result<Format, TelemetryError> {
    match setting {
        Some("text") => Ok(Format::Text),
        Some("json") => Ok(Format::Json),
        Some(value) => Err(TelemetryError::Format { value: value.to_owned() }),
        None if text => Ok(Format::Text),
        None => Ok(Format::Json),
    }
}

fn filter(setting: Option<&str>, default: &str) -> Result<EnvFilter, TelemetryError> {
    Ok(EnvFilter::try_new(setting.unwrap_or(default))?)
}

/// Writer to standard error. On a terminal it clears the current line first, which can hold a progress
/// bar; the bar is drawn again below.
struct StderrLines {
    stderr: Stderr,
    clear: bool,
}

impl StderrLines {
    fn new(clear: bool) -> Self {
        Self { stderr: io::stderr(), clear }
    }
}

impl Write for StderrLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut stderr = self.stderr.lock();
        if std::mem::take(&mut self.clear) {
            stderr.write_all(b"\r\x1b[K")?;
        }
        stderr.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stderr.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_new_once_until_the_next_success() {
        let mut log = LogOnChange::default();
        assert!(!log.recovered(), "no attempt failed");

        let reasons =
            ["refused", "refused", "starting", "starting", "refused", "port 1", "port 25"];
        let are_new = [true, false, true, false, false, true, false];
        assert_eq!(reasons.map(|reason| log.is_new(reason)), are_new);

        assert!(log.recovered());
        assert!(!log.recovered(), "reported once");
        assert!(log.is_new("refused"));
    }

    #[test]
    fn a_terminal_gets_text_and_a_pipe_json_by_default() {
        assert_eq!(format(None, true).expect("a format"), Format::Text);
        assert_eq!(format(None, false).expect("a format"), Format::Json);
        assert_eq!(format(Some("json"), true).expect("a format"), Format::Json);
        assert_eq!(format(Some("text"), false).expect("a format"), Format::Text);
    }

    #[test]
    fn invalid_settings_are_named_in_the_error() {
        let error = format(Some("xml"), true).expect_err("no such format").to_string();
        assert!(error.contains("DUCKTIDE_LOG_FORMAT") && error.contains("`xml`"), "{error}");
        let error =
            filter(Some("ducktide=loud"), DEFAULT_FILTER).expect_err("no such level").to_string();
        assert!(error.contains("RUST_LOG"), "{error}");
        for default in [DEFAULT_FILTER, TOOL_FILTER] {
            filter(None, default).expect("the default filters are valid");
        }
    }

    #[test]
    fn a_lost_connection_is_a_warning_and_a_fatal_error_an_error() {
        assert_eq!(librdkafka_level(0), Level::ERROR);
        assert_eq!(librdkafka_level(3), Level::WARN);
        assert_eq!(librdkafka_level(5), Level::INFO);
        assert_eq!(librdkafka_level(7), Level::DEBUG);
    }

    #[test]
    fn logging_can_be_started_twice() {
        init("test").expect("started");
        init("test").expect("left in place");
        log_librdkafka(3, "FAIL", "connection refused");
    }
}
