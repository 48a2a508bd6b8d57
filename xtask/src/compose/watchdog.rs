//! Cleanup when this process ends, also after SIGKILL.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

/// A shell that waits until a pipe is closed whose other end only this process holds. The kernel
/// closes it also after SIGKILL; dropping the watchdog closes it earlier and waits for the script.
#[derive(Debug)]
pub(super) struct Watchdog(Child);

impl Watchdog {
    /// Starts a watchdog that runs the script `stop_script` with `arguments` (`$1`, `$2`, ...) and
    /// `environment`.
    pub(super) fn start<'a>(
        stop_script: &str,
        arguments: impl IntoIterator<Item = &'a str>,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<Self> {
        Self::start_with(":", stop_script, arguments, environment)
    }

    /// Runs the script `start_script` immediately, in the same shell: its child processes belong to
    /// that shell, so that `stop_script` can wait for them.
    ///
    /// The shell has its own process group, so that Ctrl-C in the terminal does not end it first.
    pub(super) fn start_with<'a>(
        start_script: &str,
        stop_script: &str,
        arguments: impl IntoIterator<Item = &'a str>,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<Self> {
        let shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("{start_script}\ntrap '' HUP INT TERM\ncat >/dev/null\n{stop_script}"))
            .arg("watchdog")
            .args(arguments)
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self(shell))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // A failure cannot be reported at this point.
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env, fs, process,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn children_of_the_shell_are_available_to_the_end_script() {
        let watchdog =
            Watchdog::start_with("sleep 60 & child=$!", "kill $child; wait $child", [], []);
        let started = Instant::now();
        drop(watchdog.unwrap());
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn dropping_the_watchdog_runs_the_script() {
        let file = env::temp_dir().join(format!("ducktide-watchdog-{}", process::id()));
        let path = file.to_str().unwrap().to_owned();
        let watchdog = Watchdog::start(r#"echo "$WORD" >"$1""#, [&*path], [("WORD", "done")]);
        assert!(!file.exists());
        drop(watchdog.unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "done\n");
        fs::remove_file(file).unwrap();
    }
}
