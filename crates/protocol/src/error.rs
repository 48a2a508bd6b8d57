//! Errors of lake operations, by what the caller does next.

use std::error::Error as StdError;
use std::fmt;

use thiserror::Error;

use crate::cause::{self, Cause};
use crate::reason::reason;
use crate::table::{Difference, TableName};

/// Next step of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Catalog or storage did not answer, or not in time: the same call can be retried later.
    ///
    /// After a commit it also means that the committed progress is still at the start of the commit, so
    /// the same files can be sent again.
    Unavailable,
    /// Waiting does not help: stop and report to the operator. Nothing was lost.
    Invalid,
    /// A setting can never work: stop before anything is changed, with the exit code of an invalid
    /// command line.
    Setting,
}

impl ErrorKind {
    /// Returns the name used in logs and as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Invalid => "invalid",
            Self::Setting => "setting",
        }
    }
}

/// State of a lake that a program decides on. Only an operator can change it; the text names the remedy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LakeFault {
    /// The catalog holds no DuckLake.
    #[error("there is no lake; create it with `ducktide init`: catalog=`{catalog}`")]
    NoLake {
        /// Location of the catalog, without secrets.
        catalog: String,
    },
    /// The catalog holds a DuckLake without Ducktide's tables.
    #[error("the lake has no Ducktide tables; add them with `ducktide init`")]
    NotInstalled,
    /// The layout of Ducktide's tables, or their triggers, need a newer program.
    #[error(
        "the lake needs a newer Ducktide; upgrade this program: {key}=`{required}` program=`{supported}`"
    )]
    NewerLayout {
        /// Key in `ducktide_meta`.
        key: &'static str,
        /// Version that the lake requires.
        required: u32,
        /// Version of this program.
        supported: u32,
    },
    /// The layout of Ducktide's tables is older than this program needs, or its commit function is missing.
    #[error(
        "the lake was made by an older Ducktide, or its commit function is missing; upgrade it with \
         `ducktide init`, as the role that created it: layout_version=`{found}` needed=`{needed}`"
    )]
    OlderLayout {
        /// Version of the layout.
        found: u32,
        /// Version that this program needs.
        needed: u32,
    },
    /// DuckLake's tables have columns that their format does not name, as after a change by hand.
    #[error(
        "DuckLake's catalog tables have columns that Ducktide does not know, so nothing may be written; \
         upgrade Ducktide to a version that supports them, or restore the tables: columns=`{columns}`"
    )]
    UnknownCatalogColumns {
        /// Columns with their tables.
        columns: String,
    },
    /// The format of DuckLake's own tables is unknown, as after a migration by a newer DuckDB client.
    #[error(
        "the catalog has a format that this version of Ducktide does not know, probably because a newer \
         DuckDB client migrated it with AUTOMATIC_MIGRATION; restore a backup of the catalog from before \
         the migration, or upgrade Ducktide to a version that supports the format; attach newer clients \
         with DUCKLAKE_VERSION '1.0', and readers as a role that does not own the metadata tables: \
         catalog_format=`{found}` supported=`{supported}`"
    )]
    UnknownCatalogFormat {
        /// Format of the catalog; empty if it has none.
        found: String,
        /// Format that this version reads and writes.
        supported: &'static str,
    },
    /// Triggers are missing or disabled, so nothing may be written (invariant I7).
    #[error(
        "the lake's triggers are missing or disabled, so nothing may be written; restore them with \
         `ducktide init`, then run `ducktide verify --deep`: found=`{found}` needed=`{needed}`"
    )]
    TriggersMissing {
        /// Number of enabled triggers.
        found: usize,
        /// Number of triggers of a whole lake.
        needed: usize,
    },
    /// A table cannot hold the rows of a schema.
    #[error(
        "the table does not fit the topic's schema; alter it, or name another with --table: \
         table=`{table}` {difference}"
    )]
    TableMismatch {
        /// Existing table.
        table: TableName,
        /// Columns that are missing or have another type.
        difference: Difference,
    },
}

impl LakeFault {
    /// Returns false for a fault of one table, which leaves the other tables usable.
    #[must_use]
    pub const fn concerns_whole_lake(&self) -> bool {
        match self {
            Self::NoLake { .. }
            | Self::NotInstalled
            | Self::NewerLayout { .. }
            | Self::OlderLayout { .. }
            | Self::UnknownCatalogColumns { .. }
            | Self::UnknownCatalogFormat { .. }
            | Self::TriggersMissing { .. } => true,
            Self::TableMismatch { .. } => false,
        }
    }
}

