//! Docker Compose, version 2: the client's plugin, or a program that is built from its Go module.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::Result;

use super::{call, docker::Docker};
use crate::{layout, setup};

/// How Compose is started.
pub(super) struct Compose {
    /// None: `docker compose`.
    program: Option<PathBuf>,
    description: String,
}

pub(super) enum Search {
    Found(Compose),
    /// It cannot be had; says why.
    Nothing(String),
}

impl Compose {
    pub(super) fn find_or_build(docker: &Docker) -> Result<Search> {
        if let Ok(version) = docker.run(["compose", "version", "--short"]) {
            let description = format!("{version}, the client's plugin");
            return Ok(Search::Found(Self { program: None, description }));
        }
        if !setup::for_compose()? {
            let why = "the docker client has no Compose v2 (`docker compose version`), and Go, \
                       which could build it, is not installed: install docker-compose-plugin or Go";
            return Ok(Search::Nothing(why.to_owned()));
        }
        let program = layout::tool("docker-compose");
        let version = call::output(
            call::within(Duration::from_secs(30), &program).args(["version", "--short"]),
        )?;
        let description = format!("{version}, built from its Go module");
        Ok(Search::Found(Self { program: Some(program), description }))
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }

    /// The words that start it, for a shell.
    pub(super) fn words(&self) -> Vec<String> {
        self.program.as_ref().map_or_else(
            || vec!["docker".to_owned(), "compose".to_owned()],
            |program| vec![program.display().to_string()],
        )
    }

    pub(super) fn command(&self, limit: Duration) -> Command {
        let words = self.words();
        let mut command = call::within(limit, &words[0]);
        command.args(&words[1..]);
        command
    }
}
