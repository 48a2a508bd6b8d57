//! Why the compactor ends.

use ducktide_lake::{ErrorKind, LakeError};
use thiserror::Error;

use crate::config::ConfigError;

/// Why the compactor ends other than as asked.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum CompactorError {
    #[error("{0}")]
    Config(#[from] ConfigError),
    #[error("{}", .0.chain())]
    Lake(#[from] LakeError),
    #[error("another compactor leads this lake{}; let it work, or stop it", .0.as_ref().map_or(String::new(), |holder| format!(": {holder}")))]
    AnotherLeads(Option<String>),
    #[error("not everything that is due could be done; run it again: {0}")]
    Undone(String),
    #[error("serve metrics; choose another --listen: {0}")]
    Listen(std::io::Error),
    #[error("write the plan: {0}")]
    Output(#[from] std::io::Error),
    #[error(
        "--shutdown-timeout was over before the current operation ended; it is given up, whole"
    )]
    ShutdownTimeout,
    #[error("the working thread ended unexpectedly; its message was logged")]
    Panicked,
}

impl CompactorError {
    /// The process's exit code, as `--help` lists them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Panicked | Self::Output(_) => 1,
            Self::Config(_) | Self::Listen(_) => 2,
            Self::AnotherLeads(_) | Self::Undone(_) => 3,
            Self::Lake(error) => match error.kind() {
                ErrorKind::Setting => 2,
                ErrorKind::Unavailable => 3,
                ErrorKind::Invalid => 4,
            },
            Self::ShutdownTimeout => 6,
        }
    }
}
