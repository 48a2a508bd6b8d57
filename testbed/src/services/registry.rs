//! Apicurio Registry, which implements the Confluent API.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{
    backend::{Backend, BackendKind, External, Service},
    container::{Container, Image},
    port,
    process::{Process, data_folder},
};
use crate::{guarded_child::Launch, http, workspace};

/// Started schema registry.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    backend: Box<dyn Backend>,
}

/// Path of the Confluent API.
const API: &str = "/apis/ccompat/v7";

/// Enough for a few requests.
const HEAP: &str = "-Xmx256m";

/// Options for a quick start. Not for the image: its start script selects a garbage collector.
const JVM: &[&str] = &[HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

impl Registry {
    /// Returns the registry that another process started on this port of 127.0.0.1.
    pub(super) fn at(port: u16) -> Self {
        Self { port, backend: Box::new(External) }
    }

    /// Starts an empty registry and waits until it is ready. Its log is `registry.log` in the
    /// folder.
    pub fn start(logs: &Path) -> Result<Self> {
        let port = port::free()?;
        let log = logs.join("registry.log");
        let backend: Box<dyn Backend> = match BackendKind::from_env()? {
            BackendKind::Process => Box::new(start_process(port, log)?),
            BackendKind::Container => Box::new(start_container(port, log)?),
        };
        let mut registry = Self { port, backend };
        registry.await_ready().context("start the schema registry")?;
        Ok(registry)
    }

    /// Returns the value of `SCHEMA_REGISTRY_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port)
    }

    /// Returns the port on this machine.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL with another port, such as that of a proxy.
    #[must_use]
    pub fn url_at(&self, port: u16) -> String {
        format!("http://127.0.0.1:{port}{API}")
    }

    /// Returns the names of all subjects.
    pub fn subjects(&self) -> Result<Vec<String>> {
        let subjects = http::get(self.port, &format!("{API}/subjects"))?;
        serde_json::from_str(&subjects).context("parse subjects")
    }

    /// Lets the registry outlive this process. Returns the shell command that ends it.
    #[must_use]
    pub fn leave_running(self) -> String {
        self.backend.leave_running()
    }
}

impl Service for Registry {
    fn backend(&mut self) -> &mut dyn Backend {
        &mut *self.backend
    }

    fn check_ready(&self) -> Result<()> {
        self.subjects().map(|_| ())
    }
}

/// Returns the URL of a database file that is written synchronously, so that schemas survive a
/// kill.
fn database(folder: &Path) -> String {
    format!("jdbc:h2:file:{}/registry;WRITE_DELAY=0", folder.display())
}

fn start_process(port: u16, log: PathBuf) -> Result<Process> {
    let data = data_folder("registry")?;
    let program = workspace::downloaded("registry/quarkus-run.jar")?;
    let settings = [
        "-Dquarkus.http.host=127.0.0.1".to_owned(),
        format!("-Dquarkus.http.port={port}"),
        // Health and metrics have a separate listener, by default on a fixed port.
        "-Dquarkus.management.host=127.0.0.1".to_owned(),
        format!("-Dquarkus.management.port={}", port::free()?),
        format!("-Dapicurio.datasource.url={}", database(data.path())),
    ];
    let launch = Launch::new(workspace::downloaded("java/bin/java")?).args(JVM).args(settings);
    let launch = Launch { folder: program.parent().map(Path::to_owned), ..launch };
    Process::start(launch.args(["-jar"]).args([program]), Signal::TERM, log, data)
}

fn start_container(port: u16, log: PathBuf) -> Result<Container> {
    let environment = vec![
        ("JAVA_OPTS_APPEND".to_owned(), HEAP.to_owned()),
        ("APICURIO_DATASOURCE_URL".to_owned(), database(Path::new("/tmp"))),
    ];
    let (name, tag) = ("apicurio/apicurio-registry", "3.3.3");
    let image = Image { name, tag, port: 8080, environment, command: &[] };
    Container::start("registry", image, port, log)
}
