//! `ducktide replay`: reads records again.

mod choice;
mod compaction;
mod into;
mod kafka;
mod text;

use std::io::{self, Write as _};
use std::time::Duration;

use clap::{ArgGroup, Args};
use ducktide_consumer::{ClusterView, KafkaArgs};
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::position::Partition;
use ducktide_protocol::table::TableName;
use ducktide_replay::ReplayRequest;
use jiff::Timestamp;

use crate::failure::Failure;
use crate::source;
use choice::From;
use ducktide_service::units::parse_duration;

const EXAMPLES: &str = "\
Examples:
  # what would change
  ducktide replay --topic events --from-timestamp 2026-11-24T10:00:00Z --dry-run

  # read one partition again from an offset on, while consumers run
  ducktide replay --topic events --partition 3 --from-offset 81200

  # read the records again whose data files are missing
  ducktide replay --topic events --from-missing-files

  # fill a second table and compare, without touching the first
  ducktide replay --topic events --from-beginning --into events_v2

The table loses its rows from the offset on, and its dead letters, in one transaction; running
consumers notice within seconds, and write them again. Readers see the rows go and come back; as they
were before, they stay readable at the snapshot that is printed. What Kafka no longer has is refused
before anything is touched.";

/// Reads records again: rows behind an offset are removed, and consumers write them anew.
///
/// Removal and new position are one transaction: killed at any moment, a replay has happened or has
/// not. Consumers that commit to the table wait for that transaction; merges stay away. Missing files are
/// ended right before it.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[command(after_help = EXAMPLES, group(ArgGroup::new("from").required(true)))]
pub struct ReplayArgs {
    /// The topic.
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,

    /// One partition only; all of them by default.
    #[arg(long, value_name = "PARTITION")]
    pub partition: Option<i32>,

    /// From this offset on. Needs --partition, unless the topic has only one.
    #[arg(long, value_name = "OFFSET", group = "from")]
    pub from_offset: Option<i64>,

    /// From the first record at or after this time on, such as 2026-11-24T10:00:00Z: the time that
    /// Kafka keeps with each record.
    #[arg(long, value_name = "TIME", group = "from", value_parser = record_time)]
    pub from_timestamp: Option<Timestamp>,

    /// From where the table began; with --into, from the first record that Kafka has.
    #[arg(long, group = "from")]
    pub from_beginning: bool,

    /// From the first records of data files that the catalog has and the data path lacks, or has with
    /// another size. Other rows behind these offsets are read again too.
    #[arg(long, group = "from", conflicts_with_all = ["into", "partition"])]
    pub from_missing_files: bool,

    /// Fills another table instead, and leaves this one alone: registers the topic for it, and prints
    /// the command of the consumer that fills it. All partitions take part.
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["partition", "table"])]
    pub into: Option<TableName>,

    /// The table, where the topic fills several.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,

    /// Says what would change, and changes nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Goes on although Kafka may expire the records before they are read again (see --margin).
    #[arg(long)]
    pub force: bool,

    /// Accepts that so many records of a compacted topic are no longer in Kafka and their rows do not
    /// come back. The replay is refused with the number when more would be lost.
    #[arg(long, value_name = "RECORDS", default_value = "0")]
    pub accept_loss: u32,

    /// How much younger than Kafka's oldest record the oldest wanted one must be, once retention has
    /// begun to remove records.
    #[arg(long, value_name = "SECONDS", default_value = "1h", value_parser = parse_duration)]
    pub margin: Duration,

    /// How long consumers wait at most for the transaction that removes rows; if the replay dies, they
    /// go on after this time.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_duration)]
    pub max_transaction: Duration,

    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Where Kafka is.
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

impl ReplayArgs {
    /// Where to begin; clap has seen to it that there is exactly one answer.
    fn from(&self) -> From {
        match (self.from_offset, self.from_timestamp) {
            (Some(offset), _) => From::Offset(offset),
            (None, Some(_)) => From::Time,
            (None, None) if self.from_missing_files => From::MissingFiles,
            (None, None) => From::Beginning,
        }
    }
}

/// Parses a time that a record can have: Kafka keeps milliseconds since 1970.
fn record_time(text: &str) -> Result<Timestamp, String> {
    let time: Timestamp = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    if time < Timestamp::UNIX_EPOCH {
        return Err("before 1970, when no record was written; use --from-beginning".to_owned());
    }
    Ok(time)
}

pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let config = args.lake.resolve()?;
    let mut lake = DuckLake::open(&config, Access::Operate)?;
    let view = ClusterView::new(&args.kafka.client_config()?)?;
    let text = match &args.into {
        Some(table) => into::register(args, table, &config, &mut lake, &view)?,
        None => replay(args, &mut lake, &view)?,
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn replay(args: &ReplayArgs, lake: &mut DuckLake, view: &ClusterView) -> Result<String, Failure> {
    let source = source::choose(lake.sources()?, &args.topic, args.table.as_ref())?;
    check_identity(view, &source)?;
    let mut places = kafka::places(view, lake, &args.topic, Some(&source), args.from_timestamp)?;
    if args.from_missing_files {
        let missing = ducktide_replay::missing_files(lake, &source)?;
        if missing.files == 0 {
            let table = &source.spec.table;
            return Ok(format!("nothing to do: no data file of {table} is missing\n"));
        }
        for (number, place) in &mut places {
            place.missing = missing.offsets.get(&Partition(*number)).map(|offset| offset.0);
        }
    }
    let offsets = choice::for_the_table(&places, args.from(), args.partition)?;
    if !args.force {
        kafka::check_margin(view, lake, &source, &places, &offsets, args.margin)?;
    }
    let table = source.spec.table.clone();
    let request = ReplayRequest {
        max_transaction: args.max_transaction,
        ..ReplayRequest::new(source, offsets)
    };
    let planned = ducktide_replay::plan_replay(lake, &request)?;
    let losses = compaction::losses(view, &args.topic, &planned.steps)?;
    let compacted = compaction::report(&args.topic, &losses);
    if args.dry_run {
        return Ok(compacted + &text::report(&args.topic, &table, &planned, true));
    }
    compaction::check(&args.topic, &losses, args.accept_loss.into())?;
    let summary = ducktide_replay::replay(lake, &request)?;
    Ok(compacted + &text::report(&args.topic, &table, &summary, false))
}

/// A topic that was made again has other records under the same offsets.
fn check_identity(view: &ClusterView, source: &ducktide_protocol::Source) -> Result<(), Failure> {
    let identity = view.identity(&source.spec.topic)?;
    let mut seen = source.spec.clone();
    (seen.cluster_id, seen.topic_id) = (identity.cluster_id, identity.topic_id);
    Ok(source.check_identity(&seen)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_is_refused_with_what_to_do() {
        assert!(record_time("1970-01-01T00:00:00Z").is_ok());
        let refused = record_time("1969-12-31T23:59:59Z").unwrap_err();
        assert!(refused.contains("--from-beginning"), "{refused}");
    }
}
