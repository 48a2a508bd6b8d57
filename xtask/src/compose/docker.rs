//! The `docker` command.

use std::{ffi::OsStr, path::Path, process::Command, time::Duration};

use anyhow::Result;

use super::process;

/// A Docker engine, accessed through the client.
#[derive(Clone, Debug, Default)]
pub(super) struct Docker {
    /// Overrides `DOCKER_HOST` of the environment.
    host: Option<String>,
}

/// Timeout of a query or a command that takes effect at once.
const QUERY_TIMEOUT: Duration = Duration::from_mins(1);

/// Timeout of an image build; compiling the programs takes half an hour on two cores.
const BUILD_TIMEOUT: Duration = Duration::from_hours(1);

/// Timeout of pulling one image over a slow connection.
const PULL_TIMEOUT: Duration = Duration::from_mins(10);

/// Label of images that are not the official ones.
const LOCAL_IMAGE: &str = "ducktide.local-image";

impl Docker {
    /// Returns the engine that the environment selects, or the one at the default socket.
    pub(super) fn from_environment() -> Self {
        Self::default()
    }

    pub(super) fn at(socket: &Path) -> Self {
        Self { host: Some(format!("unix://{}", socket.display())) }
    }

    /// Returns the environment variables that select this engine.
    pub(super) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.host.iter().map(|host| ("DOCKER_HOST", host.as_str()))
    }

    fn command(&self, limit: Duration) -> Command {
        let mut command = process::with_timeout(limit, "docker");
        command.envs(self.environment());
        command
    }

    /// Runs the client with these arguments and returns its standard output.
    pub(super) fn run<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        process::output(self.command(QUERY_TIMEOUT).args(arguments))
    }

    pub(super) fn is_running(&self) -> bool {
        self.version().is_ok()
    }

    /// Returns the version of the engine.
    pub(super) fn version(&self) -> Result<String> {
        self.run(["version", "--format", "{{.Server.Version}}"])
    }

    /// Reports that the engine has the official image, not a local image with its name.
    pub(super) fn has_official(&self, image: &str) -> bool {
        self.label(image).is_ok_and(|label| label.is_empty())
    }

    pub(super) fn has_local(&self, image: &str) -> bool {
        self.label(image).is_ok_and(|label| label == "true")
    }

    fn label(&self, image: &str) -> Result<String> {
        let format = format!("{{{{index .Config.Labels \"{LOCAL_IMAGE}\"}}}}");
        self.run(["image", "inspect", "--format", &format, image])
    }

    pub(super) fn pulls(&self, image: &str) -> bool {
        process::succeeds(self.command(PULL_TIMEOUT).args(["pull", "--quiet", image]))
    }

    /// Creates an image from the file tree that `tar` writes.
    pub(super) fn import_local(&self, tar: &mut Command, image: &str) -> Result<()> {
        let label = format!("LABEL {LOCAL_IMAGE}=true");
        process::pipe(
            tar,
            self.command(BUILD_TIMEOUT).args(["import", "--change", &label, "-", image]),
        )
    }

    /// Builds the Dockerfile in the build context that `tar` writes.
    pub(super) fn build_local(&self, tar: &mut Command, image: &str) -> Result<()> {
        let label = format!("{LOCAL_IMAGE}=true");
        let arguments = ["build", "--quiet", "--label", &label, "--tag", image, "-"];
        process::pipe(tar, self.command(BUILD_TIMEOUT).args(arguments))
    }

    /// Builds the Dockerfile in a folder, or one of its stages.
    pub(super) fn build(&self, folder: &Path, stage: Option<&str>, image: &str) -> Result<()> {
        let mut command = self.command(BUILD_TIMEOUT);
        command.args(["build", "--quiet", "--tag", image]);
        if let Some(stage) = stage {
            command.args(["--target", stage]);
        }
        process::output(command.arg(folder)).map(drop)
    }

    /// Removes the intermediate stages that old builders leave behind.
    pub(super) fn prune_stages(&self) -> Result<()> {
        self.run(["image", "prune", "--force", "--filter", "label=ducktide.stage"]).map(drop)
    }

    /// Returns the size of an image, such as `373 MB`.
    pub(super) fn size(&self, image: &str) -> Result<String> {
        let bytes: u64 = self.run(["image", "inspect", "--format", "{{.Size}}", image])?.parse()?;
        Ok(format!("{} MB", bytes / 1_000_000))
    }
}
