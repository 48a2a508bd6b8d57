//! Child process that never outlives this process.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::watchdog::Watchdog;

/// Program to start, and how to end it.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Variables of this process that the child does not inherit.
    pub(crate) unset: Vec<OsString>,
    pub(crate) folder: Option<PathBuf>,
    /// User and group to run as; needs root.
    pub(crate) user: Option<(u32, u32)>,
    /// Signal that ends it when this process dies. PostgreSQL needs SIGQUIT, so that its children
    /// end too.
    pub(crate) end_signal: Signal,
    /// Folder that is removed when this process dies.
    pub(crate) scratch: Option<PathBuf>,
}

impl Launch {
    pub(crate) fn new(program: PathBuf) -> Self {
        Self {
            program,
            arguments: Vec::new(),
            environment: Vec::new(),
            unset: Vec::new(),
            folder: None,
            user: None,
            end_signal: Signal::KILL,
            scratch: None,
        }
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }
}

/// Started [`Launch`]. Killed when dropped.
#[derive(Debug)]
pub(crate) struct GuardedChild {
    child: Child,
    watchdog: Option<Watchdog>,
    usage: Usage,
    ended: Option<ExitStatus>,
    started: Instant,
}

/// Resources that a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Maximum resident set size, in bytes; sampled while waiting for the process.
    pub peak_memory_bytes: u64,
}

/// Shell script that waits for a line before it executes the program: until the watchdog knows its
/// process ID.
const LATCH: &str = r#"read -r _ && exec "$@" </dev/null"#;

/// Ends process `$1` with signal `$2`, after five seconds with SIGKILL, then removes folder `$3`. A
/// zombie counts as ended: its parent is gone, and not every init process of a container reaps it.
const END_SCRIPT: &str = r#"
    kill -CONT "$1"; kill -"$2" "$1"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        grep -qs '^State:.[^Z]' "/proc/$1/status" || break
        sleep 0.5
    done
    kill -KILL "$1"
    [ -z "$3" ] || rm -rf "$3"
"#;

impl GuardedChild {
    /// Starts a process with its output in two files.
    pub(crate) fn start(launch: &Launch, stdout: File, stderr: File) -> Result<Self> {
        let started = Instant::now();
        let mut child = latched(launch)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("start {}", launch.program.display()))?;
        let watchdog = watch(launch, child.id()).context("start a watchdog")?;
        let mut latch = child.stdin.take().expect("standard input is piped");
        latch.write_all(b"\n").with_context(|| format!("start {}", launch.program.display()))?;
        let (usage, watchdog) = (Usage::default(), Some(watchdog));
        Ok(Self { child, watchdog, usage, ended: None, started })
    }

    /// Returns the process ID; after the end of the process it can belong to another one.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the resources used up to the latest call of this function or of a wait.
    pub(crate) fn usage(&mut self) -> Usage {
        if self.ended.is_none() {
            self.usage.sample(self.child.id());
        }
        self.usage
    }

    /// Sends a signal; ignored if the process has ended.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        kill_process(self.pid(), signal)
            .with_context(|| format!("signal a process pid=`{}`", self.child.id()))
    }

    /// Returns true if the process is stopped by SIGSTOP.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        // The state follows the program's name, which is in parentheses.
        let state = stat.ok().and_then(|stat| Some(stat.rsplit_once(") ")?.1.starts_with('T')));
        self.ended.is_none() && state == Some(true)
    }

    fn pid(&self) -> Pid {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        id.expect("process ids are positive and fit into 31 bits")
    }

    /// Returns the exit status, if the process has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_some() {
            return Ok(self.ended);
        }
        // The usage of a process is readable until its status is fetched.
        self.usage.sample(self.child.id());
        self.ended = self.child.try_wait().context("wait for a process")?;
        if self.ended.is_some() {
            // From now on another process can get the process ID.
            if let Some(watchdog) = self.watchdog.take() {
                watchdog.release();
            }
        }
        Ok(self.ended)
    }

    /// Waits for the end. Returns None when the limit passes first.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends the signal, and SIGKILL if the process does not end within the limit.
    pub(crate) fn end(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        // A stopped process does not act on the signal.
        self.signal(signal)?;
        self.signal(Signal::CONT)?;
        if let Some(status) = self.wait(limit)? {
            return Ok(status);
        }
        self.signal(Signal::KILL)?;
        let status = self.wait(Duration::from_mins(1))?;
        status.context("wait for a killed process")
    }

    /// Lets the process outlive this process.
    pub(crate) fn leave_running(mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.release();
        }
        self.ended = Some(ExitStatus::from_raw(0));
    }
}

