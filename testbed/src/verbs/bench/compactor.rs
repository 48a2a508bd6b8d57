//! Merge of a backlog of small files by the compactor, compared with DuckLake's own merge; and
//! commit latency of a consumer during merges.

use std::{
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use ducktide_testbed::{
    catalog::CatalogKind,
    duckdb_cli::{self, Lake, quoted, quoted_path},
    pipeline::Pipeline,
    program::{Program, ProgramExit},
};
use tempfile::TempDir;

use super::{
    measurement::{Measurement, median},
    progress::log_progress,
    report::{BenchReport, Series},
    worker_log,
};
use crate::verbs::terminal::grouped;

/// Maximum time of a run.
const LIMIT: Duration = Duration::from_mins(15);

/// Query for a checksum of the table, which a merge must not change.
const CONTENT: &str = "SELECT count(*) || ' ' || sum(_kafka_offset) || ' ' || \
                       bit_xor(hash(event_id, details, event_timestamp)) FROM events";

/// Table with the columns of the demonstration.
const TABLE: &str = "CREATE TABLE events(event_id UUID, event_type VARCHAR, \
                     event_timestamp TIMESTAMPTZ, details JSON, _kafka_topic VARCHAR, \
                     _kafka_partition INTEGER, _kafka_offset BIGINT, event_date DATE); \
                     ALTER TABLE events SET PARTITIONED BY (event_date);";

/// Size of the backlog.
#[derive(Debug, Args)]
pub(super) struct BacklogArgs {
    /// Number of files to merge, all in one partition.
    #[arg(long, value_name = "N", default_value = "5000")]
    files: NonZeroU32,

    /// Rows per file; 250 rows are 10 KB, 10,000 rows 400 KB.
    #[arg(long, value_name = "N", default_value = "500")]
    rows: NonZeroU32,

    /// Number of runs of each program; the median is reported.
    #[arg(long, value_name = "N", default_value = "3")]
    runs: NonZeroU32,

    /// Also measures the commit latency of a consumer, with and without a compactor that merges all
    /// the time.
    #[arg(long)]
    commits: bool,

    /// File for the results as JSON.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,

    /// Additional arguments of the compactor, such as `-- --threads 2`.
    #[arg(last = true, value_name = "ARGUMENT")]
    program_arguments: Vec<String>,
}

/// Lake with a backlog, in a folder of its own.
struct BacklogLake {
    folder: TempDir,
    bytes: u64,
}

impl BacklogLake {
    fn create(backlog: &BacklogArgs) -> Result<Self> {
        let folder = TempDir::new().context("create a folder")?;
        let mut lake = Self { folder, bytes: 0 };
        let init = Program::named("ducktide")?.args(["init", "--catalog", &lake.catalog()]);
        init.args(["--data-path", &lake.data_path()]).run(lake.folder.path(), "init", LIMIT)?;
        lake.fill(backlog)?;
        let sizes = "SELECT sum(file_size_bytes)::BIGINT AS bytes \
                     FROM __ducklake_metadata_lake.ducklake_data_file";
        let bytes = lake.lake()?.scalar(sizes)?;
        lake.bytes = bytes.as_u64().context("read the files' sizes")?;
        Ok(lake)
    }

    fn catalog(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("lake.sqlite").display())
    }

    fn data_path(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn lake(&self) -> Result<Lake> {
        Lake::at(&self.catalog(), &self.data_path())
    }

    /// Writes rows like the demonstration's, in files like a consumer's.
    fn fill(&self, backlog: &BacklogArgs) -> Result<()> {
        let day = self.folder.path().join("data/main/events/event_date=2026-11-01");
        fs::create_dir_all(&day).context("create the table's folder")?;
        let rows = backlog.rows.get();
        let files = (0..backlog.files.get()).map(|number| {
            let file = day.join(format!("ducktide-{}.parquet", uuid::Uuid::new_v4()));
            let from = u64::from(number) * u64::from(rows);
            format!(
                "COPY (SELECT uuid() AS event_id, 'user_login' AS event_type, \
                 TIMESTAMPTZ '2026-11-01 00:00:00+00' + to_microseconds(i) AS event_timestamp, \
                 json_object('user_id', 'user_' || (i * 7919 % 9000), 'ip_address', hash(i)) AS details, \
                 'events' AS _kafka_topic, 0::INTEGER AS _kafka_partition, i AS _kafka_offset, \
                 DATE '2026-11-01' AS event_date \
                 FROM range({from}, {from} + {rows}) r(i)) TO {} (FORMAT parquet, COMPRESSION zstd);",
                quoted_path(&file)
            )
        });
        let script = self.folder.path().join("fill.sql");
        let sql = format!(
            "{} ATTACH {} AS lake; USE lake; {TABLE} {} \
             CALL ducklake_add_data_files('lake', 'events', {}, hive_partitioning => true);",
            duckdb_cli::load_extensions()?,
            quoted(&format!("ducklake:{}", self.catalog())),
            files.collect::<String>(),
            quoted(&format!("{}/*.parquet", day.display()))
        );
        fs::write(&script, sql).context("write a script")?;
        duckdb_cli::program(&script)?.run(self.folder.path(), "fill", LIMIT).map(|_| ())
    }

    fn files(&self) -> Result<u64> {
        let live = "SELECT count(*) AS files FROM __ducklake_metadata_lake.ducklake_data_file \
                    WHERE end_snapshot IS NULL";
        self.lake()?.scalar(live)?.as_u64().context("count the files")
    }
}

/// Merges the backlog `runs` times, alternating between the compactor and DuckLake's function.
pub(super) fn measure(backlog: &BacklogArgs, folder: &Path) -> Result<BenchReport> {
    let mut ducktide = Series::new("ducktide-compactor");
    let mut ducklake = Series::new("DuckLake's merge_adjacent_files, one thread");
    let mut bytes = 0;
    for run in 1..=backlog.runs.get() {
        let lake = BacklogLake::create(backlog)?;
        bytes = lake.bytes;
        ducktide.add(merge(&lake, backlog, &format!("compactor-{run}"), folder, by_compactor)?);
        let lake = BacklogLake::create(backlog)?;
        ducklake.add(merge(&lake, backlog, &format!("ducklake-{run}"), folder, by_ducklake)?);
    }
    if backlog.commits {
        measure_commits(backlog, folder)?;
    }
    let title = format!(
        "{} files of {} rows, {} MB in one partition, merged",
        grouped(backlog.files.get().into()),
        grouped(backlog.rows.get().into()),
        bytes / 1_000_000
    );
    Ok(BenchReport::new(title, vec![ducktide, ducklake]))
}

type MergeFn = fn(&BacklogLake, &BacklogArgs, &str, &Path) -> Result<ProgramExit>;

fn merge(
    lake: &BacklogLake,
    backlog: &BacklogArgs,
    label: &str,
    folder: &Path,
    merger: MergeFn,
) -> Result<Measurement> {
    let before = lake.lake()?.scalar(CONTENT)?;
    let finished = merger(lake, backlog, label, folder)?;
    let rows = u64::from(backlog.files.get()) * u64::from(backlog.rows.get());
    let mut measurement = Measurement::new(rows, finished.elapsed, &finished);
    measurement.is_exact = Some(lake.lake()?.scalar(CONTENT)? == before);
    let left = lake.files()?;
    ensure!(left < u64::from(backlog.files.get()), "{label}: nothing was merged; see its log");
    #[expect(clippy::cast_precision_loss, reason = "a speed")]
    let speed = lake.bytes as f64 / 1e6 / measurement.wall_seconds;
    log_progress(&format!(
        "{label}: {speed:.0} MB/s, {} files left; {}",
        left,
        measurement.in_short()
    ));
    Ok(measurement)
}

fn by_compactor(
    lake: &BacklogLake,
    backlog: &BacklogArgs,
    label: &str,
    folder: &Path,
) -> Result<ProgramExit> {
    let once = Program::named("ducktide-compactor")?.args(["once", "--catalog", &lake.catalog()]);
    once.args(&backlog.program_arguments).start(folder, label)?.succeed(LIMIT)
}

fn by_ducklake(
    lake: &BacklogLake,
    _: &BacklogArgs,
    label: &str,
    folder: &Path,
) -> Result<ProgramExit> {
    let script = lake.folder.path().join("merge.sql");
    let sql = format!(
        "SET threads = 1; SET memory_limit = '1GiB'; {} ATTACH {} AS lake; \
         CALL ducklake_merge_adjacent_files('lake', 'events');",
        duckdb_cli::load_extensions()?,
        quoted(&format!("ducklake:{}", lake.catalog()))
    );
    fs::write(&script, sql).context("write a script")?;
    duckdb_cli::program(&script)?.start(folder, label)?.succeed(LIMIT)
}

/// Measures the commits of one consumer, five per second, with and without a compactor that merges
/// as often as it can.
fn measure_commits(backlog: &BacklogArgs, folder: &Path) -> Result<()> {
    for kind in [CatalogKind::Sqlite, CatalogKind::Postgres] {
        let alone = commits(kind, backlog, folder, false)?;
        let concurrent = commits(kind, backlog, folder, true)?;
        for (what, times) in [("alone", &alone), ("with a busy compactor", &concurrent)] {
            log_progress(&format!(
                "{kind:?}: {} commits {what}: p50 {:.0} ms, p99 {:.0} ms",
                times.len(),
                percentile(times, 50),
                percentile(times, 99)
            ));
        }
    }
    Ok(())
}

/// Returns the duration of each commit in milliseconds.
fn commits(
    kind: CatalogKind,
    backlog: &BacklogArgs,
    folder: &Path,
    compacting: bool,
) -> Result<Vec<f64>> {
    let pipeline = Pipeline::on_shared_services("commits", kind)?;
    let mut producer = pipeline.start_producer(&["--continuous", "--rate", "2000"])?;
    let mut worker = pipeline.start_consumer("worker", &["--flush-interval", "200ms"])?;
    pipeline.await_committed(2_000)?;
    let mut compactor = if compacting {
        let busy =
            ["run", "--tiers", "64KiB", "--target-file-size", "4MiB", "--tier-intervals", "1"];
        let program = Program::named("ducktide-compactor")?.args(busy);
        let program = program.args(["--catalog", &pipeline.catalog]);
        Some(program.args(&backlog.program_arguments).start(folder, "busy-compactor")?)
    } else {
        None
    };
    std::thread::sleep(Duration::from_mins(1));
    let log = worker.process().log()?;
    let published = pipeline.stop_producer(&mut producer)?;
    pipeline.await_committed(published)?;
    if let Some(mut compactor) = compactor.take() {
        compactor.terminate()?;
        compactor.succeed(LIMIT)?;
    }
    worker.stop()?;
    pipeline.check_exact(published)?;
    let times = worker_log::numbers(&log, "batch committed", "elapsed_ms");
    ensure!(times.len() > 100, "only {} commits were logged", times.len());
    Ok(times)
}

fn percentile(times: &[f64], percent: usize) -> f64 {
    if percent == 50 {
        return median(times.to_vec()).unwrap_or_default();
    }
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get((sorted.len() * percent).div_ceil(100).saturating_sub(1))
        .copied()
        .unwrap_or_default()
}
