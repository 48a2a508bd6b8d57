//! Publishes Avro events to Kafka through a schema registry and lists the acknowledged records.
//!
//! It is the data source of the demonstration, the load generator of the benchmarks and, through
//! its ledger, the reference for the tests. Modules in the order of the data flow: [`generator`]
//! creates events from a seed, [`traffic`] mixes in duplicates and poison, [`encoder`] writes the
//! wire format, the publisher sends the bytes to Kafka, and the [`ledger`] lists the records that
//! Kafka acknowledged.

pub mod clock;
pub mod config;
pub mod encoder;
pub mod error;
pub mod event;
pub mod generator;
pub mod ledger;
mod pacer;
pub mod preview;
mod progress;
mod publish_loop;
mod publisher;
mod schema_registry;
mod stop_request;
pub mod traffic;
pub mod worker;

pub use config::{Args, Config};
pub use error::ProducerError;
pub use worker::{RunSummary, run};
