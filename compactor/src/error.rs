//! Errors that end the compactor.

use ducktide_protocol::{ErrorKind, LakeError};
use ducktide_service::traces::TraceError;
use thiserror::Error;

use crate::config::ConfigError;

/// Error that ends the compactor.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum CompactorError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{}", .0.chain())]
    Lake(#[from] LakeError),
    #[error("another compactor is the leader of this lake{}; wait for it or stop it", .0.as_ref().map_or(String::new(), |holder| format!(": {holder}")))]
    NotLeader(Option<String>),
    #[error("some due operations were not done; run it again: {0}")]
    Incomplete(String),
    #[error(
        "serve metrics; choose another --listen, or correct --metrics-token-file, --listen-certificate or --listen-key: {0}"
    )]
    Listen(std::io::Error),
    #[error(transparent)]
    Traces(#[from] TraceError),
    #[error("write the plan: {0}")]
    Output(#[from] std::io::Error),
    #[error(
        "--shutdown-timeout expired before the current operation finished; it is abandoned without any change"
    )]
    ShutdownTimeout,
    #[error("the worker thread panicked; its message was logged")]
    Panicked,
}

impl CompactorError {
    /// Returns the exit code of the process; `--help` lists them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Panicked | Self::Output(_) => 1,
            Self::Config(_) | Self::Listen(_) | Self::Traces(_) => 2,
            Self::NotLeader(_) | Self::Incomplete(_) => 3,
            Self::Lake(error) => match error.kind() {
                ErrorKind::Setting => 2,
                ErrorKind::Unavailable => 3,
                ErrorKind::Invalid => 4,
            },
            Self::ShutdownTimeout => 6,
        }
    }
}
