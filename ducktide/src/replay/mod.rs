//! `ducktide replay`: removes rows from an offset on and reads their records again.

mod compaction_loss;
mod into_table;
mod start_offsets;
mod text;
mod topic_offsets;

use std::io::{self, Write as _};
use std::time::Duration;

use clap::{ArgGroup, Args};
use ducktide_consumer::{ClusterView, client_config};
use ducktide_kafka::KafkaArgs;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::TableName;
use ducktide_replay::ReplayRequest;
use jiff::Timestamp;

use crate::failure::Failure;
use crate::source;
use ducktide_service::units::parse_duration;
use start_offsets::StartPoint;

const EXAMPLES: &str = "\
Examples:
  # show what would change
  ducktide replay --topic events --from-timestamp 2026-11-24T10:00:00Z --dry-run

  # read one partition again from an offset on, while consumers run
  ducktide replay --topic events --partition 3 --from-offset 500

  # read the records of missing data files again
  ducktide replay --topic events --from-missing-files

  # fill a second table to compare, without changing the first
  ducktide replay --topic events --from-beginning --into events_v2

Rows and dead letters from the offset on are removed in one transaction. Running consumers notice within
seconds and write them again. Readers do not see the rows in the meantime, except at the snapshot that
is printed. If Kafka no longer has the records, the replay is refused and nothing is changed.";

/// Reads records again: removes the rows from an offset on, and consumers write them again.
///
/// Removal and new position are one transaction, so a replay that is killed is either applied or not.
/// Consumers that commit to the table wait for this transaction; merges are postponed. Missing files are
/// ended immediately before it.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[command(after_help = EXAMPLES, group(ArgGroup::new("from").required(true)))]
pub struct ReplayArgs {
    /// Topic.
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,

    /// Replay one partition only. [default: all partitions]
    #[arg(long, value_name = "PARTITION")]
    pub partition: Option<i32>,

    /// Start at this offset. Requires --partition, unless the topic has only one.
    #[arg(long, value_name = "OFFSET", group = "from")]
    pub from_offset: Option<i64>,

    /// Start at the first record with this Kafka timestamp or a later one, such as 2026-11-24T10:00:00Z.
    #[arg(long, value_name = "TIME", group = "from", value_parser = record_time)]
    pub from_timestamp: Option<Timestamp>,

    /// Start at the first offset of the table; with --into, at the first record that Kafka has.
    #[arg(long, group = "from")]
    pub from_beginning: bool,

    /// Start at the first records of data files that are missing in the data path, or have another size
    /// than in the catalog. All rows from these offsets on are read again.
    #[arg(long, group = "from", conflicts_with_all = ["into", "partition"])]
    pub from_missing_files: bool,

    /// Fill another table and do not change this one: registers the topic for it, and prints the command
    /// of the consumer that fills it. Reads all partitions.
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["partition", "table"])]
    pub into: Option<TableName>,

    /// Table. Required if the topic fills several.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,

    /// Show what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Replay even if Kafka may expire the records before they are read again (see --margin).
    #[arg(long)]
    pub force: bool,

    /// Accept the loss of this number of records of a compacted topic that Kafka no longer has. The replay
    /// is refused if more would be lost, and reports the number.
    #[arg(long, value_name = "RECORDS", default_value = "0")]
    pub accept_loss: u32,

    /// Minimum age difference between Kafka's oldest record and the oldest one to read, if retention has
    /// already removed records.
    #[arg(long, value_name = "SECONDS", default_value = "1h", value_parser = parse_duration)]
    pub margin: Duration,

    /// Maximum time for which consumers wait for the transaction that removes rows. If the replay is killed,
    /// they continue after this time.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_duration)]
    pub max_transaction: Duration,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// The Kafka cluster.
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

impl ReplayArgs {
    /// Returns the start point; clap ensures that there is exactly one.
    fn start_point(&self) -> StartPoint {
        match (self.from_offset, self.from_timestamp) {
            (Some(offset), _) => StartPoint::Offset(Offset(offset)),
            (None, Some(_)) => StartPoint::Time,
            (None, None) if self.from_missing_files => StartPoint::MissingFiles,
            (None, None) => StartPoint::Beginning,
        }
    }
}

/// Parses the time of a record: Kafka stores milliseconds since 1970.
fn record_time(text: &str) -> Result<Timestamp, String> {
    let time: Timestamp = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    if time < Timestamp::UNIX_EPOCH {
        return Err("time before 1970; use --from-beginning".to_owned());
    }
    Ok(time)
}

pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let config = args.lake.resolve()?;
    let mut lake = DuckLake::open(&config, Access::Operate)?;
    let view = ClusterView::new(&client_config(&args.kafka)?)?;
    let text = match &args.into {
        Some(table) => into_table::register(args, table, &config, &mut lake, &view)?,
        None => replay(args, &mut lake, &view)?,
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn replay(args: &ReplayArgs, lake: &mut DuckLake, view: &ClusterView) -> Result<String, Failure> {
    let source = source::select(lake.sources()?, &args.topic, args.table.as_ref())?;
    check_identity(view, &source)?;
    let mut partitions =
        topic_offsets::read(view, lake, &args.topic, Some(&source), args.from_timestamp)?;
    if args.from_missing_files {
        let missing = ducktide_replay::missing_files(lake, &source)?;
        if missing.files == 0 {
            let table = &source.spec.table;
            return Ok(format!("nothing to do: no data file of {table} is missing\n"));
        }
        for (number, known) in &mut partitions {
            known.missing = missing.offsets.get(number).copied();
        }
    }
    let partition = args.partition.map(Partition);
    let offsets = start_offsets::for_replay(&partitions, args.start_point(), partition)?;
    if !args.force {
        topic_offsets::check_margin(view, lake, &source, &partitions, &offsets, args.margin)?;
    }
    let table = source.spec.table.clone();
    let request = ReplayRequest {
        max_transaction: args.max_transaction,
        ..ReplayRequest::new(source, offsets)
    };
    let planned = ducktide_replay::plan_replay(lake, &request)?;
    let losses = compaction_loss::losses(view, &args.topic, &planned.steps)?;
    let compacted = compaction_loss::describe(&args.topic, &losses);
    if args.dry_run {
        return Ok(compacted + &text::render(&args.topic, &table, &planned, true));
    }
    compaction_loss::check(&args.topic, &losses, args.accept_loss.into())?;
    let summary = ducktide_replay::replay(lake, &request)?;
    Ok(compacted + &text::render(&args.topic, &table, &summary, false))
}

/// Returns an error for a recreated topic, which has other records at the same offsets.
fn check_identity(view: &ClusterView, source: &ducktide_protocol::Source) -> Result<(), Failure> {
    let identity = view.identity(&source.spec.topic)?;
    let mut current = source.spec.clone();
    (current.cluster_id, current.topic_id) = (identity.cluster_id, identity.topic_id);
    Ok(source.check_identity(&current)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_is_refused_with_the_remedy() {
        assert!(record_time("1970-01-01T00:00:00Z").is_ok());
        let refused = record_time("1969-12-31T23:59:59Z").unwrap_err();
        assert!(refused.contains("--from-beginning"), "{refused}");
    }
}
