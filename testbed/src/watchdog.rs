//! Runs a script when this process ends, even after SIGKILL.

use std::{
    ffi::OsStr,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

/// Shell that reads from a pipe whose other end only this process holds. The kernel closes the pipe
/// when the process ends, also after SIGKILL, and although statics are never dropped.
///
/// A parent-death signal is not enough: it is sent when the *thread* that spawned the child ends,
/// and test threads end before the shared services must.
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

    /// Stops the watchdog without running the script.
    pub(crate) fn release(mut self) {
        let mut pipe = self.shell.stdin.take().expect("standard input is piped");
        // An error means that the shell has already ended.
        let _ = pipe.write_all(b"\n");
        drop(pipe);
        let _ = self.shell.wait();
    }
}
