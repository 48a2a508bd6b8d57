//! Lake on DuckLake: DuckDB session, catalog tables and triggers, transactions, schema changes.
//!
//! One catalog transaction ([`transaction`]) adds rows and progress to the lake; its triggers
//! ([`catalog`]) compare-and-swap each partition's `(epoch, next_offset)`. [`DuckLake`] implements
//! [`Lake`](ducktide_protocol::Lake), the interface of a worker.

pub mod catalog;
pub mod config;
pub mod conformance;
pub mod data_path;
pub mod duckdb_error;
pub mod parquet_encoding;
pub mod parquet_field_ids;
pub mod parquet_footer;
pub mod postgres_settings;
pub mod rows;
pub mod session;
pub mod storage;
pub mod transaction;

mod alter;
mod dead_letters;
mod duck_lake;
mod extensions;
mod login;
mod object_storage;
mod overview;
mod recent_rows;
mod refusals;
mod register_files;
mod send;
mod snapshots;
mod sql_text;
mod versions;

pub use catalog::PartitionProgress;
pub use catalog::client::CatalogClient;
pub use catalog::dialect::Dialect;
pub use catalog::intent::{Intent, IntentKind};
pub use catalog::pin::{HoldReason, Pin, RetentionHold};
pub use dead_letters::{DeadLetterFilter, DeadLetterSummary};
pub use duck_lake::init::Setup;
pub use duck_lake::tables::read_layout;
pub use duck_lake::{DuckLake, WriteLocks};
pub use overview::{Overview, SnapshotRange, TableSize};
pub use postgres_settings::{PostgresSettings, PostgresSettingsError};
pub use register_files::register_files;
pub use session::{Access, Resources};
pub use snapshots::Snapshot;
pub use versions::{ComponentVersion, Versions};

/// Format of DuckLake's catalog tables that this version reads and writes.
pub const CATALOG_FORMAT: &str = catalog::format::FORMAT;
