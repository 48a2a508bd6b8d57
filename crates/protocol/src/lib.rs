//! Commit protocol, without a database.
//!
//! Rows and progress enter a lake in one transaction that compares-and-swaps each partition's
//! `(epoch, next_offset)`. [`commit`] defines the content of a transaction, [`commit_state`]
//! decides the outcome of one whose answer was lost, [`invariants`] has the predicates of the guarantee,
//! and [`Lake`] is the interface for workers. [`MemoryLake`] and the lake in DuckLake pass the same [`conformance`] suite.

pub mod cause;
pub mod commit;
pub mod commit_state;
pub mod conformance;
pub mod dead_letter;
pub mod dedupe;
pub mod error;
pub mod failpoint;
pub mod invariants;
pub mod ledger;
pub mod position;
pub mod reason;
pub mod table;

mod data_path_claim;
mod field_ids;
mod lake;
mod lake_table;
mod memory;
mod source;
mod staged_file;

pub use data_path_claim::DataPathClaim;
pub use error::{ErrorKind, LakeError, LakeFault, Result};
pub use field_ids::{FieldId, FieldIds};
pub use lake::Lake;
pub use lake_table::{Table, TableVersion};
pub use memory::MemoryLake;
pub use source::{Source, SourceSpec};
pub use staged_file::{FileFooter, StagedColumn, StagedFile};
