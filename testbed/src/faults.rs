//! Faults that no service can be asked for, aimed at the moment where they hurt.

mod commit_proxy;
mod held_catalog;
mod held_commit_lock;
mod sick_http;
mod small_disk;

pub use commit_proxy::{CommitProxy, Fault};
pub use held_catalog::HeldCatalog;
pub use held_commit_lock::HeldCommitLock;
pub use sick_http::{SickHttp, Sickness};
pub use small_disk::SmallDisk;
