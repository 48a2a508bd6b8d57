//! Times from the start of a program to its first result, on small lakes in both catalogs.

use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Args;
use ducktide_testbed::{
    catalog::CatalogKind,
    pipeline::{Pipeline, WAIT_TIMEOUT},
    worker::Worker,
};

use super::{measurement::median, progress::log_progress, worker_log};

/// Arguments of `bench start`.
#[derive(Debug, Args)]
pub(super) struct StartArgs {
    /// Number of starts of each program; the median is reported.
    #[arg(long, value_name = "N", default_value = "7")]
    runs: usize,
}

/// Number of records in the lake that the operator's commands read, and in the backlog of each
/// consumer.
const RECORDS: u64 = 20_000;

/// Arguments of a static member. It returns before its session is over, so the session timeout has
/// no effect.
const STATIC: &[&str] = &["--group-instance-id", "first"];

/// Wall time, and CPU time if the process was not killed.
type StartTime = (Duration, Option<Duration>);

/// Measures both catalogs, and prints a table.
#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(super) fn run(args: &StartArgs) -> Result<()> {
    let mut table = "| median | SQLite: wall s | CPU s | PostgreSQL: wall s | CPU s |\n\
                     |:--|--:|--:|--:|--:|\n"
        .to_owned();
    let sqlite = measure(CatalogKind::Sqlite, args.runs)?;
    let postgres = measure(CatalogKind::Postgres, args.runs)?;
    for ((title, sqlite), (_, postgres)) in sqlite.into_iter().zip(postgres) {
        table.extend(["| ", title, " | ", &cells(&sqlite), " | ", &cells(&postgres), " |\n"]);
    }
    println!("\n{table}");
    Ok(())
}

fn cells(samples: &[StartTime]) -> String {
    let seconds = |of: Vec<f64>| median(of).map_or("-".to_owned(), |s| format!("{s:.2}"));
    let wall = samples.iter().map(|(wall, _)| wall.as_secs_f64()).collect();
    let cpu = samples.iter().filter_map(|(_, cpu)| cpu.map(|cpu| cpu.as_secs_f64())).collect();
    format!("{} | {}", seconds(wall), seconds(cpu))
}

fn measure(kind: CatalogKind, runs: usize) -> Result<Vec<(&'static str, Vec<StartTime>)>> {
    log_progress(&format!("starting programs on a lake in {kind:?}"));
    let pipeline = Pipeline::on_shared_services("start", kind)?;
    pipeline.produce(RECORDS, &[])?;
    pipeline.drain(&[])?;
    let status = command(&pipeline, "status", runs)?;
    let verify = command(&pipeline, "verify", runs)?;
    let (mut assigned, mut committed, mut returned) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        pipeline.produce(RECORDS, &[])?;
        let (mut worker, startup) = start(&pipeline, &format!("first-{run}"))?;
        assigned.push((startup.assigned, None));
        committed.push((startup.committed, None));
        worker.kill()?;
        pipeline.produce(RECORDS, &[])?;
        let (mut worker, startup) = start(&pipeline, &format!("returned-{run}"))?;
        returned.push((startup.committed, None));
        worker.stop()?;
    }
    pipeline.verify()?;
    Ok(vec![
        ("`ducktide status`", status),
        ("`ducktide verify`", verify),
        ("consumer: start to assignment", assigned),
        ("consumer: start to the first commit of a backlog", committed),
        ("static member after SIGKILL: restart to its next commit", returned),
    ])
}

fn command(pipeline: &Pipeline, verb: &str, runs: usize) -> Result<Vec<StartTime>> {
    let measure_once = || {
        let mut process = pipeline.ducktide(&[verb])?.start(pipeline.logs(), verb)?;
        let finished = process.succeed(WAIT_TIMEOUT)?;
        Ok((finished.elapsed, Some(finished.usage.cpu)))
    };
    (0..runs).map(|_| measure_once()).collect()
}

/// Times of a worker from its start to its assignment, and to its first commit.
struct Startup {
    assigned: Duration,
    committed: Duration,
}

/// Starts a static member. `name` is the name of its log.
fn start(pipeline: &Pipeline, name: &str) -> Result<(Worker, Startup)> {
    let started = SystemTime::now();
    let mut worker = pipeline.start_consumer(name, STATIC)?;
    worker.await_logged(r#""message":"batch committed""#)?;
    let log = worker.process().log()?;
    let startup = Startup {
        assigned: worker_log::time_since(started, &log, "partitions assigned")?,
        committed: worker_log::time_since(started, &log, "batch committed")?,
    };
    Ok((worker, startup))
}
