//! Throughput of one consumer that drains a topic into a lake.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use ducktide_testbed::{
    faults::StoreFaultProxy,
    oracle,
    program::Program,
    services::{BucketStore as _, S3},
};

use super::{
    drain_target::{DrainTarget, requests_text},
    measurement::Measurement,
    plain_loop::Polled,
    progress::log_progress,
    report::{BenchReport, Series},
    volume::Volume,
    worker_log,
};
use crate::verbs::{
    storage_kind::StorageKind, streaming_services::StreamingServices, terminal::grouped,
};

const TOPIC: &str = "events";

/// Maximum time of a run: a hundred times the usual one.
const LIMIT: Duration = Duration::from_mins(30);

/// Arguments of `bench drain`.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// Storage of the lake's files. `s3` starts versitygw, an object store, and compares it with a local
    /// directory instead of the plain loop.
    #[arg(long, value_enum, default_value = "local")]
    storage: StorageKind,

    #[command(flatten)]
    pub(super) volume: Volume,
}

/// Services, folder and volume of the runs.
struct DrainBench<'a> {
    folder: &'a Path,
    streaming: StreamingServices,
    volume: &'a Volume,
}

/// Produces once, then drains `runs` times. A run of the plain loop follows each run, so that
/// changing load of the machine affects both.
pub(super) fn measure(args: &DrainArgs, folder: &Path) -> Result<BenchReport> {
    let volume = &args.volume;
    log_progress(&format!("starting Kafka and a schema registry; logs: {}", folder.display()));
    let streaming = StreamingServices::start(folder)?;
    let bench = DrainBench { folder, streaming, volume };
    bench.produce()?;
    let report = match args.storage {
        StorageKind::Local => bench.compare_with_plain_loop()?,
        StorageKind::S3 => bench.compare_storages()?,
    };
    fs::remove_file(bench.ledger()).context("remove the ledger")?;
    Ok(report)
}

impl DrainBench<'_> {
    fn compare_with_plain_loop(&self) -> Result<BenchReport> {
        let mut drained = Series::new("ducktide-consumer");
        let mut polled = Series::new("plain loop");
        for run in 1..=self.volume.runs.get() {
            drained.add(self.drain(&format!("drain-{run}"), &DrainTarget::Local)?.0);
            polled.add(self.poll(run).with_context(|| format!("plain loop run=`{run}`"))?);
        }
        Ok(BenchReport::new(self.title(), vec![drained, polled]))
    }

    /// Alternates drains into object storage and into a local directory. A last one counts requests.
    fn compare_storages(&self) -> Result<BenchReport> {
        let store = S3::start(self.folder)?;
        let (mut remote, mut local) =
            (Series::new("object storage"), Series::new("local directory"));
        for run in 1..=self.volume.runs.get() {
            remote.add(self.drain(&format!("s3-{run}"), &DrainTarget::S3(&store))?.0);
            local.add(self.drain(&format!("local-{run}"), &DrainTarget::Local)?.0);
        }
        let proxy = StoreFaultProxy::start(store.port())?;
        let (_, log) = self.drain("counted", &DrainTarget::CountedS3(&store, &proxy))?;
        let files = worker_log::numbers(&log, "batch committed", "files");
        let requests = requests_text(&proxy.received(), files.len(), files.iter().sum());
        Ok(BenchReport::new(self.title(), vec![remote, local]).with_note(requests))
    }

    fn title(&self) -> String {
        format!(
            "{} events in {} partitions, drained by one process into a lake in SQLite",
            grouped(self.volume.rows.get()),
            self.volume.partitions
        )
    }

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

    /// Drains the topic into a new lake. Returns the measurement and the log of the consumer.
    fn drain(&self, label: &str, target: &DrainTarget) -> Result<(Measurement, String)> {
        let lake = self.folder.join(format!("lake-{label}"));
        fs::create_dir(&lake).with_context(|| format!("create {}", lake.display()))?;
        let catalog = format!("sqlite:{}", lake.join("lake.sqlite").display());
        let place = target.place(label, &lake)?;
        let arguments = [
            ["--topics", TOPIC],
            ["--group-id", label],
            ["--catalog", &catalog],
            ["--data-path", &place.data_path.display().to_string()],
        ];
        let consumer = self.program("ducktide-consumer")?.args(arguments.as_flattened());
        let consumer = consumer.args(["--until-end"]).args(&self.volume.program_arguments);
        let mut running = consumer.envs(&place.settings).start(self.folder, label)?;
        let finished = running.succeed(LIMIT)?;
        let log = running.log()?;
        let at_work = worker_log::time_between(&log, "partitions assigned", "batch committed")?;
        let mut measurement = Measurement::new(self.volume.rows.get(), at_work, &finished);
        let comparison = oracle::compare(&self.ledger(), &place.lake(&catalog)?, TOPIC)?;
        measurement.is_exact = Some(comparison.is_exact());
        log_progress(&format!("{label}: {}; {comparison}", measurement.in_short()));
        fs::remove_dir_all(&lake).with_context(|| format!("remove {}", lake.display()))?;
        Ok((measurement, log))
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
