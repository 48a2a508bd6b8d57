//! The Docker engine: a running one, or one started for the test.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{docker::Docker, process, watchdog::Watchdog};
use crate::{
    layout,
    machine::{self, Requirement},
};

/// A running engine.
pub(super) struct Engine {
    docker: Docker,
    description: String,
    /// Stops the engine if it was started for the test.
    _watchdog: Option<Watchdog>,
}

pub(super) enum EngineSearch {
    Found(Engine),
    /// No engine is available, with the reason.
    Unavailable(String),
}

impl Engine {
    /// Uses a running engine. Otherwise starts one with its own socket and folder, which needs
    /// root; installs Debian's package if necessary.
    pub(super) fn find_or_start() -> Result<EngineSearch> {
        let docker = Docker::from_environment();
        if let Ok(version) = docker.version() {
            let description = format!("Docker {version}, already running");
            return Ok(EngineSearch::Found(Self { docker, description, _watchdog: None }));
        }
        ensure!(
            env::var_os("DOCKER_HOST").is_none(),
            "no Docker engine is running at DOCKER_HOST; start it or unset the variable"
        );
        if !machine::is_root() {
            let reason = "no Docker engine is running, and starting one needs root: start one, run this as \
                       root, or set DOCKER_HOST";
            return Ok(EngineSearch::Unavailable(reason.to_owned()));
        }
        if let Err(error) = machine::require(Requirement::FOR_CONTAINERS) {
            let reason =
                format!("no Docker engine is running, and none can be installed: {error:#}");
            return Ok(EngineSearch::Unavailable(reason));
        }
        start_engine()
    }

    pub(super) const fn docker(&self) -> &Docker {
        &self.docker
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }
}

/// Starts an engine, or returns the reason why it cannot run. Its images, including the locally
/// built ones, stay in the cache.
fn start_engine() -> Result<EngineSearch> {
    let folder = layout::cache().join("docker");
    fs::create_dir_all(&folder).context("create .ducktide/docker")?;
    // The path of a socket is limited to 108 bytes, that of a workspace is not.
    let run = PathBuf::from(format!("/run/ducktide-docker-{}", std::process::id()));
    if let Err(error) = fs::create_dir_all(&run) {
        let reason = format!(
            "cannot create the folder for dockerd's socket: {error}: path=`{}`",
            run.display()
        );
        return Ok(EngineSearch::Unavailable(reason));
    }
    let log = folder.join("dockerd.log");
    let watchdog = start_daemon(&folder, &run, &log).context("start dockerd")?;
    let docker = Docker::at(&run.join("docker.sock"));
    let started = process::wait_for("the Docker engine", START_TIMEOUT, || {
        Ok(docker.is_running().then_some(()))
    });
    if let Err(error) = started {
        let log_tail = process::tail(&fs::read_to_string(&log).unwrap_or_default());
        return Ok(EngineSearch::Unavailable(format!(
            "dockerd does not start: {error:#}; {log_tail}"
        )));
    }
    let description = format!("Docker {}, started for this test", docker.version()?);
    Ok(EngineSearch::Found(Engine { docker, description, _watchdog: Some(watchdog) }))
}

const START_TIMEOUT: Duration = Duration::from_secs(45);

/// Arguments: the folder of the images, the folder of the socket, and the log.
const START_SCRIPT: &str = r#"
dockerd --data-root "$1" --exec-root "$2/exec" --pidfile "$2/pid" --host "unix://$2/docker.sock" \
    >"$3" 2>&1 &
daemon=$!"#;

/// Waits for the watchdogs that remove their containers at the same time. Containers left after a
/// minute are removed, because they would restart with the next engine.
const STOP_SCRIPT: &str = r#"
export DOCKER_HOST="unix://$2/docker.sock"
for _ in $(seq 600); do [ -n "$(docker ps --all --quiet)" ] || break; sleep 0.1; done
docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes
kill -TERM $daemon
wait $daemon
rm -rf "$2""#;

fn start_daemon(folder: &Path, run: &Path, log: &Path) -> std::io::Result<Watchdog> {
    let paths = [folder.join("data"), run.to_owned(), log.to_owned()];
    let paths = paths.map(|path| path.display().to_string());
    Watchdog::start_with(START_SCRIPT, STOP_SCRIPT, paths.iter().map(String::as_str), [])
}
