//! `ducktide skip`: moves a partition forward without its records.

use std::io::{self, Write as _};

use clap::Args;
use ducktide_consumer::{ClusterView, client_config};
use ducktide_kafka::KafkaArgs;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::TableName;
use ducktide_service::units;

use crate::failure::Failure;
use crate::source;

const EXAMPLES: &str = "\
Examples:
  # retention removed unread records: continue with the first record that Kafka has
  ducktide skip --topic events --partition 3 --to-offset 1500

A partition whose next offset Kafka does not have stops until this command is run; the log of the
consumer has both watermarks. Running consumers continue automatically within seconds.";

/// Moves a partition forward without its records, which are given up permanently.
///
/// The ledger counts the records that are given up, and `ducktide verify` shows the number. A replay from
/// before the skipped range reads them, if Kafka has them.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SkipArgs {
    /// Topic.
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,

    /// Partition.
    #[arg(long, value_name = "PARTITION")]
    pub partition: i32,

    /// Next offset to read. All earlier records that are not in the lake are given up.
    #[arg(long, value_name = "OFFSET")]
    pub to_offset: i64,

    /// Table. Required if the topic fills several.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// The Kafka cluster.
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

pub(crate) fn run(args: &SkipArgs) -> Result<(), Failure> {
    let mut lake = DuckLake::open(&args.lake.resolve()?, Access::Operate)?;
    let source = source::select(lake.sources()?, &args.topic, args.table.as_ref())?;
    let (partition, to_offset) = (Partition(args.partition), Offset(args.to_offset));
    let view = ClusterView::new(&client_config(&args.kafka)?)?;
    let end = view.watermarks(&args.topic, partition)?.high;
    if to_offset > end {
        return Err(Failure::Refused(format!(
            "Kafka does not have that offset yet: to_offset=`{to_offset}` end=`{end}`"
        )));
    }
    let step = ducktide_replay::skip(&mut lake, &source, partition, to_offset)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "gave up {} of {}[{}]: {} is now at offset {}, epoch {}",
        units::count(step.range.len(), "offset"),
        args.topic,
        partition,
        source.spec.table,
        step.range.to,
        step.epoch.0 + 1
    )?;
    Ok(out.flush()?)
}
