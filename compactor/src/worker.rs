//! Leads or stands by, does what is due, and stops as asked.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ducktide_lake::endpoints::{self, Readiness};
use ducktide_lake::telemetry::Trouble;
use ducktide_lake::{ErrorKind, LakeError};
use prometheus_client::registry::Registry;
use tokio::task::spawn_blocking;

use crate::config::{Config, PassArgs, RunArgs, ScheduleArgs};
use crate::error::CompactorError;
use crate::metrics::Metrics;
use crate::pass::{Pass, is_of_one_table};
use crate::planner::Due;
use crate::schedule::{Chore, Schedule};

/// How long one attempt to lead waits: a standby takes over within seconds.
const LEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a leader that has nothing to do makes sure that it leads.
const LEADERSHIP_INTERVAL: Duration = Duration::from_secs(5);

/// Between two attempts on a lake that cannot be reached.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// How often the lake's health is measured for the metrics.
const HEALTH_INTERVAL: Duration = Duration::from_mins(1);

/// Tells a working thread to stop, and wakes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits so long, or until it is set.
    pub(crate) fn wait(&self, timeout: Duration) {
        let stopped = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(stopped, timeout, |stopped| !*stopped);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Looks after the lake until `shutdown`.
pub async fn run(args: RunArgs, shutdown: impl Future<Output = ()>) -> Result<(), CompactorError> {
    let config = Arc::new(Config::try_from(args.pass)?);
    let readiness = Readiness::starting();
    let mut exported = endpoints::registry("ducktide-compactor", &readiness);
    let metrics = Arc::new(Metrics::register(&mut exported));
    let address = endpoints::serve(args.listen, exported, readiness.clone())
        .await
        .map_err(CompactorError::Listen)?;
    tracing::info!(%address, "serving /metrics, /healthz and /readyz");
    let stop = Stop::default();
    let mut worker = Worker {
        config: Arc::clone(&config),
        metrics,
        readiness,
        stop: stop.clone(),
        trouble: Trouble::default(),
    };
    let working = move || worker.work(&args.schedule);
    finish(working, &config, &stop, shutdown).await
}

/// Does everything that is due, once. Errors when another compactor leads.
pub async fn once(
    args: PassArgs,
    shutdown: impl Future<Output = ()>,
) -> Result<(), CompactorError> {
    let config = Arc::new(Config::try_from(args)?);
    let stop = Stop::default();
    let (of_pass, stopping) = (Arc::clone(&config), stop.clone());
    let working = move || {
        // Nobody scrapes a program that ends by itself.
        let metrics = Metrics::register(&mut Registry::default());
        let mut pass = Pass::open(&of_pass, &Arc::new(metrics), &stopping)?;
        if !pass.lake.lead(LEAD_TIMEOUT)? {
            return Err(CompactorError::AnotherLeads(pass.lake.leader()));
        }
        // What one of them refuses must not keep the others from being done.
        let mut refused = pass.merge(&Due::all(&of_pass.policy));
        for chore in Chore::ALL.into_iter().take_while(|_| !stopping.is_set()) {
            refused = pass.chore(chore).and(refused);
        }
        refused?;
        pass.into_tally().undone().map_or(Ok(()), |reason| Err(CompactorError::Undone(reason)))
    };
    finish(working, &config, &stop, shutdown).await
}

/// Waits for the working thread; after `shutdown`, only for so long.
async fn finish(
    working: impl FnOnce() -> Result<(), CompactorError> + Send + 'static,
    config: &Config,
    stop: &Stop,
    shutdown: impl Future<Output = ()>,
) -> Result<(), CompactorError> {
    let mut working = spawn_blocking(working);
    tokio::select! {
        done = &mut working => return done.map_err(|_| CompactorError::Panicked)?,
        () = shutdown => {}
    }
    tracing::info!("stopping after the current operation");
    stop.set();
    match tokio::time::timeout(config.shutdown_timeout, working).await {
        Ok(done) => done.map_err(|_| CompactorError::Panicked)?,
        Err(_elapsed) => Err(CompactorError::ShutdownTimeout),
    }
}

struct Worker {
    config: Arc<Config>,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: Stop,
    trouble: Trouble,
}

impl Worker {
    fn work(&mut self, schedule: &ScheduleArgs) -> Result<(), CompactorError> {
        let mut schedule = Schedule::new(schedule, &self.config.policy, Instant::now());
        while !self.stop.is_set() {
            let worked = match self.open() {
                Ok(Some(mut pass)) => self.lead(&mut pass, &mut schedule),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            self.metrics.leads(false);
            match worked {
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    self.sit_out("not the leader any more, starting over", &error);
                }
                worked => worked?,
            }
        }
        Ok(())
    }

    /// Opens the lake, again and again while it cannot be reached; None when it is time to stop.
    fn open(&mut self) -> Result<Option<Pass>, LakeError> {
        while !self.stop.is_set() {
            match Pass::open(&self.config, &self.metrics, &self.stop) {
                Ok(pass) => return Ok(Some(pass)),
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    self.sit_out("waiting for the lake", &error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Waits before the next try.
    fn sit_out(&mut self, what: &str, error: &LakeError) {
        let error = error.chain();
        if self.trouble.is_news(&format!("{what}: {error}")) {
            tracing::warn!(error, "{what}");
        }
        self.readiness.set(Err(error));
        self.stop.wait(RETRY_INTERVAL);
    }

    fn set_ready(&mut self) {
        if self.trouble.is_over() {
            tracing::info!("the lake answers again");
        }
        self.readiness.set(Ok(()));
    }

    /// Stands by until it is the leader's turn, then works until it is time to stop, or the lead is
    /// lost.
    fn lead(&mut self, pass: &mut Pass, schedule: &mut Schedule) -> Result<(), LakeError> {
        let mut standing_by = false;
        while !pass.lake.lead(LEAD_TIMEOUT)? {
            if self.stop.is_set() {
                return Ok(());
            }
            self.set_ready();
            if !standing_by {
                tracing::info!(leader = pass.lake.leader(), "standing by, another compactor leads");
                standing_by = true;
            }
            // The lock file is asked at once; the server's lock has been waited for.
            self.stop.wait(LEAD_TIMEOUT / 10);
        }
        tracing::info!("leading");
        self.metrics.leads(true);
        self.set_ready();
        let mut next_look = Instant::now();
        while !self.stop.is_set() {
            pass.lake.check_leadership()?;
            if let Some(due) = schedule.merging(Instant::now()) {
                match pass.merge(&due) {
                    // Logged for its table; the next operations are other tables' too.
                    Err(error) if is_of_one_table(&error) => {}
                    merged => merged?,
                }
            }
            for chore in schedule.chores(Instant::now()) {
                pass.lake.check_leadership()?;
                match pass.chore(chore) {
                    Err(error) if is_of_one_table(&error) => {
                        tracing::error!(error = error.chain(), "somebody must look; going on");
                    }
                    done => done?,
                }
                if self.stop.is_set() {
                    return Ok(());
                }
            }
            if next_look <= Instant::now() {
                pass.look()?;
                next_look = Instant::now() + HEALTH_INTERVAL;
            }
            let idle = schedule.next().saturating_duration_since(Instant::now());
            self.stop.wait(idle.min(LEADERSHIP_INTERVAL));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_waiting_thread_is_woken_to_stop() {
        let stop = Stop::default();
        let waiting = {
            let stop = stop.clone();
            thread::spawn(move || stop.wait(Duration::from_mins(1)))
        };

        stop.set();

        waiting.join().unwrap();
        assert!(stop.is_set());
    }
}
