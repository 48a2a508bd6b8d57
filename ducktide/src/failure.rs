//! Failures of commands and their exit codes.

use std::io;

use ducktide_consumer::{ClusterError, ClusterErrorKind};
use ducktide_kafka::KafkaSettingsError;
use ducktide_protocol::{ErrorKind, LakeError};
use thiserror::Error;

/// Failure of a command.
#[derive(Debug, Error)]
pub enum Failure {
    /// The lake cannot be used.
    #[error("{}", .0.chain())]
    Lake(#[from] LakeError),
    /// DuckDB refused a query.
    #[error("{0}")]
    Query(#[from] duckdb::Error),
    /// The command line can be parsed, but is incomplete or inconsistent.
    #[error("{0}")]
    Usage(&'static str),
    /// Kafka's client rejects its settings.
    #[error(transparent)]
    KafkaSettings(#[from] KafkaSettingsError),
    /// The request is invalid, or would lose data. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// Kafka did not answer.
    #[error("query Kafka: {0}")]
    Kafka(#[from] ClusterError),
    /// The query could not be read.
    #[error("read the query from standard input: {0}")]
    Input(#[source] io::Error),
    /// The output could not be written.
    #[error("write the output: {0}")]
    Output(#[from] io::Error),
    /// Dead letters could not be moved to their table. Standard output has the reasons.
    #[error("some dead letters are still open: count=`{count}`")]
    StillOpen {
        /// Number of dead letters that are still open.
        count: usize,
    },
    /// A verification has findings. Standard output has them.
    #[error("the lake is not exact")]
    NotExact {
        /// Exit code of the worst finding.
        exit_status: u8,
    },
}

impl Failure {
    /// Returns the exit code that the help documents.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Output(error) if is_closed_pipe(error) => 0,
            Self::Query(_)
            | Self::Refused(_)
            | Self::Input(_)
            | Self::Output(_)
            | Self::StillOpen { .. } => 1,
            Self::Usage(_) | Self::KafkaSettings(_) => 2,
            Self::Kafka(error) => match error.kind() {
                ClusterErrorKind::Settings => 2,
                ClusterErrorKind::Outage | ClusterErrorKind::Refusal => 3,
            },
            Self::NotExact { exit_status } => *exit_status,
            Self::Lake(error) => match error.kind() {
                ErrorKind::Unavailable => 3,
                ErrorKind::Invalid => 4,
                ErrorKind::Setting => 2,
            },
        }
    }

    /// Prints the failure to standard error.
    #[expect(clippy::print_stderr, reason = "the one place where the tool reports failures")]
    pub fn print(&self) {
        match self {
            // As in `ducktide sql … | head`: the reader has closed the pipe on purpose.
            Self::Output(error) if is_closed_pipe(error) => {}
            // The judgement is the output, and is printed.
            Self::NotExact { .. } => {}
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
    fn the_exit_code_distinguishes_outages_from_faults() {
        assert_eq!(Failure::from(LakeError::unavailable("read the catalog")).exit_code(), 3);
        assert_eq!(Failure::from(LakeError::invalid("there is no lake")).exit_code(), 4);
        assert_eq!(Failure::from(LakeError::setting("no such sslmode")).exit_code(), 2);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert_eq!(Failure::Output(io::ErrorKind::BrokenPipe.into()).exit_code(), 0);
        assert_eq!(Failure::Output(io::ErrorKind::StorageFull.into()).exit_code(), 1);
    }
}
