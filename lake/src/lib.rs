//! What Ducktide's workers share: the DuckLake session, the commit protocol and its catalog tables.
//!
//! Rows and progress enter the lake in one catalog transaction (`transaction`), where triggers
//! (`catalog`) compare-and-swap each partition's `(epoch, next_offset)`. [`Lake`] is what a worker
//! sees of it.

pub mod commit;
pub mod config;
pub mod conformance;
pub mod dead_letter;
pub mod dedupe;
#[cfg(feature = "endpoints")]
pub mod endpoints;
pub mod error;
pub mod invariants;
pub mod kafka_property;
pub mod position;
pub mod postgres_settings;
#[cfg(feature = "process")]
pub mod process;
pub mod standing;
pub mod table;
pub mod telemetry;
pub mod text_table;
pub mod units;

mod data_path_claim;
mod lake;
mod memory;
mod reason;
mod staged_file;

#[cfg(feature = "duckdb")]
mod alter;
#[cfg(feature = "duckdb")]
mod catalog;
#[cfg(feature = "duckdb")]
mod cause;
#[cfg(feature = "duckdb")]
mod consumer_group;
#[cfg(feature = "duckdb")]
mod data_path;
#[cfg(feature = "duckdb")]
mod dead_letters;
#[cfg(feature = "duckdb")]
mod duck_lake;
#[cfg(feature = "duckdb")]
mod duckdb_error;
#[cfg(feature = "duckdb")]
mod extensions;
#[cfg(feature = "duckdb")]
pub mod failpoint;
#[cfg(feature = "duckdb")]
pub mod health;
#[cfg(feature = "duckdb")]
pub mod maintenance;
#[cfg(feature = "duckdb")]
mod overview;
#[cfg(feature = "duckdb")]
pub mod parquet_encoding;
#[cfg(feature = "duckdb")]
mod recent_rows;
#[cfg(feature = "duckdb")]
mod refusals;
#[cfg(feature = "duckdb")]
pub mod replay;
#[cfg(feature = "duckdb")]
mod session;
#[cfg(feature = "duckdb")]
mod snapshots;
#[cfg(feature = "duckdb")]
mod storage;
#[cfg(feature = "duckdb")]
mod transaction;
#[cfg(feature = "duckdb")]
pub mod verify;

pub use data_path_claim::DataPathClaim;
pub use error::{ErrorKind, LakeError, Result};
pub use lake::{Lake, Source, SourceSpec, Table, TableVersion};
pub use memory::MemoryLake;
pub use postgres_settings::{PostgresSettings, PostgresSettingsError};
pub use staged_file::StagedFile;

#[cfg(feature = "duckdb")]
pub use catalog::PartitionProgress;
#[cfg(feature = "duckdb")]
pub use catalog::intent::{Intent, IntentKind};
#[cfg(feature = "duckdb")]
pub use catalog::pin::{Keeper, Kept, Pin};
#[cfg(feature = "duckdb")]
pub use dead_letters::{LetterFilter, LetterSummary};
#[cfg(feature = "duckdb")]
pub use duck_lake::{DuckLake, Resources, Setup};
#[cfg(feature = "duckdb")]
pub use overview::{Overview, SnapshotRange, TableSize};
#[cfg(feature = "duckdb")]
pub use session::Access;
#[cfg(feature = "duckdb")]
pub use snapshots::Snapshot;
