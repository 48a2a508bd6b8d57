//! Second stage: records become rows of Parquet files that are not committed yet.

pub(crate) mod batcher;
pub(crate) mod command;
pub(crate) mod context;
pub(crate) mod core;
pub mod dead_letter;
pub(crate) mod dedupe;
pub(crate) mod event;
pub(crate) mod partial_batch;
pub(crate) mod partition_cursor;
pub mod staging;
pub(crate) mod staging_area;
pub(crate) mod table_writer;
pub(crate) mod topic_route;
