//! The Docker engine: one that runs, or one of our own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{call, docker::Docker, watchdog::Watchdog};
use crate::{
    layout,
    machine::{self, Requirement},
};

/// An engine that answers.
pub(super) struct Engine {
    docker: Docker,
    description: String,
    /// Ends it, if it is our own.
    _watchdog: Option<Watchdog>,
}

pub(super) enum Search {
    Found(Engine),
    /// None can be had; says why.
    Nothing(String),
}

impl Engine {
    /// One that runs is used. Otherwise one is started on a socket and a folder of its own, which
    /// takes root; Debian's package is installed if need be.
    pub(super) fn find_or_start() -> Result<Search> {
        let docker = Docker::of_environment();
        if let Ok(version) = docker.version() {
            let description = format!("Docker {version}, which runs already");
            return Ok(Search::Found(Self { docker, description, _watchdog: None }));
        }
        ensure!(
            env::var_os("DOCKER_HOST").is_none(),
            "no Docker engine answers at DOCKER_HOST; start it, or unset the variable"
        );
        if !machine::is_root() {
            let why = "no Docker engine runs, and only root could start one: start it, run this as \
                       root, or set DOCKER_HOST";
            return Ok(Search::Nothing(why.to_owned()));
        }
        if let Err(error) = machine::require(Requirement::FOR_CONTAINERS) {
            let why = format!("no Docker engine runs, and none can be installed: {error:#}");
            return Ok(Search::Nothing(why));
        }
        start_own()
    }

    pub(super) const fn docker(&self) -> &Docker {
        &self.docker
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }
}

/// An engine of our own, or why the kernel does not let it run. Images stay in the cache, and with them
/// the stand-ins.
fn start_own() -> Result<Search> {
    let folder = layout::cache().join("docker");
    fs::create_dir_all(&folder).context("create .ducktide/docker")?;
    // Sockets' paths are limited to 108 bytes, a workspace's is not.
    let run = PathBuf::from(format!("/run/ducktide-docker-{}", std::process::id()));
    if let Err(error) = fs::create_dir_all(&run) {
        let why = format!("dockerd cannot have its socket here: {error}: path=`{}`", run.display());
        return Ok(Search::Nothing(why));
    }
    let log = folder.join("dockerd.log");
    let watchdog = start_daemon(&folder, &run, &log).context("start dockerd")?;
    let docker = Docker::at(&run.join("docker.sock"));
    let answers =
        call::until("the Docker engine", STARTS_WITHIN, || Ok(docker.answers().then_some(())));
    if let Err(error) = answers {
        let said = call::tail(&fs::read_to_string(&log).unwrap_or_default());
        return Ok(Search::Nothing(format!("dockerd does not start here: {error:#}; {said}")));
    }
    let description = format!("Docker {}, started for this test", docker.version()?);
    Ok(Search::Found(Engine { docker, description, _watchdog: Some(watchdog) }))
}

const STARTS_WITHIN: Duration = Duration::from_secs(45);

/// With the folder of the images, the folder of the socket, and the log.
const BEGIN: &str = r#"
dockerd --data-root "$1" --exec-root "$2/exec" --pidfile "$2/pid" --host "unix://$2/docker.sock" \
    >"$3" 2>&1 &
daemon=$!"#;

/// Whoever has containers here takes them down at the same moment. What is left after a minute would
/// come back with the next engine, and is removed.
const END: &str = r#"
export DOCKER_HOST="unix://$2/docker.sock"
for _ in $(seq 600); do [ -n "$(docker ps --all --quiet)" ] || break; sleep 0.1; done
docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes
kill -TERM $daemon
wait $daemon
rm -rf "$2""#;

fn start_daemon(folder: &Path, run: &Path, log: &Path) -> std::io::Result<Watchdog> {
    let paths = [folder.join("data"), run.to_owned(), log.to_owned()];
    let paths = paths.map(|path| path.display().to_string());
    Watchdog::over(BEGIN, END, paths.iter().map(String::as_str), [])
}
