//! One stack under a name of its own, on ports of its own.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    HEALTHY_WITHIN, call, docker::Docker, images::OwnImage, plugin::Compose, port,
    watchdog::Watchdog,
};
use crate::layout;

/// The ports of 127.0.0.1 where services are published.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub(super) kafka: u16,
    pub(super) registry: u16,
    pub(super) postgres: u16,
    pub(super) prometheus: u16,
    pub(super) grafana: u16,
}

pub(super) struct Project<'a> {
    docker: &'a Docker,
    compose: &'a Compose,
    name: String,
    files: &'a [&'a str],
    environment: Vec<(&'static str, String)>,
    pub(super) ports: Ports,
    /// Takes the stack down with its volumes, also when this process is killed.
    watchdog: Option<Watchdog>,
}

/// Stopping all of it politely, and whatever else ends by itself.
const DONE_WITHIN: Duration = Duration::from_mins(3);

/// What the test turns up: more events than by default, so that files are merged soon.
const PACE: [(&str, &str); 2] = [("DUCKTIDE_RATE", "500"), ("DUCKTIDE_TIER_INTERVALS", "5s")];

impl<'a> Project<'a> {
    /// A stack that is not up yet. `.env.example` gives the defaults that it says it gives.
    pub(super) fn new(
        docker: &'a Docker,
        compose: &'a Compose,
        image: &OwnImage,
        files: &'a [&'a str],
    ) -> Result<Self> {
        let [kafka, registry, postgres, prometheus, grafana] = port::free()?;
        let ports = Ports { kafka, registry, postgres, prometheus, grafana };
        let mut environment = vec![
            ("DUCKTIDE_IMAGE", image.name.clone()),
            ("KAFKA_PORT", kafka.to_string()),
            ("REGISTRY_PORT", registry.to_string()),
            ("POSTGRES_PORT", postgres.to_string()),
            ("PROMETHEUS_PORT", prometheus.to_string()),
            ("GRAFANA_PORT", grafana.to_string()),
        ];
        environment.extend(PACE.map(|(key, value)| (key, value.to_owned())));
        let name = format!("ducktide-test-{}", std::process::id());
        let mut project = Self { docker, compose, name, files, environment, ports, watchdog: None };
        project.watchdog = Some(project.start_watchdog().context("start a watchdog")?);
        Ok(project)
    }

    fn start_watchdog(&self) -> std::io::Result<Watchdog> {
        let words = [self.compose.words(), self.words()].concat();
        let environment = self.environment.iter().map(|(key, value)| (*key, value.as_str()));
        let environment = environment.chain(self.docker.environment());
        let down = r#""$@" down --volumes --remove-orphans --timeout 5"#;
        Watchdog::start(down, words.iter().map(String::as_str), environment)
    }

    /// Which stack, for every order to Compose. A profile that is named also goes down.
    fn words(&self) -> Vec<String> {
        let root = layout::root();
        let mut words = vec![
            "--project-name".to_owned(),
            self.name.clone(),
            "--profile=tools".to_owned(),
            format!("--project-directory={}", root.display()),
            format!("--env-file={}", root.join(".env.example").display()),
        ];
        words.extend(self.files.iter().map(|file| format!("--file={}", root.join(file).display())));
        words
    }

    fn command(&self, limit: Duration) -> Command {
        let mut command = self.compose.command(limit);
        command.args(self.words()).envs(self.docker.environment());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        call::output(self.command(DONE_WITHIN).args(words))
    }

    /// Whether Compose understands the files.
    pub(super) fn check(&self) -> Result<()> {
        self.run(&["config", "--quiet"]).map(drop)
    }

    /// Starts these services and what they need, and waits until they are healthy.
    pub(super) fn up(&self, words: &[&str]) -> Result<()> {
        let command = ["up", "--detach", "--no-build", "--wait"];
        call::output(self.command(HEALTHY_WITHIN).args(command).args(words)).map(drop)
    }

    pub(super) fn stop(&self, service: &str) -> Result<()> {
        self.run(&["stop", service]).map(drop)
    }

    /// Takes all containers down, politely; volumes stay.
    pub(super) fn down(&self) -> Result<()> {
        self.run(&["down"]).map(drop)
    }

    /// Takes it down with its volumes, and makes sure that nothing is left.
    pub(super) fn remove(&self) -> Result<()> {
        self.run(&["down", "--volumes"])?;
        let label = format!("label=com.docker.compose.project={}", self.name);
        for (what, list) in [
            ("container", &["ps", "--all"][..]),
            ("volume", &["volume", "ls"]),
            ("network", &["network", "ls"]),
        ] {
            let left = self.docker.run(list.iter().copied().chain(["-q", "--filter", &label]))?;
            ensure!(left.is_empty(), "down --volumes left a {what} behind: {left}");
        }
        Ok(())
    }

    /// What the operator's tool answers.
    pub(super) fn tool(&self, words: &[&str]) -> Result<String> {
        let run = ["run", "--rm", "--no-deps", "-T", "ducktide"];
        call::output(self.command(DONE_WITHIN).args(run).args(words))
    }

    /// What a shell answers that sees the tool's volumes.
    pub(super) fn shell(&self, script: &str) -> Result<String> {
        let run = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "sh", "ducktide", "-c"];
        call::output(self.command(DONE_WITHIN).args(run).arg(script))
    }

    /// The ids of a service's running containers.
    pub(super) fn containers(&self, service: &str) -> Result<Vec<String>> {
        let ids = self.run(&["ps", "--quiet", "--status=running", service])?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Ends one of a service's containers by SIGKILL.
    pub(super) fn kill(&self, service: &str) -> Result<()> {
        let running = self.containers(service)?;
        let first = running.first().with_context(|| format!("no {service} is running"))?;
        self.docker.run(["kill", "--signal=KILL", first]).map(drop)
    }

    /// The end of all services' logs.
    pub(super) fn logs(&self) -> String {
        let logs = self.run(&["logs", "--no-color", "--tail=25"]);
        logs.unwrap_or_else(|error| format!("no logs: {error:#}"))
    }
}

/// Runs the body; when it fails, the services' logs become part of the error.
pub(super) fn with_logs(project: &Project<'_>, body: impl FnOnce() -> Result<()>) -> Result<()> {
    body().map_err(|error| {
        let logs = project.logs();
        error.context(format!("the stack's logs end:\n{logs}\n"))
    })
}
