//! How every worker logs: text for people at a terminal, JSON lines for machines, on standard error.

use std::collections::BTreeSet;
use std::env::{self, VarError};
use std::io::{self, IsTerminal as _, Stderr, Write};

use thiserror::Error;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Overrides the choice between text and JSON.
const FORMAT_VARIABLE: &str = "DUCKTIDE_LOG_FORMAT";

/// What a worker logs when `RUST_LOG` does not say.
const DEFAULT_FILTER: &str = "info";

/// What an operator's tool logs when `RUST_LOG` does not say. The tool itself says in its answer that
/// Kafka cannot be reached, where librdkafka would say so for every attempt.
const TOOL_FILTER: &str = "warn,librdkafka=off,rdkafka=off";

/// A variable that says how to log, and cannot be followed.
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

/// Why something has to wait: each reason is told once in a wait, not at every try, also where two of
/// them take turns; and so is the end of the wait.
#[derive(Debug, Default)]
pub struct Trouble(BTreeSet<String>);

/// How many reasons are remembered: more than causes that a wait can have, where their texts stay the
/// same.
const REASONS: usize = 32;

impl Trouble {
    /// Takes note of a failed try; whether its reason is new in this wait. Numbers do not make a reason
    /// another one.
    pub fn is_news(&mut self, reason: &str) -> bool {
        if self.0.len() >= REASONS {
            return false;
        }
        self.0.insert(reason.split(|c: char| c.is_ascii_digit()).collect())
    }

    /// Takes note that a try succeeded; whether that ends a wait.
    pub fn is_over(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}

/// Starts logging for the whole process, once, and logs that `program` started.
///
/// What is logged comes from `RUST_LOG` (default `info`); how, from `DUCKTIDE_LOG_FORMAT` (`text`
/// or `json`; by default text on a terminal and JSON elsewhere). Lines of libraries that use the
/// `log` crate are included. A second call leaves the first one's choices in place.
pub fn init(program: &'static str) -> Result<(), TelemetryError> {
    let terminal = io::stderr().is_terminal();
    let started = start(terminal, DEFAULT_FILTER)?;
    if started {
        tracing::info!(program, version = env!("CARGO_PKG_VERSION"), "started");
    }
    Ok(())
}

/// Starts logging for a tool that a person runs: warnings only, and text also where standard error
/// is not a terminal. `RUST_LOG` and `DUCKTIDE_LOG_FORMAT` count as for a worker.
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
        Format::Text => {
            subscriber.with_ansi(terminal).with_writer(move || Lines::new(terminal)).try_init()
        }
        Format::Json => subscriber.json().flatten_event(true).with_writer(io::stderr).try_init(),
    };
    Ok(started.is_ok())
}

/// Logs one of librdkafka's own lines. To be called from a client context's `log`, with syslog's
/// level from 0 (emergency) to 7 (debug).
pub fn log_librdkafka(syslog_level: i32, facility: &str, message: &str) {
    match librdkafka_level(syslog_level) {
        Level::ERROR => tracing::error!(target: "librdkafka", facility, "{message}"),
        Level::WARN => tracing::warn!(target: "librdkafka", facility, "{message}"),
        Level::INFO => tracing::info!(target: "librdkafka", facility, "{message}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// librdkafka calls each lost connection an error, although it connects again by itself. An error
/// here is one that a human must look at, and the worker that gives up logs that one.
const fn librdkafka_level(syslog_level: i32) -> Level {
    match syslog_level {
        ..=2 => Level::ERROR,
        3 | 4 => Level::WARN,
        5 => Level::INFO,
        _ => Level::DEBUG,
    }
}

/// A variable's value; an empty one counts as not set, as compose files write it.
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

/// Standard error; on a terminal each line first clears what stands there, because a progress bar
/// may, and leaves the bar to draw itself again below.
struct Lines {
    stderr: Stderr,
    clear: bool,
}

impl Lines {
    fn new(clear: bool) -> Self {
        Self { stderr: io::stderr(), clear }
    }
}

impl Write for Lines {
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
    fn a_reason_is_told_once_in_a_wait_and_again_in_the_next() {
        let mut trouble = Trouble::default();
        assert!(!trouble.is_over(), "there was none");

        let told = ["refused", "refused", "starting", "starting", "refused", "port 1", "port 25"];
        let news = [true, false, true, false, false, true, false];
        assert_eq!(told.map(|reason| trouble.is_news(reason)), news);

        assert!(trouble.is_over());
        assert!(!trouble.is_over(), "that is told once");
        assert!(trouble.is_news("refused"));
    }

    #[test]
    fn people_get_text_and_machines_json_unless_told_otherwise() {
        assert_eq!(format(None, true).expect("a format"), Format::Text);
        assert_eq!(format(None, false).expect("a format"), Format::Json);
        assert_eq!(format(Some("json"), true).expect("a format"), Format::Json);
        assert_eq!(format(Some("text"), false).expect("a format"), Format::Text);
    }

    #[test]
    fn settings_that_cannot_be_followed_are_refused_by_name() {
        let error = format(Some("xml"), true).expect_err("no such format").to_string();
        assert!(error.contains("DUCKTIDE_LOG_FORMAT") && error.contains("`xml`"), "{error}");
        let error =
            filter(Some("ducktide=loud"), DEFAULT_FILTER).expect_err("no such level").to_string();
        assert!(error.contains("RUST_LOG"), "{error}");
        for default in [DEFAULT_FILTER, TOOL_FILTER] {
            filter(None, default).expect("our own defaults can be followed");
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
