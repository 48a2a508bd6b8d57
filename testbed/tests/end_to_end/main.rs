//! End-to-end tests with the real programs, Kafka, a schema registry, PostgreSQL and DuckDB's
//! command line. All tests are in one program, so that it is linked once; `cargo xtask test` starts
//! one set of services and runs each test in its own process.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod broker_errors;
mod catalog_errors;
mod catalog_servers;
mod chaos;
mod conformance;
mod dead_letters;
mod dedupe;
mod documents;
mod evolution;
mod failpoints;
mod groups;
mod hazards;
mod health;
mod monitoring;
mod native_commits;
mod object_storage;
mod oracle;
mod outages;
mod package;
mod pipeline;
mod replay;
mod roles;
mod security;
mod services;
mod topics;
mod traces;
mod verify;
mod without_duckdb;
