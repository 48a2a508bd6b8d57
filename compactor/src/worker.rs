//! Leader election, the loop of due operations, and shutdown.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ducktide_protocol::{ErrorKind, LakeError, LakeFault};
use ducktide_service::endpoints::{self, Readiness};
use ducktide_service::telemetry::LogOnChange;
use ducktide_service::traces::Traces;
use prometheus_client::registry::Registry;
use tokio::task::spawn_blocking;

use crate::config::{Config, PassArgs, RunArgs, ScheduleArgs};
use crate::error::CompactorError;
use crate::metrics::Metrics;
use crate::pass::{Pass, concerns_one_table};
use crate::planner::DueTiers;
use crate::schedule::{Schedule, Task};

/// Name in metrics and traces.
const PROGRAM: &str = "ducktide-compactor";

/// Timeout of one attempt to become the leader; a standby takes over within seconds.
const LEAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Time between two checks of an idle leader that it is still the leader.
const LEADERSHIP_INTERVAL: Duration = Duration::from_secs(5);

/// Pause between two attempts to reach an unavailable lake.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Time between two checks of a catalog whose format is unknown, which an operator restores.
const FORMAT_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two measurements of the lake's health for the metrics.
const HEALTH_INTERVAL: Duration = Duration::from_mins(1);

/// Request to stop, which wakes a waiting thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopRequest(Arc<(Mutex<bool>, Condvar)>);

