//! Faults that no service can be asked for, aimed at the moment where they hurt.

mod commit_proxy;
mod held_catalog;
mod held_commit_lock;

pub use commit_proxy::{CommitProxy, Fault};
pub use held_catalog::HeldCatalog;
pub use held_commit_lock::HeldCommitLock;
