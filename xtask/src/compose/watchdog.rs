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
    /// Runs `script` with `arguments` (`$1`, `$2`, ...) and `environment` at the end.
    ///
    /// The shell is in a process group of its own: Ctrl-C in the terminal must not end it first.
    pub(super) fn start<'a>(
        script: &str,
        arguments: impl IntoIterator<Item = &'a str>,
        environment: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<Self> {
        let shell = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("trap '' HUP INT TERM; cat >/dev/null; {script}"))
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
    use std::{env, fs, process};

    use super::*;

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
