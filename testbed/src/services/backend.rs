//! Operations on a service that runs as a process or as a container.

use std::{
    env,
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Started service, as a process or as a container. Ended when dropped.
pub trait Backend: Debug + Send + Sync {
    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), with the same ports and
    /// the same data.
    fn start(&mut self) -> Result<()>;
    /// Ends it gracefully and waits for the end.
    fn stop(&mut self) -> Result<()>;
    /// Ends it immediately.
    fn kill(&mut self) -> Result<()>;
    /// Pauses it; its connections stay open.
    fn pause(&mut self) -> Result<()>;
    /// Resumes it.
    fn resume(&mut self) -> Result<()>;
    /// Returns true unless it has ended.
    fn is_running(&mut self) -> Result<bool>;
    /// Returns the last lines of its log, for error messages.
    fn log_tail(&self) -> String;
    /// Lets it outlive this process. Returns the shell command that ends it.
    fn leave_running(self: Box<Self>) -> String;
}

/// Service that tests can stop, kill, pause and restart.
pub trait Service {
    /// Returns the process or container.
    fn backend(&mut self) -> &mut dyn Backend;

    /// Returns an error unless it processes requests; an open port is not enough.
    fn check_ready(&self) -> Result<()>;

    /// Starts it again on the same ports with the same data, and waits until it is ready.
    fn restart(&mut self) -> Result<()> {
        self.backend().start()?;
        self.await_ready()
    }

    /// Ends it gracefully and waits for the end.
    fn stop(&mut self) -> Result<()> {
        self.backend().stop()
    }

    /// Ends it immediately, as a crash does.
    fn kill(&mut self) -> Result<()> {
        self.backend().kill()
    }

    /// Pauses it with its connections open, as a hung machine does.
    fn pause(&mut self) -> Result<()> {
        self.backend().pause()
    }

    /// Resumes it after [`pause`](Self::pause).
    fn resume(&mut self) -> Result<()> {
        self.backend().resume()
    }

    /// Waits until it is ready. A service that ends meanwhile is started again, at most three
    /// times.
    ///
    /// A killed PostgreSQL leaves child processes for a moment, and a new one refuses to start next
    /// to them.
    fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut starts_left = 3;
        loop {
            let Err(error) = self.check_ready() else { return Ok(()) };
            if !self.backend().is_running()? {
                if starts_left == 0 {
                    bail!(
                        "service ended unexpectedly; its log ends:\n{}",
                        self.backend().log_tail()
                    );
                }
                starts_left -= 1;
                thread::sleep(Duration::from_millis(500));
                self.backend().start()?;
            }
            if Instant::now() > deadline {
                let log = self.backend().log_tail();
                return Err(error.context(format!("service is not ready; its log ends:\n{log}")));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Maximum time of a start. A JVM on a busy two-core machine takes ten seconds; an image may have
/// to be pulled.
const READY_TIMEOUT: Duration = Duration::from_mins(2);

/// Service that another process has started and ends.
#[derive(Debug)]
pub(super) struct External;

impl Backend for External {
    fn start(&mut self) -> Result<()> {
        bail!(SHARED_SERVICE)
    }

    fn stop(&mut self) -> Result<()> {
        bail!(SHARED_SERVICE)
    }

    fn kill(&mut self) -> Result<()> {
        bail!(SHARED_SERVICE)
    }

    fn pause(&mut self) -> Result<()> {
        bail!(SHARED_SERVICE)
    }

    fn resume(&mut self) -> Result<()> {
        bail!(SHARED_SERVICE)
    }

    fn is_running(&mut self) -> Result<bool> {
        Ok(true)
    }

    fn log_tail(&self) -> String {
        "(in the folder of the process that started it)".to_owned()
    }

    fn leave_running(self: Box<Self>) -> String {
        "true".to_owned()
    }
}

const SHARED_SERVICE: &str = "other tests use this service: start a separate one to interrupt it";

/// Kind of backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendKind {
    Process,
    Container,
}

impl BackendKind {
    /// Reads the environment variable `DUCKTIDE_SERVICES`; a process by default.
    pub(super) fn from_env() -> Result<Self> {
        match env::var("DUCKTIDE_SERVICES").as_deref() {
            Err(_) | Ok("" | "processes") => Ok(Self::Process),
            Ok("containers") => Ok(Self::Container),
            Ok(other) => bail!("DUCKTIDE_SERVICES is `processes` or `containers`, not `{other}`"),
        }
    }
}
