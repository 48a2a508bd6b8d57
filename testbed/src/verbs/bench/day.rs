//! A day compressed into minutes: the effect of many small commits on a lake, with and without a
//! compactor.
//!
//! The same programs fill two lakes concurrently, with one commit per second. One of them has a
//! compactor, with tiers and intervals scaled down from a day to minutes. The same query is
//! measured on both at regular intervals.

use std::{
    fs,
    num::{NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use ducktide_testbed::{
    catalog::CatalogKind,
    pipeline::{Pipeline, WAIT_TIMEOUT},
    program::RunningProgram,
    worker::Worker,
};

use super::{chart, progress::log_progress};

/// Arguments of the compactor: `--tiers 256KiB,8MiB`, `--target-file-size 256MiB` and intervals of
/// one minute to six hours, scaled from a day to half an hour.
const COMPACTOR: &[&str] = &[
    "run",
    "--tiers",
    "128KiB,1MiB",
    "--target-file-size",
    "8MiB",
    "--tier-intervals",
    "5s,20s,5m",
    "--cold-after",
    "30m",
];

/// Query of a dashboard.
const QUERY: &str =
    "SELECT count(*) || ' ' || count(DISTINCT _kafka_offset) AS found FROM lake.events";

/// Arguments of `cargo xtask bench day`.
#[derive(Debug, Args)]
pub(super) struct DayArgs {
    /// Duration in minutes.
    #[arg(long, value_name = "N", default_value = "30")]
    minutes: NonZeroU32,

    /// Events per second of each lake.
    #[arg(long, value_name = "N", default_value = "300")]
    rate: NonZeroU64,

    /// Seconds between two samples.
    #[arg(long, value_name = "N", default_value = "20")]
    look_every: NonZeroU32,

    /// File for charts of files and query time, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// File for the samples as CSV.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

/// Sample of a lake.
#[derive(Debug, Clone, Copy)]
pub(super) struct DaySample {
    /// Minutes since the start.
    pub(super) minutes: f64,
    pub(super) files: u32,
    /// Time for a DuckDB process to open the lake and run the query.
    pub(super) query_ms: f64,
}

/// Samples of one lake in the order of time.
pub(super) struct LakeSeries {
    pub(super) name: &'static str,
    pub(super) samples: Vec<DaySample>,
}

/// One lake with its programs.
struct LakeUnderTest {
    pipeline: Pipeline,
    producer: RunningProgram,
    consumer: Worker,
    compactor: Option<RunningProgram>,
    series: LakeSeries,
}

impl LakeUnderTest {
    fn start(name: &'static str, day: &DayArgs, compacting: bool) -> Result<Self> {
        let pipeline = Pipeline::on_shared_services("day", CatalogKind::Sqlite)?;
        let rate = day.rate.to_string();
        let producer = pipeline.start_producer(&["--continuous", "--rate", &rate])?;
        let consumer = pipeline.start_consumer("consumer", &["--flush-interval", "1s"])?;
        pipeline.await_committed(1)?;
        let compactor = if compacting {
            Some(pipeline.compactor(COMPACTOR)?.start(pipeline.logs(), "compactor")?)
        } else {
            None
        };
        let series = LakeSeries { name, samples: Vec::new() };
        Ok(Self { pipeline, producer, consumer, compactor, series })
    }

    fn sample(&mut self, since: Instant) -> Result<()> {
        let live = "SELECT count(*)::INTEGER AS files \
                    FROM __ducklake_metadata_lake.ducklake_data_file WHERE end_snapshot IS NULL";
        let lake = self.pipeline.lake()?;
        let files = lake.scalar(live)?.as_u64().context("count the files")?;
        let started = Instant::now();
        lake.scalar(QUERY)?;
        self.series.samples.push(DaySample {
            minutes: since.elapsed().as_secs_f64() / 60.0,
            files: u32::try_from(files).context("too many files")?,
            query_ms: started.elapsed().as_secs_f64() * 1e3,
        });
        Ok(())
    }

    /// Stops the programs; an error unless the lake holds exactly the acknowledged records.
    fn finish(mut self) -> Result<LakeSeries> {
        let published = self.pipeline.stop_producer(&mut self.producer)?;
        self.pipeline.await_committed(published)?;
        if let Some(compactor) = &mut self.compactor {
            compactor.terminate()?;
            compactor.succeed(WAIT_TIMEOUT)?;
        }
        self.consumer.stop()?;
        self.pipeline.check_exact(published)?;
        Ok(self.series)
    }
}

/// Fills both lakes, and prints samples.
pub(super) fn run(day: &DayArgs) -> Result<()> {
    let mut lakes = [
        LakeUnderTest::start("without a compactor", day, false)?,
        LakeUnderTest::start("with ducktide-compactor", day, true)?,
    ];
    let since = Instant::now();
    let until = Duration::from_mins(u64::from(day.minutes.get()));
    while since.elapsed() < until {
        thread::sleep(Duration::from_secs(u64::from(day.look_every.get())));
        for lake in &mut lakes {
            lake.sample(since)?;
        }
        let [without, with] = lakes.each_ref().map(|lake| lake.series.samples.last());
        if let (Some(without), Some(with)) = (without, with) {
            log_progress(&format!(
                "{:5.1} min: {:6} files, {:6.0} ms without; {:6} files, {:6.0} ms with",
                without.minutes, without.files, without.query_ms, with.files, with.query_ms
            ));
        }
    }
    let series = lakes.map(LakeUnderTest::finish).into_iter().collect::<Result<Vec<_>>>()?;
    if let Some(file) = &day.csv {
        write_csv(file, &series)?;
    }
    if let Some(file) = &day.svg {
        chart::draw(file, &series)?;
    }
    Ok(())
}

fn write_csv(file: &Path, series: &[LakeSeries]) -> Result<()> {
    let rows = series.iter().flat_map(|series| {
        series.samples.iter().map(|DaySample { minutes, files, query_ms }| {
            format!("{},{minutes:.2},{files},{query_ms:.0}\n", series.name)
        })
    });
    let text = format!("lake,minutes,files,query_ms\n{}", rows.collect::<String>());
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
