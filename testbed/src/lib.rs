//! Local services, end-to-end tests, benchmarks and the demonstration.
//!
//! [`services`] starts the real parts on this machine, [`program`] the workspace's own programs;
//! [`oracle`] says, by means of another reader than ours, whether the lake holds what a producer
//! saw acknowledged. Nothing started here outlives the process that started it, however that ends.

mod blocking;
pub mod catalog;
pub mod chaos;
pub mod compactor;
pub mod duckdb_cli;
pub mod faults;
mod guarded_child;
pub mod http;
pub mod kafka_admin;
pub mod oracle;
pub mod pipeline;
pub mod program;
pub mod raw_records;
pub mod services;
pub mod wait;
mod watchdog;
pub mod worker;
pub mod workspace;
