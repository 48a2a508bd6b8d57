//! One stack with its own name and ports.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    docker::Docker, images::OwnImage, plugin::Compose, port, process, timeouts::HEALTHY_TIMEOUT,
    watchdog::Watchdog,
};
use crate::layout;

/// Published ports on 127.0.0.1.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub(super) kafka: u16,
    pub(super) registry: u16,
    pub(super) postgres: u16,
    pub(super) s3: u16,
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
    /// Removes the stack with its volumes, also when this process is killed.
    watchdog: Option<Watchdog>,
}

/// Timeout of a graceful stop and of other commands that terminate.
const STOP_TIMEOUT: Duration = Duration::from_mins(3);

/// Settings of the test: a higher rate than the default, so that files are merged soon.
const TEST_SETTINGS: [(&str, &str); 2] =
    [("DUCKTIDE_RATE", "500"), ("DUCKTIDE_TIER_INTERVALS", "5s")];

impl<'a> Project<'a> {
    /// Creates a stack that is not started yet. `.env.example` sets the documented defaults.
    pub(super) fn new(
        docker: &'a Docker,
        compose: &'a Compose,
        image: &OwnImage,
        files: &'a [&'a str],
    ) -> Result<Self> {
        let [kafka, registry, postgres, s3, prometheus, grafana] = port::free()?;
        let ports = Ports { kafka, registry, postgres, s3, prometheus, grafana };
        let mut environment = vec![
            ("DUCKTIDE_IMAGE", image.name.clone()),
            ("KAFKA_PORT", kafka.to_string()),
            ("REGISTRY_PORT", registry.to_string()),
            ("POSTGRES_PORT", postgres.to_string()),
            ("S3_PORT", s3.to_string()),
            ("PROMETHEUS_PORT", prometheus.to_string()),
            ("GRAFANA_PORT", grafana.to_string()),
        ];
        environment.extend(TEST_SETTINGS.map(|(key, value)| (key, value.to_owned())));
        let name = format!("ducktide-test-{}", std::process::id());
        let mut project = Self { docker, compose, name, files, environment, ports, watchdog: None };
        project.watchdog = Some(project.start_watchdog().context("start a watchdog")?);
        Ok(project)
    }

    fn start_watchdog(&self) -> std::io::Result<Watchdog> {
        let arguments = [self.compose.arguments(), self.arguments()].concat();
        let environment = self.environment.iter().map(|(key, value)| (*key, value.as_str()));
        let environment = environment.chain(self.docker.environment());
        let down = r#""$@" down --volumes --remove-orphans --timeout 5"#;
        Watchdog::start(down, arguments.iter().map(String::as_str), environment)
    }

    /// Returns the arguments that select the stack in every Compose command. The profile is
    /// included so that its services are removed too.
    fn arguments(&self) -> Vec<String> {
        let root = layout::root();
        let mut arguments = vec![
            "--project-name".to_owned(),
            self.name.clone(),
            "--profile=tools".to_owned(),
            format!("--project-directory={}", root.display()),
            format!("--env-file={}", root.join(".env.example").display()),
        ];
        arguments
            .extend(self.files.iter().map(|file| format!("--file={}", root.join(file).display())));
        arguments
    }

    fn command(&self, limit: Duration) -> Command {
        let mut command = self.compose.command(limit);
        command.args(self.arguments()).envs(self.docker.environment());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        process::output(self.command(STOP_TIMEOUT).args(arguments))
    }

    /// Checks that Compose accepts the files.
    pub(super) fn check(&self) -> Result<()> {
        self.run(&["config", "--quiet"]).map(drop)
    }

    /// Starts these services with their dependencies and waits until they are healthy.
    pub(super) fn up(&self, arguments: &[&str]) -> Result<()> {
        let command = ["up", "--detach", "--no-build", "--wait"];
        process::output(self.command(HEALTHY_TIMEOUT).args(command).args(arguments)).map(drop)
    }

    pub(super) fn stop(&self, service: &str) -> Result<()> {
        self.run(&["stop", service]).map(drop)
    }

    /// Stops and removes all containers gracefully; volumes are kept.
    pub(super) fn down(&self) -> Result<()> {
        self.run(&["down"]).map(drop)
    }

    /// Removes the stack with its volumes, and checks that nothing is left.
    pub(super) fn remove(&self) -> Result<()> {
        self.run(&["down", "--volumes"])?;
        let label = format!("label=com.docker.compose.project={}", self.name);
        for (what, list) in [
            ("container", &["ps", "--all"][..]),
            ("volume", &["volume", "ls"]),
            ("network", &["network", "ls"]),
        ] {
            let left = self.docker.run(list.iter().copied().chain(["-q", "--filter", &label]))?;
            ensure!(left.is_empty(), "`down --volumes` did not remove a {what}: {left}");
        }
        Ok(())
    }

    /// Runs the operator's tool and returns its output.
    pub(super) fn run_tool(&self, arguments: &[&str]) -> Result<String> {
        let run = ["run", "--rm", "--no-deps", "-T", "ducktide"];
        process::output(self.command(STOP_TIMEOUT).args(run).args(arguments))
    }

    /// Runs a shell with the volumes of the tool and returns its output.
    pub(super) fn run_shell(&self, script: &str) -> Result<String> {
        let run = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "sh", "ducktide", "-c"];
        process::output(self.command(STOP_TIMEOUT).args(run).arg(script))
    }

    /// Returns the ids of the running containers of a service.
    pub(super) fn containers(&self, service: &str) -> Result<Vec<String>> {
        let ids = self.run(&["ps", "--quiet", "--status=running", service])?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Kills one container of a service with SIGKILL.
    pub(super) fn kill(&self, service: &str) -> Result<()> {
        let running = self.containers(service)?;
        let first = running.first().with_context(|| format!("no {service} is running"))?;
        self.docker.run(["kill", "--signal=KILL", first]).map(drop)
    }

    /// Returns the last log lines of all services, those of our programs last.
    pub(super) fn logs(&self) -> String {
        let all = self.logs_of(&[]);
        let ours = self.logs_of(&["init", "producer", "consumer", "compactor"]);
        format!("{all}\n{ours}")
    }

    /// Returns the last log lines of these services, or of all.
    fn logs_of(&self, services: &[&str]) -> String {
        let logs = self.run(&[&["logs", "--no-color", "--tail=25"], services].concat());
        logs.unwrap_or_else(|error| format!("no logs: {error:#}"))
    }
}

/// Runs the body; if it fails, adds the logs of the services to the error.
pub(super) fn with_logs(project: &Project<'_>, body: impl FnOnce() -> Result<()>) -> Result<()> {
    body().map_err(|error| {
        let logs = project.logs();
        error.context(format!("last log lines of the stack:\n{logs}\n"))
    })
}