impl StopRequest {
    fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the timeout, or until the stop is requested.
    pub(crate) fn wait(&self, timeout: Duration) {
        let stopped = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(stopped, timeout, |stopped| !*stopped);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Maintains the lake until `shutdown`.
pub async fn run(args: RunArgs, shutdown: impl Future<Output = ()>) -> Result<(), CompactorError> {
    let config = Arc::new(Config::try_from(args.pass)?);
    let traces = Arc::new(Traces::from_env(PROGRAM)?);
    let readiness = Readiness::starting();
    let mut exported = endpoints::registry(PROGRAM, &readiness);
    let metrics = Arc::new(Metrics::register(&mut exported));
    let address = endpoints::serve(&args.endpoints, exported, readiness.clone())
        .await
        .map_err(CompactorError::Listen)?;
    tracing::info!(%address, "serving /metrics, /healthz and /readyz");
    let stop = StopRequest::default();
    let mut worker = Worker {
        config: Arc::clone(&config),
        metrics,
        traces,
        readiness,
        stop: stop.clone(),
        retry_log: LogOnChange::default(),
    };
    let working = move || worker.work(&args.schedule);
    finish(working, &config, &stop, shutdown).await
}

/// Runs everything that is due once. Returns an error if another compactor is the leader.
pub async fn once(
    args: PassArgs,
    shutdown: impl Future<Output = ()>,
) -> Result<(), CompactorError> {
    let config = Arc::new(Config::try_from(args)?);
    let traces = Arc::new(Traces::from_env(PROGRAM)?);
    let stop = StopRequest::default();
    let (of_pass, stopping) = (Arc::clone(&config), stop.clone());
    let working = move || {
        // A program that exits after one pass has no metrics endpoint.
        let metrics = Metrics::register(&mut Registry::default());
        let mut pass = Pass::open(&of_pass, &Arc::new(metrics), &traces, &stopping)?;
        if !pass.lake.lead(LEAD_TIMEOUT)? {
            return Err(CompactorError::NotLeader(pass.lake.leader()));
        }
        // An error of one operation must not prevent the others.
        let mut failed = pass.merge(&DueTiers::all(&of_pass.policy));
        for task in Task::ALL.into_iter().take_while(|_| !stopping.is_set()) {
            failed = pass.run_task(task).and(failed);
        }
        failed?;
        pass.into_result()
            .incomplete_reason()
            .map_or(Ok(()), |reason| Err(CompactorError::Incomplete(reason)))
    };
    finish(working, &config, &stop, shutdown).await
}

/// Waits for the working thread; after `shutdown`, at most for the shutdown timeout.
async fn finish(
    working: impl FnOnce() -> Result<(), CompactorError> + Send + 'static,
    config: &Config,
    stop: &StopRequest,
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
    traces: Arc<Traces>,
    readiness: Readiness,
    stop: StopRequest,
    retry_log: LogOnChange,
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
            self.metrics.set_leader(false);
            match worked {
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    self.back_off("leadership lost, restarting", &error);
                }
                Err(error)
                    if matches!(error.fault(), Some(LakeFault::UnknownCatalogFormat { .. })) =>
                {
                    self.wait_for_known_format(&error);
                }
                worked => worked?,
            }
        }
        Ok(())
    }

    /// Waits without changing anything, so that Prometheus can scrape the metric: a program that ends at
    /// once cannot be scraped.
    fn wait_for_known_format(&mut self, error: &LakeError) {
        let error = error.chain();
        if self.retry_log.is_new(&error) {
            tracing::error!(error, "catalog format unknown, operator action required");
        }
        self.metrics.set_format_unknown(true);
        self.readiness.set(Err(error));
        self.stop.wait(FORMAT_INTERVAL);
    }

    /// Opens the lake, retrying while it is unavailable; returns None if a stop is requested.
    fn open(&mut self) -> Result<Option<Pass>, LakeError> {
        while !self.stop.is_set() {
            match Pass::open(&self.config, &self.metrics, &self.traces, &self.stop) {
                Ok(pass) => {
                    self.metrics.set_format_unknown(false);
                    return Ok(Some(pass));
                }
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    self.back_off("lake unavailable, retrying", &error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Waits before the next attempt.
    fn back_off(&mut self, what: &str, error: &LakeError) {
        let error = error.chain();
        if self.retry_log.is_new(&format!("{what}: {error}")) {
            tracing::warn!(error, "{what}");
        }
        self.readiness.set(Err(error));
        self.stop.wait(RETRY_INTERVAL);
    }

    fn set_ready(&mut self) {
        if self.retry_log.recovered() {
            tracing::info!("lake available again");
        }
        self.readiness.set(Ok(()));
    }

    /// Stands by until this compactor is the leader, then runs due operations until a stop is
    /// requested or the leadership is lost.
    fn lead(&mut self, pass: &mut Pass, schedule: &mut Schedule) -> Result<(), LakeError> {
        let mut standing_by = false;
        while !pass.lake.lead(LEAD_TIMEOUT)? {
            if self.stop.is_set() {
                return Ok(());
            }
            self.set_ready();
            if !standing_by {
                tracing::info!(
                    leader = pass.lake.leader(),
                    "standby, another compactor is the leader"
                );
                standing_by = true;
            }
            // The attempt on a lock file returns at once; that on a server's lock has already
            // waited.
            self.stop.wait(LEAD_TIMEOUT / 10);
        }
        tracing::info!("leadership acquired");
        self.metrics.set_leader(true);
        self.set_ready();
        let mut next_measurement = Instant::now();
        while !self.stop.is_set() {
            pass.lake.check_leadership()?;
            if let Some(due) = schedule.merging(Instant::now()) {
                match pass.merge(&due) {
                    // Already logged for its table; the next operations concern other tables.
                    Err(error) if concerns_one_table(&error) => {}
                    merged => merged?,
                }
            }
            for task in schedule.tasks(Instant::now()) {
                pass.lake.check_leadership()?;
                match pass.run_task(task) {
                    Err(error) if concerns_one_table(&error) => {
                        tracing::error!(
                            error = error.chain(),
                            "maintenance operation failed, operator action required"
                        );
                    }
                    done => done?,
                }
                if self.stop.is_set() {
                    return Ok(());
                }
            }
            if next_measurement <= Instant::now() {
                pass.refresh_health()?;
                next_measurement = Instant::now() + HEALTH_INTERVAL;
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
    fn a_request_to_stop_wakes_a_waiting_thread() {
        let stop = StopRequest::default();
        let waiting = {
            let stop = stop.clone();
            thread::spawn(move || stop.wait(Duration::from_mins(1)))
        };

        stop.set();

        waiting.join().unwrap();
        assert!(stop.is_set());
    }
}
