//! Docker Compose, version 2: the plugin of the client, or a program built from its Go module.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::Result;

use super::{docker::Docker, process};
use crate::{layout, setup};

/// The Compose program.
pub(super) struct Compose {
    /// None means `docker compose`.
    program: Option<PathBuf>,
    description: String,
}

pub(super) enum ComposeSearch {
    Found(Compose),
    /// Compose is not available, with the reason.
    Unavailable(String),
}

impl Compose {
    pub(super) fn find_or_build(docker: &Docker) -> Result<ComposeSearch> {
        if let Ok(version) = docker.run(["compose", "version", "--short"]) {
            let description = format!("{version}, client plugin");
            return Ok(ComposeSearch::Found(Self { program: None, description }));
        }
        if !setup::for_compose()? {
            let reason = "the docker client has no Compose v2 (`docker compose version`), and Go, \
                       which could build it, is not installed: install docker-compose-plugin or Go";
            return Ok(ComposeSearch::Unavailable(reason.to_owned()));
        }
        let program = layout::tool("docker-compose");
        let version = process::output(
            process::with_timeout(Duration::from_secs(30), &program).args(["version", "--short"]),
        )?;
        let description = format!("{version}, built from its Go module");
        Ok(ComposeSearch::Found(Self { program: Some(program), description }))
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }

    /// Returns the program and its arguments, for a shell.
    pub(super) fn arguments(&self) -> Vec<String> {
        self.program.as_ref().map_or_else(
            || vec!["docker".to_owned(), "compose".to_owned()],
            |program| vec![program.display().to_string()],
        )
    }

    pub(super) fn command(&self, limit: Duration) -> Command {
        let arguments = self.arguments();
        let mut command = process::with_timeout(limit, &arguments[0]);
        command.args(&arguments[1..]);
        command
    }
}
