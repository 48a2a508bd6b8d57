//! Runs programs to completion: quietly, with a timeout, and with their output in the error.

use std::{
    ffi::OsStr,
    io::Read as _,
    iter,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

/// Number of output lines shown for a failed program.
const LINES_SHOWN: usize = 30;

/// Creates a command that is killed after `limit`.
pub(crate) fn with_timeout(limit: Duration, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &limit.as_secs().to_string()]).arg(program);
    command.stdin(Stdio::null());
    command
}

/// Returns the standard output of the program; an error unless it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = described(command);
    let output = command.output().with_context(|| format!("start {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    ensure!(
        output.status.success(),
        "{name} ended with {}\n{}",
        output.status,
        tail(&format!("{text}\n{}", String::from_utf8_lossy(&output.stderr))),
    );
    Ok(text)
}

pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Pipes the output of one program into another.
pub(crate) fn pipe(from: &mut Command, into: &mut Command) -> Result<()> {
    let names = format!("{} | {}", described(from), described(into));
    let writer = from.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut writer = writer.with_context(|| format!("start {names}"))?;
    let mut errors = writer.stderr.take().expect("standard error is piped");
    let reading = thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text).unwrap_or_default()
    });
    let read = output(into.stdin(writer.stdout.take().expect("standard output is piped")));
    let written = writer.wait().with_context(|| format!("wait for {names}"))?;
    let errors = reading.join().unwrap_or_default();
    read?;
    ensure!(written.success(), "{names} ended with {written}\n{}", tail(&errors));
    Ok(())
}

/// Polls until there is a result. After the timeout, the error contains the last error or the
/// description of the condition.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let reason = match ask() {
            Ok(Some(response)) => return Ok(response),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() > deadline {
            let what = format!("waited {} s for {what}", limit.as_secs());
            return Err(match reason {
                Some(error) => error.context(what),
                None => anyhow!("{what}"),
            });
        }
        thread::sleep(Duration::from_millis(300));
    }
}

/// Returns the command line without the arguments of the timeout.
fn described(command: &Command) -> String {
    let limits = if command.get_program() == "timeout" { 3 } else { 0 };
    let arguments = iter::once(command.get_program()).chain(command.get_args());
    arguments.skip(limits).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Returns the last lines of a text.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_its_output() {
        let limit = Duration::from_secs(5);
        let error =
            output(with_timeout(limit, "sh").args(["-c", "echo reason >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("sh -c echo reason"), "{text}");
        assert!(text.ends_with("exit status: 3\nreason"), "{text}");
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let error = output(with_timeout(Duration::from_secs(1), "sleep").arg("60")).unwrap_err();
        assert!(error.to_string().contains("exit status: 124"), "{error}");
    }

    #[test]
    fn a_reader_that_succeeds_does_not_hide_a_writer_that_failed() {
        let mut writer = Command::new("sh");
        let failed = pipe(writer.args(["-c", "exit 1"]), &mut Command::new("cat"));
        assert!(failed.is_err());
    }

    #[test]
    fn a_timeout_reports_the_last_error() {
        let asked =
            wait_for("rain", Duration::ZERO, || -> Result<Option<()>> { Err(anyhow!("dry")) });
        assert_eq!(format!("{:#}", asked.unwrap_err()), "waited 0 s for rain: dry");
    }
}
