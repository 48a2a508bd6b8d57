//! The `docker` command, typed as far as it is used here.

use std::{ffi::OsStr, path::Path, process::Command, time::Duration};

use anyhow::Result;

use super::call;

/// An engine, by the client that talks to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Docker {
    /// Overrides the environment's `DOCKER_HOST`.
    host: Option<String>,
}

/// A question, or an order that is carried out at once.
const QUICK: Duration = Duration::from_mins(1);

/// Building an image: with the programs' compilation half an hour on two cores.
const BUILD: Duration = Duration::from_hours(1);

/// Pulling one image over a slow line.
const PULL: Duration = Duration::from_mins(10);

/// Marks an image as none of the official ones.
const STAND_IN: &str = "ducktide.stand-in";

impl Docker {
    /// The engine that the environment names, or that listens where engines do.
    pub(super) fn of_environment() -> Self {
        Self::default()
    }

    pub(super) fn at(socket: &Path) -> Self {
        Self { host: Some(format!("unix://{}", socket.display())) }
    }

    /// Points a program at this engine.
    pub(super) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.host.iter().map(|host| ("DOCKER_HOST", host.as_str()))
    }

    fn command(&self, limit: Duration) -> Command {
        let mut command = call::within(limit, "docker");
        command.envs(self.environment());
        command
    }

    /// Runs it with these words, and returns what it wrote.
    pub(super) fn run<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        call::output(self.command(QUICK).args(words))
    }

    pub(super) fn answers(&self) -> bool {
        self.version().is_ok()
    }

    /// The engine's version.
    pub(super) fn version(&self) -> Result<String> {
        self.run(["version", "--format", "{{.Server.Version}}"])
    }

    /// Whether the engine has that image, and not a stand-in of its name.
    pub(super) fn has_official(&self, image: &str) -> bool {
        self.label(image).is_ok_and(|label| label.is_empty())
    }

    pub(super) fn has_stand_in(&self, image: &str) -> bool {
        self.label(image).is_ok_and(|label| label == "true")
    }

    fn label(&self, image: &str) -> Result<String> {
        let format = format!("{{{{index .Config.Labels \"{STAND_IN}\"}}}}");
        self.run(["image", "inspect", "--format", &format, image])
    }

    pub(super) fn pulls(&self, image: &str) -> bool {
        call::succeeds(self.command(PULL).args(["pull", "--quiet", image]))
    }

    /// Makes an image of the file tree that `tar` writes.
    pub(super) fn import_stand_in(&self, tar: &mut Command, image: &str) -> Result<()> {
        let label = format!("LABEL {STAND_IN}=true");
        call::pipe(tar, self.command(BUILD).args(["import", "--change", &label, "-", image]))
    }

    /// Builds the Dockerfile in the context that `tar` writes.
    pub(super) fn build_stand_in(&self, tar: &mut Command, image: &str) -> Result<()> {
        let label = format!("{STAND_IN}=true");
        let words = ["build", "--quiet", "--label", &label, "--tag", image, "-"];
        call::pipe(tar, self.command(BUILD).args(words))
    }

    /// Builds the Dockerfile in a folder, or a stage of it.
    pub(super) fn build(&self, folder: &Path, stage: Option<&str>, image: &str) -> Result<()> {
        let mut command = self.command(BUILD);
        command.args(["build", "--quiet", "--tag", image]);
        if let Some(stage) = stage {
            command.args(["--target", stage]);
        }
        call::output(command.arg(folder)).map(drop)
    }

    /// Removes what old builders leave behind of stages that only others copy from.
    pub(super) fn prune_stages(&self) -> Result<()> {
        self.run(["image", "prune", "--force", "--filter", "label=ducktide.stage"]).map(drop)
    }

    /// In words for people, such as `373 MB`.
    pub(super) fn size(&self, image: &str) -> Result<String> {
        let bytes: u64 = self.run(["image", "inspect", "--format", "{{.Size}}", image])?.parse()?;
        Ok(format!("{} MB", bytes / 1_000_000))
    }
}
