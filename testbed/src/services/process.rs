//! Services as child processes.

use std::{
    fs::{self, File},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::backend::Backend;
use crate::{
    guarded_child::{GuardedChild, Launch},
    program::tail,
};

/// Service as a child process; its data folder is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Process {
    launch: Launch,
    stop_signal: Signal,
    log: PathBuf,
    child: Option<GuardedChild>,
    data: TempDir,
}

/// Maximum time of a graceful end.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

impl Process {
    /// Starts the process. `stop_signal` ends it gracefully, `launch.end_signal` quickly.
    pub(super) fn start(
        launch: Launch,
        stop_signal: Signal,
        log: PathBuf,
        data: TempDir,
    ) -> Result<Self> {
        let launch = Launch { scratch: Some(data.path().to_owned()), ..launch };
        let mut process = Self { launch, stop_signal, log, child: None, data };
        Backend::start(&mut process)?;
        Ok(process)
    }

    fn running(&mut self) -> Result<&mut GuardedChild> {
        self.child.as_mut().context("service is not running")
    }
}

impl Backend for Process {
    fn start(&mut self) -> Result<()> {
        if self.is_running()? {
            bail!("service is running already");
        }
        let log = append_to(&self.log)?;
        let stderr = log.try_clone().context("clone the log's handle")?;
        self.child = Some(GuardedChild::start(&self.launch, log, stderr)?);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        let signal = self.stop_signal;
        self.running()?.end(signal, STOP_TIMEOUT)?;
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.running()?.end(Signal::KILL, STOP_TIMEOUT)?;
        Ok(())
    }

    fn pause(&mut self) -> Result<()> {
        self.running()?.signal(Signal::STOP)
    }

    fn resume(&mut self) -> Result<()> {
        self.running()?.signal(Signal::CONT)
    }

    fn is_running(&mut self) -> Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.ended()?.is_none()),
            None => Ok(false),
        }
    }

    fn log_tail(&self) -> String {
        tail(&self.log)
    }

    fn leave_running(mut self: Box<Self>) -> String {
        self.data.disable_cleanup(true);
        let remove = format!("rm -rf {}", self.data.path().display());
        let Some(child) = self.child.take() else { return remove };
        // The process removes files as it ends; removing the folder concurrently can fail.
        let end = format!("kill {}; sleep 3; {remove}", child.id());
        child.leave_running();
        end
    }
}

impl Drop for Process {
    /// Ends the process quickly before its folder is removed.
    fn drop(&mut self) {
        let signal = self.launch.end_signal;
        if let Some(child) = &mut self.child {
            let _ = child.end(signal, Duration::from_secs(5));
        }
    }
}

/// Opens a log for appending; creates its folder if needed.
pub(super) fn append_to(log: &Path) -> Result<File> {
    let folder = log.parent().context("find the folder of a log")?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let file = File::options().create(true).append(true).open(log);
    file.with_context(|| format!("open {}", log.display()))
}

/// Creates a folder for a service's data in the system's temporary folder.
pub(super) fn data_folder(service: &str) -> Result<TempDir> {
    let prefix = format!("ducktide-{service}-");
    tempfile::Builder::new().prefix(&prefix).tempdir().context("create a folder for data")
}

/// Changes the owner of a folder.
pub(super) fn change_owner(folder: &Path, user: (u32, u32)) -> Result<()> {
    chown(folder, Some(user.0), Some(user.1))
        .with_context(|| format!("change the owner of {}", folder.display()))
}

/// Runs a program that initializes a service's data.
pub(super) fn prepare(launch: Launch, data: &TempDir, log: &Path) -> Result<()> {
    let launch = Launch { scratch: Some(data.path().to_owned()), ..launch };
    let stdout = append_to(log)?;
    let stderr = stdout.try_clone().context("clone the log's handle")?;
    let mut child = GuardedChild::start(&launch, stdout, stderr)?;
    let status = child.wait(Duration::from_mins(1))?.context("prepare data: takes too long")?;
    ensure!(status.success(), "prepare data: {status}; the log ends:\n{}", tail(log));
    Ok(())
}
