//! What needs real services: Kafka, a schema registry, PostgreSQL, the DuckDB command line and the
//! real programs. One program holds all of it, so that it is linked once; `cargo xtask test`
//! starts the services once for all and runs each test in a process of its own.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod broker_errors;
mod catalog_errors;
mod chaos;
mod conformance;
mod dead_letters;
mod dedupe;
mod evolution;
mod failpoints;
mod groups;
mod hazards;
mod health;
mod monitoring;
mod oracle;
mod outages;
mod pipeline;
mod replay;
mod services;
mod topics;
mod verify;
