//! What went wrong, sorted by what the caller does next.

use std::error::Error as StdError;
use std::fmt;

use thiserror::Error;

use crate::reason::reason;

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Catalog or storage did not answer, or not in time: the same call may be made again later.
    ///
    /// For a commit this also means: progress was read afterwards and stands where the commit
    /// starts, so sending the same files again is right.
    Unavailable,
    /// Waiting will not help: stop and tell the operator. Nothing was lost.
    Invalid,
    /// A setting can never work: stop before anything is touched, with the exit code of a wrong command
    /// line.
    Setting,
}

impl ErrorKind {
    /// The name used in logs and as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Invalid => "invalid",
            Self::Setting => "setting",
        }
    }
}

/// An operation on the lake that failed.
#[derive(Debug)]
pub struct LakeError {
    kind: ErrorKind,
    context: String,
    /// Whether there is no lake, or no Ducktide in it, which `init` would help against.
    is_missing: bool,
    /// Whether an outage in unknown words may be behind it.
    is_doubtful: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The lake's catalog has a format that this version does not know.
#[derive(Debug, Error)]
#[error("catalog_format=`{found}` supported=`{supported}`")]
pub struct UnknownFormat {
    /// Format of the catalog; empty if it has none.
    pub found: String,
    /// Format that this version reads and writes.
    pub supported: &'static str,
}

/// The result of an operation on the lake.
pub type Result<T, E = LakeError> = std::result::Result<T, E>;

impl LakeError {
    /// An outage: the call may be repeated.
    pub fn unavailable(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, context)
    }

    /// A state that only an operator can change; the text names the setting and the remedy.
    pub fn invalid(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, context)
    }

    /// A setting that can never work; the text names it.
    pub fn setting(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Setting, context)
    }

    /// There is no lake there, or no Ducktide in it.
    pub fn missing(context: impl Into<String>) -> Self {
        Self { is_missing: true, ..Self::invalid(context) }
    }

    /// An error of a kind that was found out elsewhere.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), is_missing: false, is_doubtful: false, source: None }
    }

    /// Whether there is no lake, or no Ducktide in it: what `init` would make.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// Adds the error that this one came from.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller does next.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the catalog has a format that this program does not know, as after a migration by a newer
    /// DuckDB client.
    #[must_use]
    pub fn is_unknown_format(&self) -> bool {
        self.source
            .as_deref()
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<UnknownFormat>)
    }

    /// The error and everything that it came from, in one line: of databases their own message, without
    /// the statement and its values.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            let line = reason(&error.to_string());
            // Some errors repeat their cause.
            if !text.contains(&line) {
                text = format!("{text}: {line}");
            }
            cause = error.source();
        }
        text
    }
}

/// What only a lake that DuckDB holds answers.
impl LakeError {
    /// An error of the file system: full disks and the like pass, missing permissions do not.
    pub fn of_io(context: impl Into<String>, error: std::io::Error) -> Self {
        let made = match crate::cause::of_io(&error) {
            crate::cause::Cause::Outage => Self::unavailable(context),
            crate::cause::Cause::Fault => Self::invalid(context),
        };
        made.because(error)
    }

    /// A refusal that is known by its text alone, and counts when it is repeated.
    pub fn refused(context: impl Into<String>) -> Self {
        Self { is_doubtful: true, ..Self::invalid(context) }
    }

    /// Whether an outage in unknown words may be behind it.
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// The same as a refusal, which counts when it is repeated.
    #[must_use]
    pub fn into_refusal(self) -> Self {
        Self { kind: ErrorKind::Invalid, is_doubtful: true, ..self }
    }

    /// The same as an outage: it is tried again before it counts.
    #[must_use]
    pub fn doubted(mut self) -> Self {
        self.kind = ErrorKind::Unavailable;
        self
    }
}

impl fmt::Display for LakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl StdError for LakeError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|error| error as _)
    }
}
