//! Chaos tests: a seeded schedule of overlapping faults on real services, checked by an oracle that
//! shares no code with Ducktide.
//!
//! The schedule is a pure function of the seed. The effect of a fault, such as the commit that a
//! kill interrupts, differs from run to run.

mod audit;
mod compactor_slot;
mod consumer_slot;
mod environment;
mod fault;
mod final_check;
mod foreign_writer;
mod history;
mod inject;
mod options;
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
    options::Options,
    report::ChaosReport,
};

use self::{
    environment::{Environment, lock},
    final_check::CATCH_UP_TIMEOUT,
    history::History,
    schedule::{ScheduleParams, ScheduledFault, schedule},
};
use crate::{
    catalog::{Catalog, CatalogKind},
    oracle::Comparison,
    program::RunningProgram,
    services::Service,
    wait,
    worker::Worker,
    workspace,
};

/// Ratio of records that cannot be decoded. Each must become one dead letter.
const POISON_RATIO: &str = "0.001";

/// Arguments with which the producer uses an added partition within seconds instead of minutes.
const FAST_METADATA_REFRESH: &[&str] =
    &["--kafka-property", "topic.metadata.refresh.interval.ms=5000"];

/// Time between two reads of the progress.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Time between two audits of the whole table.
const AUDIT_INTERVAL: Duration = Duration::from_secs(25);

/// Time between two checks of old snapshots.
const HISTORY_INTERVAL: Duration = Duration::from_secs(12);

/// Time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// Runs a schedule, and compares the lake with the producer's ledger. Violations are in the report;
/// an error means that the schedule could not be run. The schedule is written to `.ducktide/chaos`.
pub fn run(options: &Options, log: &mut (dyn FnMut(&str) + Send)) -> Result<ChaosReport> {
    let params = ScheduleParams {
        catalog: options.catalog,
        in_object_storage: options.in_object_storage,
        consumers: options.consumers,
        length: options.length,
    };
    let events = schedule(options.seed, &params);
    let path = write_schedule(options, &events)?;
    log(&format!("{} faults; the schedule is in {}", events.len(), path.display()));
    let environment = Environment::start(options, log)?;
    let rate = options.rate.to_string();
    let arguments =
        [&["--continuous", "--rate", &rate, "--poison", POISON_RATIO], FAST_METADATA_REFRESH]
            .concat();
    let mut producer = environment.pipeline.start_producer(&arguments)?;
    thread::scope(|scope| {
        let result = run_schedule(scope, &environment, options, &events, log);
        environment.stop();
        result
    })?;
    log("fault injection finished; waiting until all events are in the lake");
    recover_all(&environment)?;
    let comparison = drain(&environment, &mut producer, log)?;
    log("all events are in the lake; running a final compaction and checking all files");
    final_check::run(&environment, options.catalog)?;
    if let Err(error) = lock(&environment.foreign_writer).check(&environment.pipeline.lake()?) {
        environment.add_violation(format!("{error:#}"));
    }
    let comparison = compare_again(&environment, &comparison)?;
    let verified = verify(&environment)?;
    Ok(ChaosReport::new(options, &environment, comparison, verified))
}

