//! The operator's tool: sets up, monitors, verifies, replays and queries a lake. One module for each
//! command.

mod args;
mod attach;
mod dead_letters;
mod failure;
mod init;
mod replay;
mod roles;
mod skip;
mod snapshots;
mod source;
mod sql;
mod status;
mod verify;
mod version;

pub use args::{Args, Verb, run};
pub use attach::AttachArgs;
pub use dead_letters::DeadLettersArgs;
pub use failure::Failure;
pub use init::InitArgs;
pub use replay::ReplayArgs;
pub use roles::RolesArgs;
pub use skip::SkipArgs;
pub use snapshots::SnapshotsArgs;
pub use sql::SqlArgs;
pub use sql::output::Format;
pub use status::StatusArgs;
pub use verify::VerifyArgs;
pub use version::VersionArgs;
