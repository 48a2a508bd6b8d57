//! Throughput of one producer, with and without a ledger.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use ducktide_testbed::program::Program;

use super::{
    measurement::Measurement,
    progress::log_progress,
    report::{BenchReport, Series},
    volume::Volume,
    worker_log,
};
use crate::verbs::{streaming_services::StreamingServices, terminal::grouped};

/// Maximum time of a run: a hundred times the usual one.
const LIMIT: Duration = Duration::from_mins(30);

/// Publishes `runs` times to new topics, alternating with and without a ledger.
pub(super) fn measure(volume: &Volume, folder: &Path) -> Result<BenchReport> {
    log_progress(&format!("starting Kafka and a schema registry; logs: {}", folder.display()));
    let streaming = StreamingServices::start(folder)?;
    let mut without = Series::new("without ledger");
    let mut with = Series::new("with ledger");
    for run in 1..=volume.runs.get() {
        let ledger = folder.join("ledger.csv");
        without.add(publish(&streaming, volume, folder, &format!("without-ledger-{run}"), None)?);
        let label = format!("with-ledger-{run}");
        with.add(publish(&streaming, volume, folder, &label, Some(&ledger))?);
        fs::remove_file(&ledger).context("remove the ledger")?;
    }
    let title = format!(
        "{} events published to {} partitions by one ducktide-producer",
        grouped(volume.rows.get()),
        volume.partitions
    );
    Ok(BenchReport::new(title, vec![with, without]))
}

fn publish(
    streaming: &StreamingServices,
    volume: &Volume,
    folder: &Path,
    label: &str,
    ledger: Option<&Path>,
) -> Result<Measurement> {
    let mut running = producer(streaming, volume, label, ledger)?.start(folder, label)?;
    let finished = running.succeed(LIMIT)?;
    streaming.kafka.delete_topic(label)?;
    let at_work =
        worker_log::time_between(&running.log()?, "topic created", "publishing finished")?;
    let measurement = Measurement::new(volume.rows.get(), at_work, &finished);
    log_progress(&format!("{label}: {}", measurement.in_short()));
    Ok(measurement)
}

fn producer(
    streaming: &StreamingServices,
    volume: &Volume,
    topic: &str,
    ledger: Option<&Path>,
) -> Result<Program> {
    let arguments = [
        ["--topic", topic],
        ["--rows", &volume.rows.to_string()],
        ["--partitions", &volume.partitions.to_string()],
    ];
    let program = Program::named("ducktide-producer")?.args(arguments.as_flattened());
    let program =
        program.args(ledger.iter().flat_map(|path| ["--ledger".as_ref(), path.as_os_str()]));
    let program = program.env("DUCKTIDE_LOG_FORMAT", "json").env("RUST_LOG", "info");
    let environment = streaming.environment();
    let program =
        environment.into_iter().fold(program, |program, (key, value)| program.env(key, value));
    Ok(program.args(&volume.program_arguments))
}
