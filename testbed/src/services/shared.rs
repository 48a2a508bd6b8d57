//! Services that all tests of one test program share.
//!
//! Each is started by the first test that asks for it. Statics are never dropped; the services end
//! when the process does, by their watchdogs. Tests keep out of each other's way by topics and
//! databases of their own; a test that stops a service starts one for itself.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::Result;

use super::{Kafka, Postgres, Registry, log_folder};

/// The broker that the tests of this process share.
///
/// # Panics
/// When it cannot be started: no test could go on.
pub fn kafka() -> &'static Kafka {
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    KAFKA.get_or_init(|| expect_started(Kafka::start(logs())))
}

/// The schema registry that the tests of this process share.
///
/// # Panics
/// When it cannot be started: no test could go on.
pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| expect_started(Registry::start(logs())))
}

/// The database server that the tests of this process share.
///
/// # Panics
/// When it cannot be started: no test could go on.
pub fn postgres() -> &'static Postgres {
    static POSTGRES: OnceLock<Postgres> = OnceLock::new();
    POSTGRES.get_or_init(|| expect_started(Postgres::start(logs())))
}

fn logs() -> &'static Path {
    static LOGS: OnceLock<PathBuf> = OnceLock::new();
    LOGS.get_or_init(|| expect_started(log_folder()))
}

fn expect_started<T>(result: Result<T>) -> T {
    match result {
        Ok(started) => started,
        Err(error) => panic!("a test that needs real services cannot run: {error:?}"),
    }
}
