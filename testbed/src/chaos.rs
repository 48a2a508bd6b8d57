//! Chaos: everything that can go wrong, several things at a time, on the real services, by a seeded
//! schedule; and an oracle outside of the code under test.
//!
//! The schedule is a pure function of the seed, so a run can be had again by its seed. What the
//! machine makes of it, which commit a kill meets, differs from run to run.

mod audit;
mod compactor_slot;
mod consumer_slot;
mod environment;
mod fault;
mod final_check;
mod foreign_writer;
mod history;
mod inject;
mod recovery_timer;
mod report;
mod schedule;
mod supervision;

use std::{
    fs,
    path::PathBuf,
    thread::{self, Scope},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

pub use self::{
    fault::{FAILPOINTS, MERGE_FAILPOINTS},
    report::ChaosReport,
};

use self::{
    environment::{Environment, lock},
    history::History,
    schedule::{ScheduleParams, ScheduledFault, schedule},
};
use crate::{
    catalog::{Catalog, CatalogKind},
    oracle::Comparison,
    program::{Program, RunningProgram},
    services::Service,
    wait,
    worker::Worker,
    workspace,
};

/// A run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Makes the schedule. An odd one runs in Kafka's consumer protocol, an even one in the classic.
    pub seed: u64,
    /// How long faults are injected.
    pub length: Duration,
    /// The catalog.
    pub catalog: CatalogKind,
    /// How many consumers share the topic.
    pub consumers: usize,
    /// Events per second.
    pub rate: u32,
}

/// The part of all records that nobody can decode: they must become dead letters, once each.
const POISON_RATIO: &str = "0.001";

/// The producer writes to a partition that was added within seconds, not minutes.
const FAST_METADATA_REFRESH: &[&str] =
    &["--kafka-property", "topic.metadata.refresh.interval.ms=5000"];

/// Between two looks at progress.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Between two looks at the whole lake.
const AUDIT_INTERVAL: Duration = Duration::from_secs(25);

/// Between two looks at the past.
const HISTORY_INTERVAL: Duration = Duration::from_secs(12);

/// Between two lines that tell how far the run is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// How long the lake may take to catch up once nothing goes wrong any more: the transaction of a
/// producer that died with its broker holds readers up for a minute.
const CATCH_UP_TIMEOUT: Duration = Duration::from_mins(5);

/// Runs a schedule, and compares lake and ledger. An error means that it could not be run; what is
/// wrong with the lake is in the report. Its schedule is kept in `.ducktide/chaos`.
pub fn run(options: &Options, log: &mut (dyn FnMut(&str) + Send)) -> Result<ChaosReport> {
    let params = ScheduleParams {
        catalog: options.catalog,
        consumers: options.consumers,
        length: options.length,
    };
    let events = schedule(options.seed, &params);
    let kept = write_schedule(options, &events)?;
    log(&format!("{} faults; the schedule is in {}", events.len(), kept.display()));
    let environment = Environment::start(options, log)?;
    let rate = options.rate.to_string();
    let producing =
        [&["--continuous", "--rate", &rate, "--poison", POISON_RATIO], FAST_METADATA_REFRESH]
            .concat();
    let mut producer = environment.pipeline.start_producer(&producing)?;
    thread::scope(|scope| {
        let ran = run_schedule(scope, &environment, options, &events, log);
        environment.stop();
        ran
    })?;
    log("nothing goes wrong any more; waiting for the lake to catch up");
    recover_all(&environment)?;
    let comparison = drain(&environment, &mut producer, log)?;
    log("every event is there; tidying up, and looking at every file");
    final_check::run(&environment, options.catalog)?;
    if let Err(error) = lock(&environment.foreign_writer).check(&environment.pipeline.lake()?) {
        environment.add_violation(format!("{error:#}"));
    }
    let comparison = compare_again(&environment, &comparison)?;
    let verified = verify(&environment)?;
    Ok(ChaosReport::new(options, &environment, comparison, verified))
}

