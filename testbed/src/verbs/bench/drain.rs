//! Throughput of one consumer that drains a topic into a lake.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ducktide_testbed::{duckdb_cli::Lake, oracle, program::Program};

use super::{
    measurement::Measurement,
    plain_loop::Polled,
    progress::log_progress,
    report::{BenchReport, Series},
    volume::Volume,
    worker_log,
};
use crate::verbs::{streaming_services::StreamingServices, terminal::grouped};

const TOPIC: &str = "events";

/// Maximum time of a run: a hundred times the usual one.
const LIMIT: Duration = Duration::from_mins(30);

/// Services, folder and volume of the runs.
struct DrainBench<'a> {
    folder: &'a Path,
    streaming: StreamingServices,
    volume: &'a Volume,
}

/// Produces once, then drains `runs` times. A run of the plain loop follows each run, so that
/// changing load of the machine affects both.
pub(super) fn measure(volume: &Volume, folder: &Path) -> Result<BenchReport> {
    log_progress(&format!("starting Kafka and a schema registry; logs: {}", folder.display()));
    let streaming = StreamingServices::start(folder)?;
    let bench = DrainBench { folder, streaming, volume };
    bench.produce()?;
    let mut drained = Series::new("ducktide-consumer");
    let mut polled = Series::new("plain loop");
    for run in 1..=volume.runs.get() {
        drained.add(bench.drain(run).with_context(|| format!("drain run=`{run}`"))?);
        polled.add(bench.poll(run).with_context(|| format!("plain loop run=`{run}`"))?);
    }
    fs::remove_file(bench.ledger()).context("remove the ledger")?;
    let title = format!(
        "{} events in {} partitions, drained by one process into a lake in SQLite",
        grouped(volume.rows.get()),
        volume.partitions
    );
    Ok(BenchReport::new(title, vec![drained, polled]))
}

impl DrainBench<'_> {
    fn ledger(&self) -> std::path::PathBuf {
        self.folder.join("ledger.csv")
    }

    fn program(&self, name: &str) -> Result<Program> {
        let environment = self.streaming.environment();
        let program = Program::named(name)?.env("DUCKTIDE_LOG_FORMAT", "json");
        let program = program.env("RUST_LOG", "info");
        Ok(environment.into_iter().fold(program, |program, (key, value)| program.env(key, value)))
    }

    fn produce(&self) -> Result<()> {
        log_progress(&format!("producing {} events", grouped(self.volume.rows.get())));
        let arguments = [
            ["--topic", TOPIC],
            ["--rows", &self.volume.rows.to_string()],
            ["--partitions", &self.volume.partitions.to_string()],
            ["--ledger", &self.ledger().display().to_string()],
        ];
        let producer = self.program("ducktide-producer")?.args(arguments.as_flattened());
        producer.run(self.folder, "producer", LIMIT).map(|_| ())
    }

    fn drain(&self, run: u32) -> Result<Measurement> {
        let label = format!("consumer-{run}");
        let lake = self.folder.join(format!("lake-{run}"));
        fs::create_dir(&lake).with_context(|| format!("create {}", lake.display()))?;
        let catalog = format!("sqlite:{}", lake.join("lake.sqlite").display());
        let data_path = lake.join("files").display().to_string();
        let arguments = [
            ["--topics", TOPIC],
            ["--group-id", &label],
            ["--catalog", &catalog],
            ["--data-path", &data_path],
        ];
        let consumer = self.program("ducktide-consumer")?.args(arguments.as_flattened());
        let consumer = consumer.args(["--until-end"]).args(&self.volume.program_arguments);
        let mut running = consumer.start(self.folder, &label)?;
        let finished = running.succeed(LIMIT)?;
        let at_work =
            worker_log::time_between(&running.log()?, "partitions assigned", "batch committed")?;
        let mut measurement = Measurement::new(self.volume.rows.get(), at_work, &finished);
        let comparison = oracle::compare(&self.ledger(), &Lake::at(&catalog, &data_path)?, TOPIC)?;
        measurement.is_exact = Some(comparison.is_exact());
        log_progress(&format!("drain {run}: {}; {comparison}", measurement.in_short()));
        fs::remove_dir_all(&lake).with_context(|| format!("remove {}", lake.display()))?;
        Ok(measurement)
    }

    fn poll(&self, run: u32) -> Result<Measurement> {
        let program = self.program("ducktide-testbed")?;
        let program = program.args(["bench", "plain-loop", "--topic", TOPIC]);
        let mut running = program.start(self.folder, &format!("plain-loop-{run}"))?;
        let finished = running.succeed(LIMIT)?;
        let polled: Polled =
            serde_json::from_str(&running.output()?).context("parse the result")?;
        let rows = self.volume.rows.get();
        ensure!(polled.records == rows, "polled other than produced records=`{}`", polled.records);
        let at_work = Duration::from_secs_f64(polled.seconds);
        let measurement = Measurement::new(rows, at_work, &finished);
        log_progress(&format!("plain loop {run}: {}", measurement.in_short()));
        Ok(measurement)
    }
}
