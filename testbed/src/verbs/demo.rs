//! `cargo xtask demo`: a producer writes to Kafka, consumers write to a lake, one consumer is
//! killed; then the lake is compared with the producer's ledger and queried.

mod catalog_watch;
mod context;
mod next_steps;
mod pipeline;
mod queries;

use std::{num::NonZeroU64, path::PathBuf, time::Instant};

use anyhow::{Result, bail};
use clap::Args;
use ducktide_testbed::{
    lake_place::LakePlace,
    oracle,
    services::{BucketStore as _, S3},
};

use self::{context::DemoContext, pipeline::DemoPipeline};
use crate::verbs::{
    signals,
    storage_kind::StorageKind,
    streaming_services::StreamingServices,
    terminal::{Terminal, grouped},
};

/// Arguments of `cargo xtask demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Number of events to produce.
    #[arg(long, value_name = "N", default_value = "1000000")]
    rows: NonZeroU64,

    /// Folder for lake, ledger and logs, empty or not existing. Default: a new folder in
    /// .ducktide/demo.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Storage of the lake's files. `s3` needs Go, to build an object store.
    #[arg(long, value_name = "KIND", value_enum, default_value_t = StorageKind::Local)]
    storage: StorageKind,

    /// Leaves all services running, and prints how to use and how to stop them.
    #[arg(long)]
    keep: bool,

    /// Number of consumers in the group; the last one is killed.
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u8).range(1..=8))]
    consumers: u8,
}

/// Runs the demonstration; an error when the lake does not hold exactly the produced events.
pub(crate) fn run(args: DemoArgs) -> Result<()> {
    let started = Instant::now();
    let folder = context::create_folder(args.dir)?;
    signals::exit_on_interrupt(format!(
        "interrupted: all started processes are ending; written data is in {}",
        folder.display()
    ));
    let mut terminal = Terminal::new();
    print_title(&mut terminal, args.rows.get(), &folder);
    let streaming = start_streaming(&mut terminal, &folder)?;
    let store = match args.storage {
        StorageKind::Local => None,
        StorageKind::S3 => Some(S3::start(&context::logs(&folder))?),
    };
    let place = match &store {
        None => LakePlace::folder(folder.join("lake.files")),
        Some(store) => LakePlace::new_bucket(store, "demo", store.port())?,
    };
    let context = DemoContext::new(folder, &streaming, place)?;
    create_lake(&mut terminal, &context)?;
    let killed =
        DemoPipeline::start(&mut terminal, &context, args.rows, args.consumers)?.complete()?;
    compare(&mut terminal, &context)?;
    show_status(&mut terminal, &context)?;
    queries::run_all(&mut terminal, &context, &killed)?;
    let kept = args.keep.then(|| {
        let commands = streaming.leave_running().into_iter();
        commands.chain(store.map(S3::leave_running)).collect::<Vec<_>>()
    });
    next_steps::print(&mut terminal, &context, args.storage, kept.as_deref())?;
    terminal.blank();
    terminal.print(&format!("Done after {:.0} s.", started.elapsed().as_secs_f64()));
    Ok(())
}

fn print_title(terminal: &mut Terminal, rows: u64, folder: &std::path::Path) {
    terminal.title(&format!(
        "{} events through Kafka into a DuckLake, exactly once, with one consumer killed",
        grouped(rows)
    ));
    terminal.print(&format!("Folder: {}", folder.display()));
}

fn start_streaming(terminal: &mut Terminal, folder: &std::path::Path) -> Result<StreamingServices> {
    terminal.step("Start Kafka and a schema registry");
    let started = Instant::now();
    let streaming = StreamingServices::start(&context::logs(folder))?;
    terminal.print(&format!(
        "Kafka at {}, registry at {}: ready after {:.1} s",
        streaming.kafka.bootstrap_servers(),
        streaming.registry.url(),
        started.elapsed().as_secs_f64()
    ));
    Ok(streaming)
}

fn create_lake(terminal: &mut Terminal, context: &DemoContext) -> Result<()> {
    terminal.step("Create a lake with a SQLite catalog and Parquet files");
    terminal.print(&format!("Files: {}", context.data_path()));
    let output = context.run(terminal, "ducktide", &["init"], "init")?;
    terminal.print(&output);
    Ok(())
}

/// Compares the lake with the producer's ledger of acknowledged records. DuckDB's command line,
/// which shares no code with Ducktide, reads the lake.
fn compare(terminal: &mut Terminal, context: &DemoContext) -> Result<()> {
    terminal.step("Compare the lake with the records that Kafka acknowledged to the producer");
    terminal.print("by partition, offset and event_id; DuckDB's command line reads the lake");
    let lake = context.lake()?;
    let found = oracle::compare(&context.ledger(), &lake, context::TABLE)?;
    terminal.blank();
    terminal.print(&format!("{:>12}  events acknowledged", grouped(found.acknowledged)));
    terminal.print(&format!("{:>12}  rows in the lake", grouped(found.rows)));
    terminal.print(&format!("{:>12}  missing", found.missing.to_string()));
    terminal.print(&format!("{:>12}  duplicates", found.duplicates.to_string()));
    terminal.print(&format!("{:>12}  unexpected", found.unexpected.to_string()));
    terminal.blank();
    if found.is_exact() {
        terminal.result(true, "EXACTLY ONCE: every event is in the lake once");
        return Ok(());
    }
    terminal.result(false, "DIFFERENT: please report this as a bug");
    bail!("ledger and lake differ; logs: {}", context.logs().display())
}

fn show_status(terminal: &mut Terminal, context: &DemoContext) -> Result<()> {
    terminal.step("Show the status of the lake");
    let output = context.run(terminal, "ducktide", &["status"], "status")?;
    terminal.print(&output);
    Ok(())
}
