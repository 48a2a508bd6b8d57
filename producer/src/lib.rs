//! Publishes Avro events to Kafka through a schema registry, and records what was acknowledged.
//!
//! It is the demonstration's source of data, the load generator of the benchmarks and, through its
//! ledger, the oracle of every test. Data meets the modules in this order: [`generator`] makes
//! events from a seed, [`traffic`] mixes in duplicates and poison, [`encoder`] writes the wire
//! format, the publisher hands the bytes to Kafka, and the [`ledger`] keeps what Kafka acknowledged.

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
mod publication;
mod publisher;
mod schema_registry;
mod stop;
pub mod traffic;
pub mod worker;

pub use config::{Args, Config};
pub use error::ProducerError;
pub use worker::{Summary, run};
