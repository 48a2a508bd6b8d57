//! Runs the workspace's programs as processes, with their logs in files.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    iter,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

pub use crate::guarded_child::Usage;
use crate::{
    guarded_child::{GuardedChild, Launch},
    workspace,
};

/// Program with arguments and environment, not started yet.
#[derive(Debug, Clone)]
pub struct Program {
    launch: Launch,
}

/// Started program. Killed when dropped.
#[derive(Debug)]
pub struct RunningProgram {
    child: GuardedChild,
    label: String,
    log: PathBuf,
    output: PathBuf,
}

/// Exit status and resource usage of a program.
#[derive(Debug, Clone, Copy)]
pub struct ProgramExit {
    /// Exit status.
    pub status: ExitStatus,
    /// Time from start to end.
    pub elapsed: Duration,
    /// Processor time and memory.
    pub usage: Usage,
}

impl Program {
    /// Returns a program of this workspace, such as `ducktide-consumer`.
    ///
    /// The program does not inherit settings of Ducktide from the environment: they refer to
    /// another Kafka and another lake.
    pub fn named(name: &str) -> Result<Self> {
        Ok(Self::without_settings(Launch::new(workspace::program(name)?)))
    }

    /// A command of the Bash shell, which fails if any program of a pipeline does.
    #[must_use]
    pub fn shell(command: &str) -> Self {
        let bash = Self::without_settings(Launch::new("bash".into()));
        bash.args(["-eu", "-o", "pipefail", "-c", command])
    }

    fn without_settings(launch: Launch) -> Self {
        let names = env::vars_os().map(|(name, _)| name);
        let unset = names.filter(|name| is_setting(&name.to_string_lossy())).collect();
        Self { launch: Launch { unset, ..launch } }
    }

    /// Returns a program by its path; it inherits the environment.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { launch: Launch::new(path) }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.launch = self.launch.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.launch.environment.push((name.into(), value.into()));
        self
    }

    /// Sets environment variables.
    #[must_use]
    pub fn envs(mut self, variables: &[(&'static str, String)]) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), value.into()));
        self.launch.environment.extend(variables);
        self
    }

    /// Returns the program in a mount namespace of its own, where the folder for temporary files is empty and
    /// is the home folder: it shares no folder with other programs that a test starts.
    #[must_use]
    pub fn isolated(mut self) -> Self {
        let program = std::mem::replace(&mut self.launch.program, "unshare".into());
        let folder = env::temp_dir().display().to_string();
        let script = format!("mount -t tmpfs tmpfs '{folder}' && exec \"$0\" \"$@\"");
        let before = ["--map-root-user", "--mount", "sh", "-c", &script].map(OsString::from);
        let arguments = std::mem::take(&mut self.launch.arguments);
        let own = iter::once(program.into_os_string()).chain(arguments);
        self.launch.arguments = before.into_iter().chain(own).collect();
        self.env("HOME", folder)
    }

    /// Starts the program. Its standard error is appended to `<label>.log` in the folder, its
    /// standard output is written to `<label>.out`.
    pub fn start(&self, folder: &Path, label: &str) -> Result<RunningProgram> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let log = folder.join(format!("{label}.log"));
        let output = folder.join(format!("{label}.out"));
        let stderr = File::options().create(true).append(true).open(&log);
        let stderr = stderr.with_context(|| format!("open {}", log.display()))?;
        let stdout = File::create(&output);
        let stdout = stdout.with_context(|| format!("create {}", output.display()))?;
        let child = GuardedChild::start(&self.launch, stdout, stderr)?;
        Ok(RunningProgram { child, label: label.to_owned(), log, output })
    }

    /// Runs the program to completion and returns its standard output; an error unless it succeeds
    /// within the limit.
    pub fn run(&self, folder: &Path, label: &str, limit: Duration) -> Result<String> {
        let mut running = self.start(folder, label)?;
        running.succeed(limit)?;
        running.output()
    }
}

impl RunningProgram {
    /// Returns the process ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns true if the process has not ended.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.ended()?.is_none())
    }

    /// Returns the processor time and memory used so far.
    pub fn usage(&mut self) -> Usage {
        self.child.usage()
    }

    /// Waits for the end; an error with the last lines of the log when the limit passes first.
    pub fn wait(&mut self, limit: Duration) -> Result<ProgramExit> {
        let status = self.child.wait(limit)?.with_context(|| {
            format!("{} did not end within {limit:?}; its log ends:\n{}", self.label, self.tail())
        })?;
        Ok(self.finished(status))
    }

    /// Waits as [`wait`](Self::wait) does; an error unless the program succeeded.
    pub fn succeed(&mut self, limit: Duration) -> Result<ProgramExit> {
        let finished = self.wait(limit)?;
        let status = finished.status;
        ensure!(status.success(), "{}: {status}; its log ends:\n{}", self.label, self.tail());
        Ok(finished)
    }

    /// Sends SIGTERM. Does not wait.
    pub fn terminate(&self) -> Result<()> {
        self.child.signal(Signal::TERM)
    }

    /// Sends SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<ProgramExit> {
        let status = self.child.end(Signal::KILL, Duration::from_secs(10))?;
        Ok(self.finished(status))
    }

    /// Sends SIGSTOP: the process stops, its connections stay open.
    pub fn pause(&self) -> Result<()> {
        self.child.signal(Signal::STOP)
    }

    /// Returns true if the process is stopped by SIGSTOP, sent by a test or by the process.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.child.is_stopped()
    }

    /// Sends SIGCONT, after [`pause`](Self::pause).
    pub fn resume(&self) -> Result<()> {
        self.child.signal(Signal::CONT)
    }

    /// Returns its standard error so far.
    pub fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    /// Returns its standard output so far.
    pub fn output(&self) -> Result<String> {
        fs::read_to_string(&self.output).with_context(|| format!("read {}", self.output.display()))
    }

    fn tail(&self) -> String {
        tail(&self.log)
    }

    fn finished(&mut self, status: ExitStatus) -> ProgramExit {
        ProgramExit { status, elapsed: self.child.elapsed(), usage: self.child.usage() }
    }
}

/// Returns true if the workspace's programs read a setting from this environment variable.
fn is_setting(name: &str) -> bool {
    const PREFIXES: [&str; 7] =
        ["AWS_", "AZURE_", "DUCKTIDE_", "DUCKLAKE_", "GOOGLE_", "KAFKA_", "SCHEMA_REGISTRY_"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns the last lines of a log, for error messages.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 20;
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
    format!("{last}\n({})", log.display())
}
