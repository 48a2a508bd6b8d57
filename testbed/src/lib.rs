//! Local services, end-to-end tests, benchmarks and the demonstration.
//!
//! [`services`] starts Kafka, the schema registry and PostgreSQL, [`program`] the workspace's own
//! programs. [`oracle`] compares the lake with the records that Kafka acknowledged to a producer;
//! it reads the lake with the DuckDB command line, which shares no code with Ducktide.
//!
//! No started process outlives the process that started it, even after SIGKILL.

mod blocking;
pub mod catalog;
pub mod certificates;
pub mod chaos;
pub mod compactor;
mod connections;
pub mod duckdb_cli;
pub mod faults;
mod guarded_child;
pub mod http;
mod http_message;
pub mod kafka_admin;
pub mod lake_place;
pub mod markdown;
pub mod oracle;
pub mod pipeline;
pub mod program;
pub mod raw_records;
mod s3_signature;
pub mod services;
pub mod tls_proxy;
pub mod wait;
mod watchdog;
pub mod worker;
pub mod workspace;
