//! `cargo xtask demo`: events from a producer through Kafka into a DuckLake, a worker killed on the
//! way, and the proof that nothing was lost or doubled.

mod ending;
mod pipeline;
mod questions;
mod scene;
mod watch;

use std::{num::NonZeroU64, path::PathBuf, time::Instant};

use anyhow::{Result, bail};
use clap::Args;
use ducktide_testbed::{duckdb_cli::Lake, oracle};

use self::{pipeline::Pipeline, scene::Scene};
use crate::verbs::{
    signals,
    streaming::Streaming,
    terminal::{Terminal, grouped},
};

/// What `cargo xtask demo` takes.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many events are produced.
    #[arg(long, value_name = "N", default_value = "1000000")]
    rows: NonZeroU64,

    /// Where lake, ledger and logs go: a folder that is empty or does not exist yet; by default a
    /// fresh one below .ducktide/demo.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Leaves Kafka and the schema registry running, and says how to use and how to end them.
    #[arg(long)]
    keep: bool,

    /// How many consumers share the topic; the last of them is killed.
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u8).range(1..=8))]
    consumers: u8,
}

/// Runs the demonstration. Errors when the lake does not hold exactly what was produced.
pub(crate) fn run(args: DemoArgs) -> Result<()> {
    let begun = Instant::now();
    let folder = scene::create_folder(args.dir)?;
    signals::exit_on_interrupt(format!(
        "interrupted: every process has been told to end; {} keeps what was written",
        folder.display()
    ));
    let mut terminal = Terminal::new();
    introduce(&mut terminal, args.rows.get(), &folder);
    let streaming = start_streaming(&mut terminal, &folder)?;
    let scene = Scene::new(folder, &streaming)?;
    make_lake(&mut terminal, &scene)?;
    let killed = Pipeline::start(&mut terminal, &scene, args.rows, args.consumers)?.complete()?;
    compare(&mut terminal, &scene)?;
    ask_status(&mut terminal, &scene)?;
    questions::ask_all(&mut terminal, &scene, &killed)?;
    let kept = args.keep.then(|| streaming.leave_running());
    ending::tell(&mut terminal, &scene, kept.as_ref())?;
    terminal.blank();
    terminal.say(&format!("Done after {:.0} s.", begun.elapsed().as_secs_f64()));
    Ok(())
}

fn introduce(terminal: &mut Terminal, rows: u64, folder: &std::path::Path) {
    terminal.title(&format!(
        "{} events through Kafka into a DuckLake, exactly once, although a worker is killed",
        grouped(rows)
    ));
    terminal.say(&format!("Everything lies in {}", folder.display()));
}

fn start_streaming(terminal: &mut Terminal, folder: &std::path::Path) -> Result<Streaming> {
    terminal.step("Start Kafka and a schema registry");
    let begun = Instant::now();
    let streaming = Streaming::start(&scene::logs(folder))?;
    terminal.say(&format!(
        "Kafka at {}, registry at {}: both answer after {:.1} s",
        streaming.kafka.bootstrap_servers(),
        streaming.registry.url(),
        begun.elapsed().as_secs_f64()
    ));
    Ok(streaming)
}

fn make_lake(terminal: &mut Terminal, scene: &Scene) -> Result<()> {
    terminal.step("Make a lake: its catalog is a SQLite file, its data are Parquet files");
    let answer = scene.ask(terminal, "ducktide", &["init"], "init")?;
    terminal.say(&answer);
    Ok(())
}

/// The producer wrote down what Kafka acknowledged; a DuckDB that shares no code with Ducktide reads
/// the lake.
fn compare(terminal: &mut Terminal, scene: &Scene) -> Result<()> {
    terminal.step("Compare what Kafka acknowledged to the producer with what is in the lake");
    terminal.say(
        "row by row, by partition, offset and event_id; the lake is read by the plain DuckDB \
         command line",
    );
    let lake = Lake::at(&scene.catalog(), &scene.data_path())?;
    let found = oracle::compare(&scene.ledger(), &lake, scene::TABLE)?;
    terminal.blank();
    terminal.say(&format!("{:>12}  events acknowledged", grouped(found.acknowledged)));
    terminal.say(&format!("{:>12}  rows in the lake", grouped(found.rows)));
    terminal.say(&format!("{:>12}  missing", found.missing.to_string()));
    terminal.say(&format!("{:>12}  doubled", found.doubled.to_string()));
    terminal.say(&format!("{:>12}  unexpected", found.unexpected.to_string()));
    terminal.blank();
    if found.is_exact() {
        terminal.verdict(true, "EXACTLY ONCE: every event is in the lake, and each only once");
        return Ok(());
    }
    terminal.verdict(false, "DIFFERENT: this must never happen, and is worth a bug report");
    bail!("ledger and lake differ; logs: {}", scene.logs().display())
}

fn ask_status(terminal: &mut Terminal, scene: &Scene) -> Result<()> {
    terminal.step("Look at the lake as its operator does");
    let answer = scene.ask(terminal, "ducktide", &["status"], "status")?;
    terminal.say(&answer);
    Ok(())
}
