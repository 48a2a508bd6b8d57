//! Why a verb failed, and what the exit code says of it.

use std::io;

use ducktide_consumer::{ClusterError, ClusterErrorKind, KafkaSettingsError};
use ducktide_protocol::{ErrorKind, LakeError};
use thiserror::Error;

/// A verb that failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// The lake cannot be used.
    #[error("{}", .0.chain())]
    Lake(#[from] LakeError),
    /// DuckDB refused a query; these are its own words.
    #[error("{0}")]
    Query(#[from] duckdb::Error),
    /// The command line can be parsed, but not followed.
    #[error("{0}")]
    Usage(&'static str),
    /// Kafka's client does not take its settings.
    #[error(transparent)]
    KafkaSettings(#[from] KafkaSettingsError),
    /// What was asked for makes no sense, or would lose something; nothing was touched.
    #[error("{0}")]
    Refused(String),
    /// Kafka does not answer.
    #[error("ask Kafka: {0}")]
    Kafka(#[from] ClusterError),
    /// The query could not be read.
    #[error("read the query from standard input: {0}")]
    Input(#[source] io::Error),
    /// The answer could not be written.
    #[error("write the answer: {0}")]
    Output(#[from] io::Error),
    /// Dead letters cannot be moved to their table; which ones and why was said on standard output.
    #[error("{count} of the dead letters stay open")]
    StayOpen {
        /// How many.
        count: usize,
    },
    /// A verification found something, and has said what on standard output.
    #[error("the lake is not exact")]
    Found {
        /// The exit code of the worst finding.
        exit_status: u8,
    },
}

impl Failure {
    /// The exit code, as the help has it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Output(error) if is_closed_pipe(error) => 0,
            Self::Query(_)
            | Self::Refused(_)
            | Self::Input(_)
            | Self::Output(_)
            | Self::StayOpen { .. } => 1,
            Self::Usage(_) | Self::KafkaSettings(_) => 2,
            Self::Kafka(error) => match error.kind() {
                ClusterErrorKind::Settings => 2,
                ClusterErrorKind::Outage | ClusterErrorKind::Refusal => 3,
            },
            Self::Found { exit_status } => *exit_status,
            Self::Lake(error) => match error.kind() {
                ErrorKind::Unavailable => 3,
                ErrorKind::Invalid => 4,
                ErrorKind::Setting => 2,
            },
        }
    }

    /// Says it on standard error.
    #[expect(clippy::print_stderr, reason = "the one place where the tool says what went wrong")]
    pub fn print(&self) {
        match self {
            // As in `ducktide sql … | head`: whoever closes the pipe has seen enough.
            Self::Output(error) if is_closed_pipe(error) => {}
            // The judgement is the answer, and was printed as such.
            Self::Found { .. } => {}
            Self::Query(error) => eprintln!("{error}"),
            other => eprintln!("error: {other}"),
        }
    }
}

fn is_closed_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_whether_waiting_helps() {
        assert_eq!(Failure::from(LakeError::unavailable("read the catalog")).exit_code(), 3);
        assert_eq!(Failure::from(LakeError::invalid("there is no lake")).exit_code(), 4);
        assert_eq!(Failure::from(LakeError::setting("no such sslmode")).exit_code(), 2);
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        assert_eq!(Failure::Output(io::ErrorKind::BrokenPipe.into()).exit_code(), 0);
        assert_eq!(Failure::Output(io::ErrorKind::StorageFull.into()).exit_code(), 1);
    }
}
