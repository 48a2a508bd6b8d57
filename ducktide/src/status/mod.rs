//! `ducktide status`: how far each partition is, and what the lake holds.

mod health;
mod health_text;
mod judgement;
mod kafka;
mod readers;
mod report;
mod text;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use clap::Args;
use ducktide_consumer::KafkaArgs;
use ducktide_health::{LakeHealth, Thresholds};
use ducktide_lake::config::{LakeArgs, LakeConfig};
use ducktide_lake::{Access, DuckLake, Overview, PartitionProgress, TableSize};
use ducktide_protocol::{LakeError, Source};
use jiff::Timestamp;

use crate::failure::Failure;
use ducktide_service::units::{self, parse_duration};
use kafka::{Cluster, Question, Unreachable};
use report::Report;

/// How long Kafka may take: a person waits for it.
const KAFKA_TIMEOUT: &str = "3";

const EXAMPLES: &str = "\
Examples:
  # the lake and the Kafka that the environment names
  ducktide status

  # redrawn every 2 seconds until Ctrl-C
  ducktide status --watch

  # how many records wait in all
  ducktide status --json | jq .judgement.lag

The section \"Lake\" begins with the lake's judgement:
  healthy
  compaction behind: N small files in T, ...                (merges do not keep up, or do not run)
  N files of T, ..., have delete files, ...                 (merges leave those alone)
  N files await removal, the first for X instead of Y; ...
  snapshots of X are kept instead of Y: by pin ..., ...

The last line is the judgement of the flow:
  all N partitions up to date
  lag N records in M partitions
  partition P of T: no commit for X while N records wait    (they have waited for a minute),
  ...; who reads it, or that no member of the consumer group does
  lag unknown: ...                                          (Kafka does not answer)
  ...: the topic was deleted and made again, Kafka no longer has the offsets, a consumer of another
  lake reads the partition in the same consumer group, ...

JSON, times in UTC, null where something is not known; further fields may be added:
  lake       catalog, data_path, ducklake_version, layout_version, snapshots,
             newest_snapshot {snapshot_id, committed_at, age_seconds}
  tables[]   table, rows, files, bytes, open_dead_letters
  health     state (healthy, compaction_behind, many_deletes, removal_behind, expiry_behind,
             snapshots_kept), text
             tables[] {table, target_bytes, tiny, small, medium, full {files, bytes}, small_share,
             mergeable, with_deletes, schema_versions, partition_values, full_scan_files,
             one_day {day, of (partition_key, commit), files}}
             snapshots {count, oldest_snapshot_id, oldest_committed_at, oldest_age_seconds,
             expire_after_seconds, kept_by {kind, name, from_snapshot_id}}
             ended {files, bytes}, awaiting_removal {files, since, age_seconds,
             remove_after_seconds}, ledger_rows, last_maintenance[] {kind, at, age_seconds, done},
             last_verification {at, age_seconds, findings, deep}
  sources[]  source_id, table, topic, pipeline, group_id, group_members, problem,
             partitions[] {partition, epoch, next_offset, end_offset, lag, snapshot_id,
             last_commit_at, last_commit_age_seconds, stalled, reader {client_id, host}, problem}
  kafka      bootstrap_servers, reachable, error
  judgement  state (empty, up_to_date, lagging, stalled, unknown, problem), text, lag

Exit codes: 0 the lake could be read, however far behind it is; 2 wrong command line; 3 the lake
cannot be reached; 4 the lake cannot be used.";

/// Shows how far each partition is, and what the lake holds.
///
/// Reads the catalog and asks Kafka for its offsets and the consumer group's members; no data file is
/// opened and no consumer group is joined, so it may run at any time. Without Kafka it shows the lake's part.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// How long to wait for Kafka, seconds.
    #[arg(long, value_name = "SECONDS", default_value = KAFKA_TIMEOUT, value_parser = parse_duration)]
    pub kafka_timeout: Duration,

    /// Prints JSON; with --watch one line each time.
    #[arg(long)]
    pub json: bool,

    /// Looks again every so many seconds, 2 by default, until Ctrl-C. Redraws on a terminal, appends
    /// elsewhere.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = parse_duration)]
    pub watch: Option<Duration>,

    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Where Kafka is.
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