/// The schedule, for whoever wants to see what a seed did.
fn write_schedule(options: &Options, events: &[ScheduledFault]) -> Result<PathBuf> {
    let folder = workspace::root().join(".ducktide/chaos");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let catalog = report::name(options.catalog);
    let path = folder.join(format!("{catalog}-{}.jsonl", options.seed));
    let lines = events.iter().map(|event| Ok(serde_json::to_string(event)? + "\n"));
    let text: String = lines.collect::<Result<_>>()?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Injects the events at their times, and looks after everything meanwhile.
fn run_schedule<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    environment: &'env Environment,
    options: &'env Options,
    events: &[ScheduledFault],
    log: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut catalog = Catalog::at(&environment.pipeline.catalog)?;
    supervision::start_consumers(environment)?;
    let first = || Ok(catalog.committed_offsets()? > 0);
    wait::until("the first rows are in the lake", CATCH_UP_TIMEOUT, first)?;
    scope.spawn(|| watch_progress(environment));
    scope.spawn(|| audit_periodically(environment, options.catalog));
    scope.spawn(|| check_history_periodically(environment));
    let (began, mut told, mut shown) = (Instant::now(), Instant::now(), 0);
    let mut events = events.iter().peekable();
    while began.elapsed() < options.length {
        let now = u64::try_from(began.elapsed().as_millis()).context("a run of ages")?;
        while let Some(event) = events.next_if(|event| event.at_ms <= now) {
            let fault = event.fault;
            scope.spawn(move || inject::inject(environment, fault));
        }
        supervision::supervise(environment)?;
        if told.elapsed() > PROGRESS_INTERVAL {
            told = Instant::now();
            log(&progress_line(environment, began.elapsed()));
            shown = log_violations(environment, shown, log);
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn progress_line(environment: &Environment, elapsed: Duration) -> String {
    let stats = environment.stats();
    let faults: u64 = stats.injected.values().sum();
    let looks = stats.audits + stats.history_checks;
    format!(
        "{:>4} s: {faults} faults, {} consumers and {} compactors killed, {looks} looks at the lake, \
         {} violations",
        elapsed.as_secs(),
        stats.kills,
        stats.compactor_kills,
        stats.violations.len()
    )
}

/// The violations beyond so many; how many there are.
fn log_violations(environment: &Environment, shown: usize, log: &mut dyn FnMut(&str)) -> usize {
    let violations = environment.stats().violations.clone();
    violations[shown..].iter().for_each(|violation| log(&format!("VIOLATION: {violation}")));
    violations.len()
}

/// Progress never goes back, except by replay.
fn watch_progress(environment: &Environment) {
    let Ok(mut catalog) = Catalog::at(&environment.pipeline.catalog) else { return };
    while !environment.is_stopping() {
        // In an outage there is nothing to see.
        if let Ok(positions) = environment::positions(&mut catalog) {
            let went_back = lock(&environment.recoveries).observe(Instant::now(), positions);
            for violation in went_back {
                environment.add_violation(violation);
            }
        }
        environment.sleep(POLL_INTERVAL);
    }
}

fn audit_periodically(environment: &Environment, catalog: CatalogKind) {
    while !environment.is_stopping() {
        environment.sleep(AUDIT_INTERVAL);
        if let Err(error) = audit::audit(environment, catalog) {
            environment.add_violation(format!("a reader could not read the lake: {error:#}"));
        }
    }
}

fn check_history_periodically(environment: &Environment) {
    let mut history = History::default();
    while !environment.is_stopping() {
        environment.sleep(HISTORY_INTERVAL);
        history::check(environment, &mut history);
    }
}

/// Everything is up, and every slot is filled by somebody who is not armed.
fn recover_all(environment: &Environment) -> Result<()> {
    environment.proxies.iter().for_each(crate::faults::CommitProxy::disarm);
    for slot in &environment.slots {
        let mut slot = lock(slot);
        if let Some(worker) = slot.worker() {
            worker.process().resume()?;
        }
        slot.stop()?;
        slot.start(&environment.pipeline, "")?;
    }
    let mut slot = lock(&environment.compactor);
    slot.kill()?;
    slot.start(&environment.pipeline, "")?;
    lock(&environment.kafka).await_ready()?;
    Ok(())
}

/// Ends the producer, waits until everything that it saw acknowledged is in the lake, and ends the
/// consumers.
fn drain(
    environment: &Environment,
    producer: &mut RunningProgram,
    log: &mut dyn FnMut(&str),
) -> Result<Comparison> {
    let published = environment.pipeline.stop_producer(producer)?;
    log(&format!("{published} events were acknowledged"));
    let mut comparison = None;
    let waited = wait::until("nothing is missing", CATCH_UP_TIMEOUT, || {
        supervision::supervise(environment)?;
        let now = environment.pipeline.compare()?;
        let complete = now.missing.count == 0;
        comparison = Some(now);
        thread::sleep(Duration::from_secs(1));
        Ok(complete)
    });
    if let Err(error) = waited {
        environment.add_violation(format!("the lake did not catch up: {error:#}"));
    }
    for slot in &environment.slots {
        if let Err(error) =
            lock(slot).worker().map_or(Ok(()), |worker| Worker::stop(worker).map(|_| ()))
        {
            environment.add_violation(format!("a consumer did not end politely: {error:#}"));
        }
    }
    comparison.context("the lake was never compared")?;
    environment.pipeline.compare()
}

/// What was removed and merged last took nothing away.
fn compare_again(environment: &Environment, before: &Comparison) -> Result<Comparison> {
    let now = environment.pipeline.compare()?;
    if now != *before {
        environment
            .add_violation(format!("tidying up changed the table: before: {before}; after: {now}"));
    }
    Ok(now)
}

/// What Ducktide's own proof says.
fn verify(environment: &Environment) -> Result<String> {
    let pipeline = &environment.pipeline;
    let mut running = Program::named("ducktide")?
        .args(["verify", "--deep", "--catalog", &pipeline.catalog, "--against-ledger"])
        .args([pipeline.ledger()])
        .start(pipeline.logs(), "verify")?;
    let finished = running.wait(CATCH_UP_TIMEOUT)?;
    let output = running.output()?;
    let last = output.lines().last().unwrap_or_default().to_owned();
    if !finished.status.success() {
        environment.add_violation(format!("ducktide verify: {}: {output}", finished.status));
    }
    ensure!(!last.is_empty(), "ducktide verify said nothing");
    Ok(last)
}
