//! What every service can be made to do, whatever it runs as.

use std::{
    env,
    fmt::Debug,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// A started service, as a process or as a container. Ended when dropped.
pub trait Backend: Debug + Send + Sync {
    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), with the same ports and
    /// the same data.
    fn start(&mut self) -> Result<()>;
    /// Ends it politely and waits for that.
    fn stop(&mut self) -> Result<()>;
    /// Ends it at once.
    fn kill(&mut self) -> Result<()>;
    /// Lets it stand still, its connections open.
    fn pause(&mut self) -> Result<()>;
    /// Lets it go on.
    fn resume(&mut self) -> Result<()>;
    /// Whether it has not ended by itself.
    fn is_running(&mut self) -> Result<bool>;
    /// The end of its log, for error messages.
    fn log_tail(&self) -> String;
    /// Lets it outlive this process. Returns the shell command that ends it.
    fn leave_running(self: Box<Self>) -> String;
}

/// Stops, kills, pauses and restarts a service: what tests of outages are made of.
pub trait Service {
    /// What it runs as.
    fn backend(&mut self) -> &mut dyn Backend;

    /// Whether it does its work: not merely that its port is open.
    fn check_ready(&self) -> Result<()>;

    /// Starts it again on the same ports with the same data, and waits until it check_ready.
    fn restart(&mut self) -> Result<()> {
        self.backend().start()?;
        self.await_ready()
    }

    /// Ends it politely and waits for that.
    fn stop(&mut self) -> Result<()> {
        self.backend().stop()
    }

    /// Ends it at once, as a crash of its machine would.
    fn kill(&mut self) -> Result<()> {
        self.backend().kill()
    }

    /// Lets it stand still with its connections open, as a hung machine would.
    fn pause(&mut self) -> Result<()> {
        self.backend().pause()
    }

    /// Lets it go on after [`pause`](Self::pause).
    fn resume(&mut self) -> Result<()> {
        self.backend().resume()
    }

    /// Waits until it check_ready; a service that ends meanwhile is started again, a few times.
    ///
    /// That happens for a good reason: a PostgreSQL that was killed leaves children behind for a
    /// moment, which a new one does not tolerate.
    fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut starts_left = 3;
        loop {
            let Err(error) = self.check_ready() else { return Ok(()) };
            if !self.backend().is_running()? {
                if starts_left == 0 {
                    bail!("service ends by itself; its log ends:\n{}", self.backend().log_tail());
                }
                starts_left -= 1;
                thread::sleep(Duration::from_millis(500));
                self.backend().start()?;
            }
            if Instant::now() > deadline {
                let log = self.backend().log_tail();
                return Err(error.context(format!("service does not answer; its log ends:\n{log}")));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A JVM on a busy two-core machine takes ten seconds to start; an image may have to be pulled.
const READY_TIMEOUT: Duration = Duration::from_mins(2);

/// A service that another process started, and ends.
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

const SHARED_SERVICE: &str =
    "other tests use this service: start one of the test's own to interrupt it";

/// What services run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendKind {
    Process,
    Container,
}

impl BackendKind {
    /// As the environment variable `DUCKTIDE_SERVICES` says.
    pub(super) fn from_env() -> Result<Self> {
        match env::var("DUCKTIDE_SERVICES").as_deref() {
            Err(_) | Ok("" | "processes") => Ok(Self::Process),
            Ok("containers") => Ok(Self::Container),
            Ok(other) => bail!("DUCKTIDE_SERVICES is `processes` or `containers`, not `{other}`"),
        }
    }
}