/// What the lake said of a source.
struct SourceReading {
    source: Source,
    /// The consumer group that reads it.
    group_id: String,
    progress: Vec<PartitionProgress>,
}

/// What lake and Kafka said.
struct Reading {
    overview: Overview,
    tables: Vec<TableSize>,
    health: LakeHealth,
    /// By table; tables without any are not there.
    open_dead_letters: BTreeMap<String, i64>,
    sources: Vec<SourceReading>,
    /// The client id of this lake's consumers.
    client_id: String,
    cluster: Result<Cluster, Unreachable>,
    at: Timestamp,
}

pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let config = args.lake.resolve()?;
    args.kafka.client_config()?;
    let mut lake = DuckLake::open(&config, Access::Read)?;
    let first = look(&mut lake, args)?;
    let mut out = io::stdout().lock();
    print(&first, &config, args, &mut out)?;
    let Some(interval) = args.watch else { return Ok(()) };
    loop {
        thread::sleep(interval);
        match look(&mut lake, args) {
            Ok(reading) => print(&reading, &config, args, &mut out)?,
            // An outage, or DuckDB broke: said, and looked at again.
            Err(error) => {
                Failure::Lake(error).print();
                lake = DuckLake::open(&config, Access::Read).unwrap_or(lake);
            }
        }
    }
}

fn look(lake: &mut DuckLake, args: &StatusArgs) -> Result<Reading, LakeError> {
    let sources = lake.sources()?;
    let topics = sources.iter().map(|source| source.spec.topic.clone()).collect();
    let (default, mut recorded) = (lake.default_group()?, lake.groups()?);
    let sources: Vec<_> = sources
        .into_iter()
        .map(|source| (recorded.remove(&source.id).unwrap_or_else(|| default.clone()), source))
        .collect();
    let groups = sources.iter().map(|(group_id, _)| group_id.clone()).collect();
    let question = Question::ask(&args.kafka, topics, groups, args.kafka_timeout);
    let client_id = lake.client_id()?;
    let (overview, tables) = (lake.overview()?, lake.table_sizes()?);
    let health = ducktide_health::read(lake, &Thresholds::default())?;
    let open_dead_letters = lake.open_dead_letters()?;
    // Kafka first: progress that is read later can only be ahead of these ends, never behind.
    let cluster =
        question.and_then(|question| question.map_or(Ok(Cluster::default()), Question::answer));
    let with_progress = sources.into_iter().map(|(group_id, source)| {
        let progress = lake.progress(source.id)?;
        Ok(SourceReading { source, group_id, progress })
    });
    let sources = with_progress.collect::<Result<_, LakeError>>()?;
    let at = Timestamp::now();
    Ok(Reading { overview, tables, health, open_dead_letters, sources, client_id, cluster, at })
}

fn print(
    reading: &Reading,
    config: &LakeConfig,
    args: &StatusArgs,
    out: &mut io::StdoutLock<'_>,
) -> Result<(), Failure> {
    let report = Report::new(reading, &config.catalog, &args.kafka.bootstrap_servers)?;
    let header = |interval| watch_header(out.is_terminal(), interval, reading.at);
    let text = match (args.json, args.watch) {
        (true, Some(_)) => report.to_json_line(),
        (true, None) => report.to_json(),
        (false, None) => text::render(&report),
        (false, Some(interval)) => header(interval) + &text::render(&report) + "\n",
    };
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn watch_header(is_terminal: bool, interval: Duration, at: Timestamp) -> String {
    // Clears the screen and goes to its first line.
    let clear = if is_terminal { "\x1b[2J\x1b[H" } else { "" };
    let at = at.strftime("%Y-%m-%d %H:%M:%S UTC");
    format!("{clear}{at}, every {}; Ctrl-C ends\n\n", units::duration(interval))
}
