//! `ducktide skip`: gives records up.

use std::io::{self, Write as _};

use clap::Args;
use ducktide_consumer::{ClusterView, KafkaArgs};
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::TableName;
use ducktide_service::units;

use crate::failure::Failure;
use crate::source;

const EXAMPLES: &str = "\
Examples:
  # retention was faster than the consumers: go on with the first record that Kafka still has
  ducktide skip --topic events --partition 3 --to-offset 81200

A partition whose offsets Kafka does not have stops, with both watermarks in the consumer's log, and
waits for this decision. Running consumers go on by themselves within seconds.";

/// Gives records up: moves a partition forward without them, for ever.
///
/// The ledger keeps how many were given up, and `ducktide verify` shows it. A replay to before the
/// skipped range reads them after all, if Kafka has them.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SkipArgs {
    /// The topic.
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,

    /// The partition.
    #[arg(long, value_name = "PARTITION")]
    pub partition: i32,

    /// The next offset to read; everything before it that is not in the lake is given up.
    #[arg(long, value_name = "OFFSET")]
    pub to_offset: i64,

    /// The table, where the topic fills several.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,

    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Where Kafka is.
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

pub(crate) fn run(args: &SkipArgs) -> Result<(), Failure> {
    let mut lake = DuckLake::open(&args.lake.resolve()?, Access::Operate)?;
    let source = source::choose(lake.sources()?, &args.topic, args.table.as_ref())?;
    let end = ClusterView::new(&args.kafka.client_config()?)?
        .watermarks(&args.topic, args.partition)?
        .high;
    if args.to_offset > end {
        return Err(Failure::Refused(format!(
            "Kafka is not there yet: to_offset=`{}` end=`{end}`",
            args.to_offset
        )));
    }
    let step = ducktide_replay::skip(
        &mut lake,
        &source,
        Partition(args.partition),
        Offset(args.to_offset),
    )?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "gave up {} of {}[{}]: {} is at offset {} now, in epoch {}",
        units::count(step.range.len(), "offset"),
        args.topic,
        args.partition,
        source.spec.table,
        step.range.to,
        step.epoch.0 + 1
    )?;
    Ok(out.flush()?)
}
