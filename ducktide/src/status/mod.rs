//! `ducktide status`: progress of each partition, and contents and health of the lake.

mod cluster_query;
mod data;
mod flow_judgement;
mod group_member;
mod health_report;
mod health_text;
mod report;
mod source_report;
mod text;
mod time;

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;
use std::time::Duration;

use clap::Args;
use ducktide_consumer::client_config;
use ducktide_health::Thresholds;
use ducktide_kafka::KafkaArgs;
use ducktide_lake::config::{LakeArgs, LakeConfig};
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::{LakeError, Source};
use jiff::Timestamp;

use crate::failure::Failure;
use cluster_query::{Cluster, ClusterQuery};
use data::{SourceState, StatusData};
use ducktide_service::units::{self, parse_duration};
use report::StatusReport;

/// Default time limit for Kafka, in seconds. It is short: an operator waits.
const KAFKA_TIMEOUT: &str = "3";

const EXAMPLES: &str = "\
Examples:
  # the lake and the Kafka cluster named by the environment
  ducktide status

  # refreshed every 2 seconds until Ctrl-C
  ducktide status --watch

  # total lag
  ducktide status --json | jq .judgement.lag

The section \"Lake\" starts with the judgement of the lake:
  healthy
  compaction behind: N small files in T, ...                (merges do not keep up, or do not run)
  N files of T, ..., have delete files, ...                 (merges skip those)
  N files await removal, the first for X instead of Y; ...
  snapshots of X are kept instead of Y: by pin ..., ...

The last line is the judgement of the flow:
  all N partitions up to date
  lag N records in M partitions
  partition P of T: no commit for X while N records wait    (for more than a minute),
  ...; followed by the member of the consumer group that reads it, if known
  lag unknown: ...                                          (Kafka did not answer)
  ...: a topic was deleted and recreated, Kafka no longer has the offsets, a consumer of another
  lake reads the partition in the same consumer group, ...

JSON, times in UTC, null if unknown; fields may be added:
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

Exit codes: 0 the lake was read, whatever the lag; 2 wrong command line; 3 the lake is unavailable;
4 the lake cannot be used.";

/// Shows the progress of each partition, and contents and health of the lake.
///
/// Reads the catalog, and from Kafka the offsets of topics and the members of consumer groups. Opens no
/// data file and joins no consumer group, so it can run at any time. While Kafka is unavailable, only the
/// lake is shown.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct StatusArgs {
    /// Maximum time to wait for Kafka.
    #[arg(long, value_name = "SECONDS", default_value = KAFKA_TIMEOUT, value_parser = parse_duration)]
    pub kafka_timeout: Duration,

    /// Print JSON; with --watch, one line for each refresh.
    #[arg(long)]
    pub json: bool,

    /// Refresh in this interval until Ctrl-C; without a value, every 2 seconds. Redraws a terminal,
    /// otherwise appends.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
          value_parser = parse_duration)]
    pub watch: Option<Duration>,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// The Kafka cluster.
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let config = args.lake.resolve()?;
    client_config(&args.kafka)?;
    let mut lake = DuckLake::open(&config, Access::Read)?;
    let first = read_status(&mut lake, args)?;
    let mut out = io::stdout().lock();
    print(&first, &config, args, &mut out)?;
    let Some(interval) = args.watch else { return Ok(()) };
    loop {
        thread::sleep(interval);
        match read_status(&mut lake, args) {
            Ok(data) => print(&data, &config, args, &mut out)?,
            // An outage, or an invalidated DuckDB instance: reported and retried.
            Err(error) => {
                Failure::Lake(error).print();
                lake = DuckLake::open(&config, Access::Read).unwrap_or(lake);
            }
        }
    }
}

fn read_status(lake: &mut DuckLake, args: &StatusArgs) -> Result<StatusData, LakeError> {
    let sources = lake.read_together(sources_with_groups)?;
    let topics = sources.iter().map(|(_, source)| source.spec.topic.clone()).collect();
    let groups = sources.iter().map(|(group_id, _)| group_id.clone()).collect();
    let query = ClusterQuery::start(&args.kafka, topics, groups, args.kafka_timeout);
    let (client_id, overview, tables, health, open_dead_letters) = lake.read_together(|lake| {
        let (client_id, overview, tables) =
            (lake.client_id()?, lake.overview()?, lake.table_sizes()?);
        let health = ducktide_health::read(lake, &Thresholds::default())?;
        Ok((client_id, overview, tables, health, lake.open_dead_letters()?))
    })?;
    // Kafka first: progress that is read later can be ahead of these offsets, never behind.
    let cluster = query.and_then(|query| query.map_or(Ok(Cluster::default()), ClusterQuery::wait));
    let with_progress = |lake: &mut DuckLake| {
        let with_progress = sources.into_iter().map(|(group_id, source)| {
            let progress = lake.progress(source.id)?;
            Ok(SourceState { source, group_id, progress })
        });
        with_progress.collect()
    };
    let sources = lake.read_together(with_progress)?;
    let at = Timestamp::now();
    Ok(StatusData { overview, tables, health, open_dead_letters, sources, client_id, cluster, at })
}

/// Returns all sources, each with the consumer group that reads it.
fn sources_with_groups(lake: &mut DuckLake) -> Result<Vec<(String, Source)>, LakeError> {
    let (sources, default, mut recorded) = (lake.sources()?, lake.default_group()?, lake.groups()?);
    let with_group =
        |source: Source| (recorded.remove(&source.id).unwrap_or_else(|| default.clone()), source);
    Ok(sources.into_iter().map(with_group).collect())
}

fn print(
    data: &StatusData,
    config: &LakeConfig,
    args: &StatusArgs,
    out: &mut io::StdoutLock<'_>,
) -> Result<(), Failure> {
    let report = StatusReport::new(data, &config.catalog, &args.kafka.bootstrap_servers);
    let header = |interval| watch_header(out.is_terminal(), interval, data.at);
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
    // Clears the screen and moves the cursor to its first line.
    let clear = if is_terminal { "\x1b[2J\x1b[H" } else { "" };
    let at = at.strftime("%Y-%m-%d %H:%M:%S UTC");
    format!("{clear}{at}, every {}; stop with Ctrl-C\n\n", units::duration(interval))
}
