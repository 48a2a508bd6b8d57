//! Faults that a service cannot produce on request.

mod commit_proxy;
mod credential_server;
mod held_catalog;
mod held_commit_lock;
mod http_fault_proxy;
mod small_disk;
mod store_fault_proxy;

pub use commit_proxy::{CommitFault, CommitProxy};
pub use credential_server::{Account, CredentialServer};
pub use held_catalog::HeldCatalog;
pub use held_commit_lock::HeldCommitLock;
pub use http_fault_proxy::{HttpFault, HttpFaultProxy};
pub use small_disk::SmallDisk;
pub use store_fault_proxy::{RequestCounts, RequestKind, StoreFault, StoreFaultProxy};
