//! Acts when this process ends, in whatever way it does.

use std::{
    ffi::OsStr,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

/// A shell that waits at the end of a pipe whose other end only this process holds: the kernel
/// closes it when the process is gone, also after SIGKILL, and when statics are never dropped.
///
/// A parent-death signal would not do: it is sent when the *thread* that spawned the child ends,
/// and test threads end long before the shared services should.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Runs `script` with `arguments` (`$1`, `$2`, ...) when this process ends before
    /// [`release`](Self::release).
    ///
    /// The shell is in a process group of its own: Ctrl-C in the terminal must not end it first.
    pub(crate) fn start(script: &str, arguments: &[&OsStr]) -> io::Result<Self> {
        let shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("trap '' HUP INT TERM; read -r _ && exit 0; {script}"))
            .arg("watchdog")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }

    /// Calls the watchdog off.
    pub(crate) fn release(mut self) {
        let mut pipe = self.shell.stdin.take().expect("standard input is piped");
        // An error means that the shell is gone already; then there is nothing to call off.
        let _ = pipe.write_all(b"\n");
        drop(pipe);
        let _ = self.shell.wait();
    }
}
