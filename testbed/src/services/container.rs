//! Services as containers; needs a Docker engine.

use std::{
    fmt,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Mutex,
};

use anyhow::{Context as _, Result};
use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt as _,
    core::{IntoContainerPort as _, logs::LogFrame},
    runners::AsyncRunner as _,
};
use tokio::runtime::{self, Runtime};
use uuid::Uuid;

use super::{backend::Backend, process::append_to};
use crate::{blocking, program::tail, watchdog::Watchdog};

/// Image with the settings of its container.
pub(super) struct Image {
    pub(super) name: &'static str,
    pub(super) tag: &'static str,
    /// Port inside the container.
    pub(super) port: u16,
    pub(super) environment: Vec<(String, String)>,
    /// Arguments of the image's entry point; empty for the image's own.
    pub(super) command: &'static [&'static str],
}

/// Service as a container. A stopped container keeps its data; a removed one does not.
pub(super) struct Container {
    inner: Option<ContainerAsync<GenericImage>>,
    /// Runtime of the engine's client; dropped after the container.
    runtime: Option<Runtime>,
    watchdog: Option<Watchdog>,
    log: PathBuf,
}

/// Maximum time of a graceful end, in seconds.
const STOP_TIMEOUT_SECONDS: i32 = 30;

impl Container {
    /// Starts the image, its port published on `port` of 127.0.0.1. The port is fixed, so that it
    /// is the same after a restart.
    pub(super) fn start(service: &str, image: Image, port: u16, log: PathBuf) -> Result<Self> {
        let name = format!("ducktide-{service}-{}", Uuid::new_v4());
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("start a runtime")?;
        let watchdog = remove_on_exit(&name)?;
        let request = request(&name, image, port, &log)?;
        let container = blocking::on_own_thread(|| runtime.block_on(request.start()));
        let container = container.with_context(|| {
            format!("start a container for {service} (is a Docker engine running?)")
        })?;
        Ok(Self { inner: Some(container), runtime: Some(runtime), watchdog, log })
    }

    /// Sends a request to the engine and waits for the response.
    fn call_engine<T: Send, E: Send>(
        &self,
        request: impl AsyncFnOnce(&ContainerAsync<GenericImage>) -> Result<T, E> + Send,
    ) -> Result<T, E> {
        let (runtime, container) = (self.runtime(), self.container());
        blocking::on_own_thread(|| runtime.block_on(request(container)))
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("only drop takes the runtime")
    }

    fn container(&self) -> &ContainerAsync<GenericImage> {
        self.inner.as_ref().expect("only drop takes the container")
    }
}

fn request(
    name: &str,
    image: Image,
    port: u16,
    log: &std::path::Path,
) -> Result<ContainerRequest<GenericImage>> {
    let log = Mutex::new(append_to(log)?);
    let mut request = GenericImage::new(image.name, image.tag)
        .with_container_name(name)
        .with_mapped_port(port, image.port.tcp())
        .with_log_consumer(move |frame: &LogFrame| {
            let mut log = log.lock().expect("nothing panics while holding the lock");
            // A log that cannot be written does not fail a test.
            let _ = log.write_all(frame.bytes());
        })
        // Published ports are accessible from this machine only.
        .with_host_config_modifier(|host| {
            let bindings = host.port_bindings.iter_mut().flat_map(|ports| ports.values_mut());
            for binding in bindings.flatten().flatten() {
                binding.host_ip = Some("127.0.0.1".to_owned());
            }
        });
    for (key, value) in image.environment {
        request = request.with_env_var(key, value);
    }
    Ok(if image.command.is_empty() {
        request
    } else {
        request.with_cmd(image.command.iter().copied())
    })
}

/// Removes the container if this process is killed and drops nothing. Needs the `docker` program;
/// without it, SIGKILL leaves a container behind.
fn remove_on_exit(name: &str) -> Result<Option<Watchdog>> {
    let docker = Command::new("docker").arg("--version").stdout(Stdio::null()).status();
    if !docker.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let watchdog = Watchdog::start(r#"docker rm --force --volumes "$1""#, &[name.as_ref()]);
    watchdog.context("start a watchdog").map(Some)
}

impl Backend for Container {
    fn start(&mut self) -> Result<()> {
        self.call_engine(async |container| container.start().await).context("start container")
    }

    fn stop(&mut self) -> Result<()> {
        self.call_engine(async |container| {
            container.stop_with_timeout(Some(STOP_TIMEOUT_SECONDS)).await
        })
        .context("stop container")
    }

    /// The engine sends SIGTERM, immediately followed by SIGKILL.
    fn kill(&mut self) -> Result<()> {
        self.call_engine(async |container| container.stop_with_timeout(Some(0)).await)
            .context("kill container")
    }

    fn pause(&mut self) -> Result<()> {
        self.call_engine(async |container| container.pause().await).context("pause container")
    }

    fn resume(&mut self) -> Result<()> {
        self.call_engine(async |container| container.unpause().await).context("resume container")
    }

    fn is_running(&mut self) -> Result<bool> {
        self.call_engine(async |container| container.is_running().await)
            .context("inspect container")
    }

    fn log_tail(&self) -> String {
        tail(&self.log)
    }

    fn leave_running(mut self: Box<Self>) -> String {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.release();
        }
        // Not dropped: that removes the container.
        let container = self.inner.take().expect("only drop takes the container");
        let end = format!("docker rm --force --volumes {}", container.id());
        std::mem::forget(container);
        end
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let runtime = self.runtime.take().expect("only drop takes the runtime");
        if let Some(container) = self.inner.take() {
            let removed = blocking::on_own_thread(|| runtime.block_on(container.rm()));
            if let (Ok(()), Some(watchdog)) = (removed, self.watchdog.take()) {
                watchdog.release();
            }
        }
        // Allowed on a thread of another runtime, unlike a drop.
        runtime.shutdown_background();
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container").field("log", &self.log).finish_non_exhaustive()
    }
}