/// An operation on the lake that failed.
#[derive(Debug)]
pub struct LakeError {
    failure: Failure,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Content of an error, by kind. Nothing is decided by the texts.
#[derive(Debug)]
enum Failure {
    Unavailable(String),
    Invalid(String),
    Setting(String),
    /// A refusal that is known by a database's text alone, so it may be an outage in unknown words.
    Refused(String),
    Fault(LakeFault),
}

/// The result of an operation on the lake.
pub type Result<T, E = LakeError> = std::result::Result<T, E>;

impl LakeError {
    const fn new(failure: Failure) -> Self {
        Self { failure, source: None }
    }

    /// Creates the error of an outage: the call can be retried.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::new(Failure::Unavailable(text.into()))
    }

    /// Creates the error of a state that only an operator can change; the text names the setting and the
    /// remedy. A state that a program decides on is a [`LakeFault`].
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(Failure::Invalid(text.into()))
    }

    /// Creates the error of a setting that can never work; the text names it.
    pub fn setting(text: impl Into<String>) -> Self {
        Self::new(Failure::Setting(text.into()))
    }

    /// Creates the error of a refusal that is known by its text alone: it counts when it is repeated.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::new(Failure::Refused(text.into()))
    }

    /// Creates the error of a known state of the lake.
    #[must_use]
    pub const fn from_fault(fault: LakeFault) -> Self {
        Self::new(Failure::Fault(fault))
    }

    /// Creates the error of the file system: a full disk is an outage, a missing permission is not.
    pub fn of_io(text: impl Into<String>, error: std::io::Error) -> Self {
        let failed = match cause::of_io(&error) {
            Cause::Outage => Self::unavailable(text),
            Cause::Fault => Self::invalid(text),
        };
        failed.because(error)
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns the next step of the caller.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match &self.failure {
            Failure::Unavailable(_) => ErrorKind::Unavailable,
            Failure::Setting(_) => ErrorKind::Setting,
            Failure::Invalid(_) | Failure::Refused(_) | Failure::Fault(_) => ErrorKind::Invalid,
        }
    }

    /// Returns the state of the lake that is the reason, if it is a known one.
    #[must_use]
    pub const fn fault(&self) -> Option<&LakeFault> {
        match &self.failure {
            Failure::Fault(fault) => Some(fault),
            _ => None,
        }
    }

    /// Returns true for a refusal that is known by its text alone, which may be an outage.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self.failure, Failure::Refused(_))
    }

    /// Returns the same error as an outage, which is retried before it counts.
    #[must_use]
    pub fn into_unavailable(self) -> Self {
        Self { failure: Failure::Unavailable(self.to_string()), source: self.source }
    }

    /// Returns the error and its causes in one line: of databases their own message, without the statement
    /// and its values.
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

impl fmt::Display for LakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            Failure::Unavailable(text)
            | Failure::Invalid(text)
            | Failure::Setting(text)
            | Failure::Refused(text) => f.write_str(text),
            Failure::Fault(fault) => fault.fmt(f),
        }
    }
}

impl StdError for LakeError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|error| error as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_its_remedy_and_keeps_its_cause() {
        let fault = LakeFault::NoLake { catalog: "sqlite:a".to_owned() };

        let error = LakeError::from_fault(fault.clone()).because("no such table: a");

        assert_eq!((error.kind(), error.fault()), (ErrorKind::Invalid, Some(&fault)));
        let text = "there is no lake; create it with `ducktide init`: catalog=`sqlite:a`";
        assert_eq!(error.chain(), format!("{text}: no such table: a"));
    }

    #[test]
    fn a_refusal_becomes_an_outage_with_the_same_text() {
        let error = LakeError::refused("commit").because("permission denied for table t");
        assert!(error.is_refusal() && error.kind() == ErrorKind::Invalid);
        let text = error.chain();

        let error = error.into_unavailable();

        assert!(!error.is_refusal() && error.kind() == ErrorKind::Unavailable);
        assert_eq!(error.chain(), text);
    }
}
