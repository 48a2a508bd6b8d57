//! `cargo xtask demo`: events from a producer through Kafka into a DuckLake, a worker killed on the
//! way, and the proof that nothing was lost or doubled.

mod catalog_watch;
mod context;
mod next_steps;
mod pipeline;
mod queries;

use std::{num::NonZeroU64, path::PathBuf, time::Instant};

use anyhow::{Result, bail};
use clap::Args;
use ducktide_testbed::{duckdb_cli::Lake, oracle};

use self::{context::DemoContext, pipeline::DemoPipeline};
use crate::verbs::{
    signals,
    streaming_services::StreamingServices,
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
    let folder = context::create_folder(args.dir)?;
    signals::exit_on_interrupt(format!(
        "interrupted: every process has been told to end; {} keeps what was written",
        folder.display()
    ));
    let mut terminal = Terminal::new();
    print_title(&mut terminal, args.rows.get(), &folder);
    let streaming = start_streaming(&mut terminal, &folder)?;
    let context = DemoContext::new(folder, &streaming)?;
    create_lake(&mut terminal, &context)?;
    let killed =
        DemoPipeline::start(&mut terminal, &context, args.rows, args.consumers)?.complete()?;
    compare(&mut terminal, &context)?;
    show_status(&mut terminal, &context)?;
    queries::run_all(&mut terminal, &context, &killed)?;
    let kept = args.keep.then(|| streaming.leave_running());
    next_steps::print(&mut terminal, &context, kept.as_ref())?;
    terminal.blank();
    terminal.print(&format!("Done after {:.0} s.", begun.elapsed().as_secs_f64()));
    Ok(())
}

fn print_title(terminal: &mut Terminal, rows: u64, folder: &std::path::Path) {
    terminal.title(&format!(
        "{} events through Kafka into a DuckLake, exactly once, although a worker is killed",
        grouped(rows)
    ));
    terminal.print(&format!("Everything lies in {}", folder.display()));
}

fn start_streaming(terminal: &mut Terminal, folder: &std::path::Path) -> Result<StreamingServices> {
    terminal.step("Start Kafka and a schema registry");
    let begun = Instant::now();
    let streaming = StreamingServices::start(&context::logs(folder))?;
    terminal.print(&format!(
        "Kafka at {}, registry at {}: both answer after {:.1} s",
        streaming.kafka.bootstrap_servers(),
        streaming.registry.url(),
        begun.elapsed().as_secs_f64()
    ));
    Ok(streaming)
}

fn create_lake(terminal: &mut Terminal, context: &DemoContext) -> Result<()> {
    terminal.step("Make a lake: its catalog is a SQLite file, its data are Parquet files");
    let answer = context.run(terminal, "ducktide", &["init"], "init")?;
    terminal.print(&answer);
    Ok(())
}

/// The producer wrote down what Kafka acknowledged; a DuckDB that shares no code with Ducktide reads
/// the lake.
fn compare(terminal: &mut Terminal, context: &DemoContext) -> Result<()> {
    terminal.step("Compare what Kafka acknowledged to the producer with what is in the lake");
    terminal.print(
        "row by row, by partition, offset and event_id; the lake is read by the plain DuckDB \
         command line",
    );
    let lake = Lake::at(&context.catalog(), &context.data_path())?;
    let found = oracle::compare(&context.ledger(), &lake, context::TABLE)?;
    terminal.blank();
    terminal.print(&format!("{:>12}  events acknowledged", grouped(found.acknowledged)));
    terminal.print(&format!("{:>12}  rows in the lake", grouped(found.rows)));
    terminal.print(&format!("{:>12}  missing", found.missing.to_string()));
    terminal.print(&format!("{:>12}  duplicates", found.duplicates.to_string()));
    terminal.print(&format!("{:>12}  unexpected", found.unexpected.to_string()));
    terminal.blank();
    if found.is_exact() {
        terminal.result(true, "EXACTLY ONCE: every event is in the lake, and each only once");
        return Ok(());
    }
    terminal.result(false, "DIFFERENT: this must never happen, and is worth a bug report");
    bail!("ledger and lake differ; logs: {}", context.logs().display())
}

fn show_status(terminal: &mut Terminal, context: &DemoContext) -> Result<()> {
    terminal.step("LakeState at the lake as its operator does");
    let answer = context.run(terminal, "ducktide", &["status"], "status")?;
    terminal.print(&answer);
    Ok(())
}
