//! Services that tests share.
//!
//! `cargo xtask test` starts one set for all tests and names it in [`SERVICES_VARIABLE`]. Without
//! that variable, the first use of a service in a process starts it; statics are never dropped, so
//! its watchdog ends it when the process ends. Each test has its own topics and databases; a test
//! that stops a service starts one for itself.

use std::{
    env,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context as _, Result};

use super::{Azure, Gcs, Kafka, Postgres, Registry, S3, Services, log_folder};

/// Environment variable that names running services, as [`exported`] formats it:
/// `kafka=PORT,registry=PORT,postgres=PORT`.
const SERVICES_VARIABLE: &str = "DUCKTIDE_TEST_SERVICES";

/// Returns the environment variable that makes tests use these services, and its value.
#[must_use]
pub fn exported(services: &Services) -> (&'static str, String) {
    let Services { kafka, registry, postgres } = services;
    let ports = (kafka.port(), registry.port(), postgres.port());
    (SERVICES_VARIABLE, format!("kafka={},registry={},postgres={}", ports.0, ports.1, ports.2))
}

/// Returns the broker that all tests share.
///
/// # Panics If it cannot be started: no test can continue.
pub fn kafka() -> &'static Kafka {
    static KAFKA: OnceLock<Kafka> = OnceLock::new();
    KAFKA.get_or_init(|| expect_started(running_or("kafka", Kafka::at, Kafka::start)))
}

/// Returns the schema registry that all tests share.
///
/// # Panics If it cannot be started: no test can continue.
pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| expect_started(running_or("registry", Registry::at, Registry::start)))
}

/// Returns the database server that all tests share.
///
/// # Panics If it cannot be started: no test can continue.
pub fn postgres() -> &'static Postgres {
    static POSTGRES: OnceLock<Postgres> = OnceLock::new();
    POSTGRES.get_or_init(|| expect_started(running_or("postgres", Postgres::at, Postgres::start)))
}

/// Returns the object store of this process. Few tests need one, and it starts in less than a second.
///
/// # Panics If it cannot be started: no test can continue.
pub fn s3() -> &'static S3 {
    static STORE: OnceLock<S3> = OnceLock::new();
    STORE.get_or_init(|| expect_started(S3::start(logs())))
}

/// Returns the object store with the protocol of Azure of this process.
///
/// # Panics If it cannot be started: no test can continue.
pub fn azure() -> &'static Azure {
    static STORE: OnceLock<Azure> = OnceLock::new();
    STORE.get_or_init(|| expect_started(Azure::start(logs())))
}

/// Returns the object store with the interface of Google Cloud Storage of this process.
///
/// # Panics If it cannot be started: no test can continue.
pub fn gcs() -> &'static Gcs {
    static STORE: OnceLock<Gcs> = OnceLock::new();
    STORE.get_or_init(|| expect_started(Gcs::start(logs())))
}

/// Returns the service that the environment variable names, or starts a new one.
fn running_or<T>(name: &str, at: fn(u16) -> T, start: fn(&Path) -> Result<T>) -> Result<T> {
    match env::var(SERVICES_VARIABLE).as_deref() {
        Err(_) | Ok("") => start(logs()),
        Ok(running) => port_of(name, running).map(at),
    }
}

fn port_of(name: &str, running: &str) -> Result<u16> {
    let mut services = running.split(',').filter_map(|service| service.split_once('='));
    services
        .find(|(service, _)| *service == name)
        .and_then(|(_, port)| port.parse().ok())
        .with_context(|| format!("no port for {name} in {SERVICES_VARIABLE}=`{running}`"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_the_name_of_the_service() {
        let running = "kafka=9092,registry=8081,postgres=5432";
        assert_eq!(port_of("registry", running).ok(), Some(8081));
        assert!(port_of("minio", running).is_err());
        assert!(port_of("kafka", "kafka=x").is_err());
    }
}
