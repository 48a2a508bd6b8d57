//! `--into`: a second table of the same topic, with its own progress.

use ducktide_consumer::ClusterView;
use ducktide_lake::config::{CatalogLocation, LakeConfig};
use ducktide_lake::position::{Offset, Partition};
use ducktide_lake::table::TableName;
use ducktide_lake::{DuckLake, Lake as _, SourceSpec};

use super::{ReplayArgs, choice, kafka};
use crate::failure::Failure;

/// Registers the topic for the table, and says how it is filled.
pub(super) fn register(
    args: &ReplayArgs,
    table: &TableName,
    config: &LakeConfig,
    lake: &mut DuckLake,
    view: &ClusterView,
) -> Result<String, Failure> {
    let is_taken = |source: &ducktide_lake::Source| {
        source.spec.topic == args.topic && source.spec.table == *table
    };
    if lake.sources()?.iter().any(is_taken) {
        return Err(Failure::Refused(format!(
            "the topic fills that table already; leave --into away to replay it: \
             topic=`{}` table=`{table}`",
            args.topic
        )));
    }
    let places = kafka::places(view, lake, &args.topic, None, args.from_timestamp)?;
    let offsets = choice::for_another_table(&places, args.from())?;
    let starts: Vec<(Partition, Offset)> = offsets.into_iter().collect();
    if !args.dry_run {
        let identity = view.identity(&args.topic)?;
        let spec = SourceSpec {
            table: table.clone(),
            topic: args.topic.clone(),
            pipeline: table.table.clone(),
            cluster_id: identity.cluster_id,
            topic_id: identity.topic_id,
        };
        lake.register_source(&spec, &starts)?;
    }
    Ok(report(args, table, &config.catalog, &starts))
}

fn report(
    args: &ReplayArgs,
    table: &TableName,
    catalog: &CatalogLocation,
    starts: &[(Partition, Offset)],
) -> String {
    let topic = &args.topic;
    let begins = |(partition, offset): &(Partition, Offset)| {
        format!("{topic}[{partition}]  from offset {offset}\n")
    };
    let starts: String = starts.iter().map(begins).collect();
    let verb = if args.dry_run { "would be" } else { "is" };
    let (group, servers) = (format!("ducktide-{table}"), &args.kafka.bootstrap_servers);
    let catalog = catalog.shareable();
    format!(
        "{starts}{topic} {verb} registered for {table}; fill it with\n  \
         ducktide-consumer --topics {topic} --table {table} --group-id {group} \
         --bootstrap-servers {servers} --catalog '{catalog}'\n"
    )
}
