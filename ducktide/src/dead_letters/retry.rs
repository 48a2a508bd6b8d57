//! `ducktide dead-letters retry`.

use std::io::{self, Write as _};

use clap::Args;
use ducktide_consumer::dead_letter::{DecodeFailure, RetryError, RetryWriter};
use ducktide_consumer::{KeyArgs, RegistryArgs, ValueArgs};
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DeadLetterFilter, DuckLake};
use ducktide_protocol::LakeError;
use ducktide_protocol::dead_letter::{RecordLocation, Resolution};
use ducktide_protocol::table::TableName;

use super::resolver::{ResolveSummary, Resolver, StagedPage, TablePair};
use super::selection::Selection;
use super::topic_table::topic_table;
use crate::failure::Failure;
use ducktide_service::text_table::{Align, TextTable};
use ducktide_service::units;

const NOTES: &str = "\
Examples:
  # after the schema of the records was registered
  ducktide dead-letters retry --class unknown_schema

  # one record
  ducktide dead-letters retry --topic events --partition 2 --offset 12

Exit codes: 0 all of them were moved; 1 some are still open, and are listed with their errors; 2 wrong
command line; 3 the lake or the schema registry is unavailable; 4 the lake cannot be used.";

/// Decodes dead letters again, with the current schemas, and moves them to their table.
///
/// Each becomes a row exactly once, even if this command is repeated or run concurrently: its row and its
/// resolution are one commit. Records that still cannot be decoded stay open. Consumers can run
/// concurrently.
#[derive(Args, Clone, Debug)]
#[command(after_help = NOTES)]
pub struct RetryArgs {
    /// Selection of dead letters.
    #[command(flatten)]
    pub selection: Selection,

    /// Format of values, the same as for the consumers.
    #[command(flatten)]
    pub values: ValueArgs,

    /// Format of keys, the same as for the consumers.
    #[command(flatten)]
    pub keys: KeyArgs,

    /// Schema registry, the same as for the consumers.
    #[command(flatten)]
    pub registry: RegistryArgs,

    /// Timestamp column whose date is the partition key. Required only if the lake has not recorded it:
    /// for partitioned tables that an earlier version of Ducktide created.
    #[arg(long, env = "DUCKTIDE_PARTITION_BY", value_name = "COLUMN")]
    pub partition_by: Option<String>,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

pub(super) fn run(args: &RetryArgs) -> Result<(), Failure> {
    args.selection.check()?;
    let mut lake = DuckLake::open(&args.lake.resolve()?, Access::Commit)?;
    let Selection { table, topic, .. } = &args.selection;
    let table = topic_table(&mut lake, table.as_ref(), topic.as_deref())?;
    let letters = args.selection.open_letters(&mut lake, &table)?;
    let mut resolver =
        Resolver { lake: &mut lake, table: table.clone(), resolution: Resolution::Retried };
    let summary =
        resolver.resolve(&letters, |lake, tables, open| stage(args, lake, tables, open))?;
    let mut out = io::stdout().lock();
    out.write_all(text(&table, &summary).as_bytes())?;
    out.flush()?;
    match summary.still_open.len() {
        0 => Ok(()),
        count => Err(Failure::StillOpen { count }),
    }
}

fn stage(
    args: &RetryArgs,
    lake: &mut DuckLake,
    tables: &TablePair,
    open: &DeadLetterFilter,
) -> Result<StagedPage, Failure> {
    // The setting of the consumers does not apply to a table without a date partition key.
    let setting = args.partition_by.as_deref().filter(|_| tables.rows.shape.is_partitioned());
    let ducktide_protocol::Table { version, shape, partitioning, .. } = &tables.rows;
    let partition_by = partitioning
        .date_column(&version.table, shape, setting)
        .map_err(|error| LakeError::invalid("retry dead letters").because(error))?;
    let RetryArgs { values, keys, registry, .. } = args;
    let mut stage =
        RetryWriter::new(values, *keys, registry, &tables.rows, partition_by.as_deref())
            .map_err(failure)?;
    let mut still_open = Vec::new();
    for letter in lake.dead_letters(&tables.rows.version.table, open)? {
        if let Some(error) = stage.add(&letter).map_err(failure)? {
            still_open.push((letter.place, error));
        }
    }
    let (letters, files) = stage.finish(&tables.letters).map_err(failure)?;
    Ok(StagedPage { letters, files, still_open })
}

fn failure(error: RetryError) -> Failure {
    let text = "retry dead letters";
    match error {
        RetryError::Schemas(_) | RetryError::PartitionBy(_) => {
            LakeError::invalid(text).because(error)
        }
        other => LakeError::unavailable(text).because(other),
    }
    .into()
}

fn text(table: &TableName, summary: &ResolveSummary) -> String {
    let moved = units::count(summary.resolved as u64, "dead letter");
    let moved = format!("{moved} moved to {table}");
    if summary.still_open.is_empty() {
        return moved + "\n";
    }
    let count = units::number(summary.still_open.len() as u64);
    errors(&summary.still_open) + &format!("\n{moved}; {count} still open, not decodable\n")
}

/// Returns a table of the dead letters that are still open, with their errors.
fn errors(letters: &[(RecordLocation, DecodeFailure)]) -> String {
    let mut table = TextTable::with_columns(&[
        ("topic", Align::Left),
        ("partition", Align::Right),
        ("offset", Align::Right),
        ("class", Align::Left),
        ("error", Align::Left),
    ]);
    for (place, error) in letters {
        table.push(vec![
            place.topic.clone(),
            place.partition.to_string(),
            place.offset.to_string(),
            error.class.to_string(),
            error.text.clone(),
        ]);
    }
    table.to_text()
}
