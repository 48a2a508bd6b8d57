//! What went wrong, sorted by what the caller does next.

use std::error::Error as StdError;
use std::fmt;

use crate::catalog::format::UnknownFormat;
use crate::config::without_passwords;

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
}

impl ErrorKind {
    /// The name used in logs and as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Invalid => "invalid",
        }
    }
}

/// An operation on the lake that failed.
#[derive(Debug)]
pub struct LakeError {
    kind: ErrorKind,
    context: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of an operation on the lake.
pub type Result<T, E = LakeError> = std::result::Result<T, E>;

impl LakeError {
    /// An outage: the call may be repeated.
    pub fn unavailable(context: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Unavailable, context: context.into(), source: None }
    }

    /// A state that only an operator can change; the text names the setting and the remedy.
    pub fn invalid(context: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Invalid, context: context.into(), source: None }
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
        self.source.as_deref().is_some_and(|source| source.is::<UnknownFormat>())
    }

    /// The error and everything that it came from, in one line. DuckDB and libpq repeat the catalog's
    /// URL in their texts; its password is left out.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            let line = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            text = format!("{text}: {line}");
            cause = error.source();
        }
        without_passwords(&text)
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