impl Drop for GuardedChild {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Nothing can be done about an error: the process is gone, or cannot be killed.
            let _ = self.end(Signal::KILL, Duration::from_secs(10));
        }
    }
}

fn latched(launch: &Launch) -> Command {
    let mut command = Command::new("/bin/sh");
    for name in &launch.unset {
        command.env_remove(name);
    }
    command
        .args(["-c", LATCH, "latch"])
        .arg(&launch.program)
        .args(&launch.arguments)
        .envs(launch.environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::piped())
        // Ctrl-C in the terminal is for this process, which ends its children itself.
        .process_group(0);
    if let Some(folder) = &launch.folder {
        command.current_dir(folder);
    }
    if let Some((user, group)) = launch.user {
        command.uid(user).gid(group);
    }
    command
}

fn watch(launch: &Launch, id: u32) -> io::Result<Watchdog> {
    let (id, signal) = (id.to_string(), launch.end_signal.as_raw().to_string());
    let scratch = launch.scratch.as_ref().map_or(OsStr::new(""), |path| path.as_os_str());
    Watchdog::start(END_SCRIPT, &[id.as_ref(), signal.as_ref(), scratch])
}

impl Usage {
    fn sample(&mut self, id: u32) {
        if let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) {
            self.cpu = cpu_time(&stat).unwrap_or(self.cpu);
        }
        if let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) {
            self.peak_memory_bytes = peak_memory(&status).unwrap_or(self.peak_memory_bytes);
        }
    }
}

/// Linux counts process times for user space in hundredths of a second, on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// Returns the sum of the 14th and 15th field of `/proc/PID/stat`; the second, the program's name,
/// can contain spaces.
fn cpu_time(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?;
    Some(TICK * ticks)
}

/// Returns `VmHWM` of `/proc/PID/status`; a process that has ended has none.
fn peak_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> GuardedChild {
        let launch = Launch::new("/bin/sh".into()).args(["-c", script]);
        let null = || File::create("/dev/null").unwrap();
        GuardedChild::start(&launch, null(), null()).unwrap()
    }

    #[test]
    fn the_exit_status_is_that_of_the_program() {
        let status = sh("exit 7").wait(Duration::from_secs(10)).unwrap().unwrap();
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn dropping_a_child_ends_it() {
        let child = sh("sleep 60");
        let id = child.id();
        drop(child);
        assert!(!PathBuf::from(format!("/proc/{id}")).exists());
    }

    #[test]
    fn a_child_that_ignores_the_signal_is_killed_after_the_limit() {
        let mut child = sh("trap '' TERM; while :; do sleep 0.05; done");
        thread::sleep(Duration::from_millis(200));
        let status = child.end(Signal::TERM, Duration::from_millis(200)).unwrap();
        assert_eq!(status.signal(), Some(9));
    }

    #[test]
    fn a_stopped_child_can_be_ended() {
        let mut child = sh("sleep 60");
        child.signal(Signal::STOP).unwrap();
        let status = child.end(Signal::TERM, Duration::from_secs(10)).unwrap();
        assert_eq!(status.signal(), Some(15));
    }

    #[test]
    fn cpu_time_is_known_after_the_end() {
        let mut child = sh("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done");
        child.wait(Duration::from_mins(1)).unwrap().unwrap();
        assert!(child.usage().cpu > Duration::ZERO);
    }

    #[test]
    fn cpu_time_skips_a_name_with_spaces() {
        let stat = "12 (a ) b) S 1 12 12 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 7 8 9";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn peak_memory_is_in_bytes() {
        assert_eq!(peak_memory("Name:\tx\nVmHWM:\t    2048 kB\n"), Some(2 * 1024 * 1024));
    }
}
