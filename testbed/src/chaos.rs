//! Chaos: everything that can go wrong, several things at a time, on the real services, by a seeded
//! schedule; and an oracle outside of the code under test.
//!
//! The schedule is a pure function of the seed, so a run can be had again by its seed. What the
//! machine makes of it, which commit a kill meets, differs from run to run.

mod audit;
mod compactor;
mod fault;
mod guest;
mod history;
mod inject;
mod recovery;
mod report;
mod schedule;
mod slot;
mod stage;
mod supervision;
mod tidy;

use std::{
    fs,
    path::PathBuf,
    thread::{self, Scope},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

pub use self::{
    fault::{MERGE_PLACES, PLACES},
    report::Report,
};

use self::{
    history::History,
    schedule::{Event, Terms, schedule},
    stage::{Stage, lock},
};
use crate::{
    catalog::{Catalog, CatalogKind},
    oracle::Comparison,
    program::{Program, Running},
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
const POISON: &str = "0.001";

/// The producer writes to a partition that was added within seconds, not minutes.
const NOTICES_SOON: &[&str] = &["--kafka-property", "topic.metadata.refresh.interval.ms=5000"];

/// Between two looks at progress.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Between two looks at the whole lake.
const AUDIT_INTERVAL: Duration = Duration::from_secs(25);

/// Between two looks at the past.
const LOOK_BACK_INTERVAL: Duration = Duration::from_secs(12);

/// Between two lines that tell how far the run is.
const TELL_INTERVAL: Duration = Duration::from_secs(30);

/// How long the lake may take to catch up once nothing goes wrong any more: the transaction of a
/// producer that died with its broker holds readers up for a minute.
const CATCHES_UP_WITHIN: Duration = Duration::from_mins(5);

/// Runs a schedule, and compares lake and ledger. An error means that it could not be run; what is
/// wrong with the lake is in the report. Its schedule is kept in `.ducktide/chaos`.
pub fn run(options: &Options, say: &mut (dyn FnMut(&str) + Send)) -> Result<Report> {
    let terms =
        Terms { catalog: options.catalog, consumers: options.consumers, length: options.length };
    let events = schedule(options.seed, &terms);
    let kept = keep(options, &events)?;
    say(&format!("{} faults; the schedule is in {}", events.len(), kept.display()));
    let stage = Stage::start(options, say)?;
    let rate = options.rate.to_string();
    let producing = [&["--continuous", "--rate", &rate, "--poison", POISON], NOTICES_SOON].concat();
    let mut producer = stage.pipeline.start_producer(&producing)?;
    thread::scope(|scope| {
        let played = play(scope, &stage, options, &events, say);
        stage.stop();
        played
    })?;
    say("nothing goes wrong any more; waiting for the lake to catch up");
    heal(&stage)?;
    let comparison = settle(&stage, &mut producer, say)?;
    say("every event is there; tidying up, and looking at every file");
    tidy::tidy(&stage, options.catalog)?;
    if let Err(error) = lock(&stage.guest).check(&stage.pipeline.lake()?) {
        stage.violated(format!("{error:#}"));
    }
    let comparison = compare_again(&stage, &comparison)?;
    let verified = verify(&stage)?;
    Ok(Report::new(options, &stage, comparison, verified))
}

/// The schedule, for whoever wants to see what a seed did.
fn keep(options: &Options, events: &[Event]) -> Result<PathBuf> {
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
fn play<'scope, 'env>(
    scope: &'scope Scope<'scope, 'env>,
    stage: &'env Stage,
    options: &'env Options,
    events: &[Event],
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut catalog = Catalog::at(&stage.pipeline.catalog)?;
    supervision::start_consumers(stage)?;
    let first = || Ok(catalog.committed_offsets()? > 0);
    wait::until("the first rows are in the lake", CATCHES_UP_WITHIN, first)?;
    scope.spawn(|| watch_progress(stage));
    scope.spawn(|| audit_now_and_then(stage, options.catalog));
    scope.spawn(|| look_back_now_and_then(stage));
    let (began, mut told, mut shown) = (Instant::now(), Instant::now(), 0);
    let mut events = events.iter().peekable();
    while began.elapsed() < options.length {
        let now = u64::try_from(began.elapsed().as_millis()).context("a run of ages")?;
        while let Some(event) = events.next_if(|event| event.at_ms <= now) {
            let fault = event.fault;
            scope.spawn(move || inject::inject(stage, fault));
        }
        supervision::look_after(stage)?;
        if told.elapsed() > TELL_INTERVAL {
            told = Instant::now();
            say(&progress_line(stage, began.elapsed()));
            shown = say_violations(stage, shown, say);
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}

fn progress_line(stage: &Stage, elapsed: Duration) -> String {
    let books = stage.books();
    let faults: u64 = books.injected.values().sum();
    let looks = books.audits + books.looks_back;
    format!(
        "{:>4} s: {faults} faults, {} consumers and {} compactors killed, {looks} looks at the lake, \
         {} violations",
        elapsed.as_secs(),
        books.kills,
        books.compactor_kills,
        books.violations.len()
    )
}

/// The violations beyond so many; how many there are.
fn say_violations(stage: &Stage, shown: usize, say: &mut dyn FnMut(&str)) -> usize {
    let violations = stage.books().violations.clone();
    violations[shown..].iter().for_each(|violation| say(&format!("VIOLATION: {violation}")));
    violations.len()
}

/// Progress never goes back, except by replay.
fn watch_progress(stage: &Stage) {
    let Ok(mut catalog) = Catalog::at(&stage.pipeline.catalog) else { return };
    while !stage.is_stopping() {
        // In an outage there is nothing to see.
        if let Ok(positions) = stage::positions(&mut catalog) {
            let went_back = lock(&stage.recoveries).observe(Instant::now(), positions);
            for violation in went_back {
                stage.violated(violation);
            }
        }
        stage.sleep(LOOK_INTERVAL);
    }
}

fn audit_now_and_then(stage: &Stage, catalog: CatalogKind) {
    while !stage.is_stopping() {
        stage.sleep(AUDIT_INTERVAL);
        if let Err(error) = audit::audit(stage, catalog) {
            stage.violated(format!("a reader could not read the lake: {error:#}"));
        }
    }
}

fn look_back_now_and_then(stage: &Stage) {
    let mut history = History::default();
    while !stage.is_stopping() {
        stage.sleep(LOOK_BACK_INTERVAL);
        history::look(stage, &mut history);
    }
}

/// Everything is up, and every place is filled by somebody who is not armed.
fn heal(stage: &Stage) -> Result<()> {
    stage.proxies.iter().for_each(crate::faults::CommitProxy::disarm);
    for slot in &stage.slots {
        let mut slot = lock(slot);
        if let Some(worker) = slot.worker() {
            worker.process().resume()?;
        }
        slot.stop()?;
        slot.start(&stage.pipeline, "")?;
    }
    let mut place = lock(&stage.compactor);
    place.kill()?;
    place.start(&stage.pipeline, "")?;
    lock(&stage.kafka).await_answer()?;
    Ok(())
}

/// Ends the producer, waits until everything that it saw acknowledged is in the lake, and ends the
/// consumers.
fn settle(stage: &Stage, producer: &mut Running, say: &mut dyn FnMut(&str)) -> Result<Comparison> {
    let published = stage.pipeline.finish(producer)?;
    say(&format!("{published} events were acknowledged"));
    let mut comparison = None;
    let waited = wait::until("nothing is missing", CATCHES_UP_WITHIN, || {
        supervision::look_after(stage)?;
        let now = stage.pipeline.compare()?;
        let complete = now.missing.count == 0;
        comparison = Some(now);
        thread::sleep(Duration::from_secs(1));
        Ok(complete)
    });
    if let Err(error) = waited {
        stage.violated(format!("the lake did not catch up: {error:#}"));
    }
    for slot in &stage.slots {
        if let Err(error) =
            lock(slot).worker().map_or(Ok(()), |worker| Worker::stop(worker).map(|_| ()))
        {
            stage.violated(format!("a consumer did not end politely: {error:#}"));
        }
    }
    comparison.context("the lake was never compared")?;
    stage.pipeline.compare()
}

/// What was removed and merged last took nothing away.
fn compare_again(stage: &Stage, before: &Comparison) -> Result<Comparison> {
    let now = stage.pipeline.compare()?;
    if now != *before {
        stage.violated(format!("tidying up changed the table: before: {before}; after: {now}"));
    }
    Ok(now)
}

/// What Ducktide's own proof says.
fn verify(stage: &Stage) -> Result<String> {
    let pipeline = &stage.pipeline;
    let mut running = Program::named("ducktide")?
        .args(["verify", "--deep", "--catalog", &pipeline.catalog, "--against-ledger"])
        .args([pipeline.ledger()])
        .start(pipeline.logs(), "verify")?;
    let finished = running.wait(CATCHES_UP_WITHIN)?;
    let output = running.output()?;
    let last = output.lines().last().unwrap_or_default().to_owned();
    if !finished.status.success() {
        stage.violated(format!("ducktide verify: {}: {output}", finished.status));
    }
    ensure!(!last.is_empty(), "ducktide verify said nothing");
    Ok(last)
}