/// Writes the schedule of the run to a file, and returns its path.
fn write_schedule(options: &Options, events: &[ScheduledFault]) -> Result<PathBuf> {
    let folder = workspace::root().join(".ducktide/chaos");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let (catalog, storage) = (report::name(options.catalog), report::storage(options));
    let path = folder.join(format!("{catalog}-{storage}-{}.jsonl", options.seed));
    let lines = events.iter().map(|event| Ok(serde_json::to_string(event)? + "\n"));
    let text: String = lines.collect::<Result<_>>()?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Injects the faults at their times, restarts programs that have ended, and checks the lake.
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
    let (began, mut last_logged, mut shown) = (Instant::now(), Instant::now(), 0);
    let mut events = events.iter().peekable();
    while began.elapsed() < options.length {
        let now = u64::try_from(began.elapsed().as_millis()).context("the run is too long")?;
        while let Some(event) = events.next_if(|event| event.at_ms <= now) {
            let fault = event.fault;
            scope.spawn(move || inject::inject(environment, fault));
        }
        supervision::supervise(environment)?;
        if last_logged.elapsed() > PROGRESS_INTERVAL {
            last_logged = Instant::now();
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
    let checks = stats.audits + stats.history_checks;
    format!(
        "{:>4} s: {faults} faults, {} consumers and {} compactors killed, {checks} checks of the lake, \
         {} violations",
        elapsed.as_secs(),
        stats.kills,
        stats.compactor_kills,
        stats.violations.len()
    )
}

/// Logs the violations after the first `shown`. Returns the number of all.
fn log_violations(environment: &Environment, shown: usize, log: &mut dyn FnMut(&str)) -> usize {
    let violations = environment.stats().violations.clone();
    violations[shown..].iter().for_each(|violation| log(&format!("VIOLATION: {violation}")));
    violations.len()
}

/// Checks that progress never decreases, except by a replay.
fn watch_progress(environment: &Environment) {
    let Ok(mut catalog) = Catalog::at(&environment.pipeline.catalog) else { return };
    while !environment.is_stopping() {
        // During an outage the catalog cannot be read.
        if let Ok(positions) = environment::positions(&mut catalog) {
            let violations = lock(&environment.recoveries).observe(Instant::now(), positions);
            for violation in violations {
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
            environment.add_violation(format!("a reader cannot read the lake: {error:#}"));
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

/// Removes all faults, and restarts every program without failpoints.
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

/// Stops the producer, waits until all acknowledged records are in the lake, and stops the
/// consumers.
fn drain(
    environment: &Environment,
    producer: &mut RunningProgram,
    log: &mut dyn FnMut(&str),
) -> Result<Comparison> {
    let published = environment.pipeline.stop_producer(producer)?;
    log(&format!("{published} events were acknowledged"));
    let mut comparison = None;
    let result = wait::until("nothing is missing", CATCH_UP_TIMEOUT, || {
        supervision::supervise(environment)?;
        let now = environment.pipeline.compare()?;
        let complete = now.missing.count == 0;
        comparison = Some(now);
        thread::sleep(Duration::from_secs(1));
        Ok(complete)
    });
    if let Err(error) = result {
        environment.add_violation(format!("the lake did not catch up: {error:#}"));
    }
    for slot in &environment.slots {
        if let Err(error) =
            lock(slot).worker().map_or(Ok(()), |worker| Worker::stop(worker).map(|_| ()))
        {
            environment.add_violation(format!("a consumer did not end gracefully: {error:#}"));
        }
    }
    comparison.context("the lake was never compared")?;
    environment.pipeline.compare()
}

/// Checks that the final compaction did not change the table.
fn compare_again(environment: &Environment, before: &Comparison) -> Result<Comparison> {
    let now = environment.pipeline.compare()?;
    if now != *before {
        environment.add_violation(format!(
            "the final compaction changed the table: before: {before}; after: {now}"
        ));
    }
    Ok(now)
}

/// Runs `ducktide verify --deep`, and returns its last line.
fn verify(environment: &Environment) -> Result<String> {
    let pipeline = &environment.pipeline;
    let mut running = pipeline
        .ducktide(&["verify", "--deep", "--against-ledger"])?
        .args([pipeline.ledger()])
        .start(pipeline.logs(), "verify")?;
    let finished = running.wait(CATCH_UP_TIMEOUT)?;
    let output = running.output()?;
    let last = output.lines().last().unwrap_or_default().to_owned();
    if !finished.status.success() {
        environment.add_violation(format!("ducktide verify: {}: {output}", finished.status));
    }
    ensure!(!last.is_empty(), "ducktide verify printed nothing");
    Ok(last)
}
