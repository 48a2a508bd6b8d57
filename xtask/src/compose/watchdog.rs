//! Tidies up when this process ends, in whatever way it does.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

/// A shell that waits for the end of a pipe whose other end only this process holds. The kernel
/// closes it also after SIGKILL; dropping the watchdog closes it earlier, and waits for the script.
#[derive(Debug)]
pub(super) struct Watchdog(Child);

impl Watchdog {
    /// Runs `end` with `arguments` (`$1`, `$2`, ...) and `environment` at the end.
    pub(super) fn start<'a>(
        end: &str,
        arguments: impl IntoIterator<Item = &'a str>,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<Self> {
        Self::over(":", end, arguments, environment)
    }

    /// Runs `begin` now, in the same shell: what it starts is the shell's own child, so that `end` can
    /// wait for it.
    ///
    /// The shell is in a process group of its own: Ctrl-C in the terminal must not end it first.
    pub(super) fn over<'a>(
        begin: &str,
        end: &str,
        arguments: impl IntoIterator<Item = &'a str>,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<Self> {
        let shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("{begin}\ntrap '' HUP INT TERM\ncat >/dev/null\n{end}"))
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
        // Nobody is left to be told that it failed.
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
    fn what_the_shell_began_is_there_at_the_end() {
        let watchdog = Watchdog::over("sleep 60 & child=$!", "kill $child; wait $child", [], []);
        let started = Instant::now();
        drop(watchdog.unwrap());
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn the_script_has_run_when_the_watchdog_is_dropped() {
        let file = env::temp_dir().join(format!("ducktide-watchdog-{}", process::id()));
        let path = file.to_str().unwrap().to_owned();
        let watchdog = Watchdog::start(r#"echo "$WORD" >"$1""#, [&*path], [("WORD", "done")]);
        assert!(!file.exists());
        drop(watchdog.unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "done\n");
        fs::remove_file(file).unwrap();
    }
}
