//! `ducktide dead-letters retry`.

use std::io::{self, Write as _};

use clap::Args;
use ducktide_consumer::dead_letter::{DecodeFailure, RetryError, RetryWriter};
use ducktide_consumer::{KeyArgs, RegistryArgs, ValueArgs};
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DuckLake, LetterFilter};
use ducktide_protocol::LakeError;
use ducktide_protocol::dead_letter::{RecordPlace, Resolution};
use ducktide_protocol::table::TableName;

use super::resolver::{Resolver, Staged, Summary, Tables};
use super::selection::Selection;
use crate::failure::Failure;
use ducktide_service::text_table::{Align, TextTable};
use ducktide_service::units;

const NOTES: &str = "\
Examples:
  # a schema was registered under the id that the records have
  ducktide dead-letters retry --class unknown_schema

  # one record
  ducktide dead-letters retry --topic events --partition 2 --offset 4711

Exit codes: 0 all of them are rows now; 1 some stay open, and are listed with the reason; 2 wrong
command line; 3 the lake or the schema registry cannot be reached; 4 the lake cannot be used.";

/// Decodes dead letters again, with what is registered now, and moves them to their table.
///
/// Each becomes a row once, however often this is called and by how many at a time: its row and the
/// row that resolves the letter are one commit. Letters that still cannot be decoded stay open.
/// Consumers may run meanwhile.
#[derive(Args, Clone, Debug)]
#[command(after_help = NOTES)]
pub struct RetryArgs {
    /// Which letters.
    #[command(flatten)]
    pub selection: Selection,

    /// As the consumers have it.
    #[command(flatten)]
    pub values: ValueArgs,

    /// As the consumers have it.
    #[command(flatten)]
    pub keys: KeyArgs,

    /// As the consumers have it.
    #[command(flatten)]
    pub registry: RegistryArgs,

    /// The timestamp column whose date is the partition key. Needed only for a partitioned table of
    /// which the lake has not recorded it: one that an earlier version of Ducktide created.
    #[arg(long, env = "DUCKTIDE_PARTITION_BY", value_name = "COLUMN")]
    pub partition_by: Option<String>,

    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

pub(super) fn run(args: &RetryArgs) -> Result<(), Failure> {
    args.selection.check()?;
    let mut lake = DuckLake::open(&args.lake.resolve()?, Access::Commit)?;
    let Selection { table, topic, .. } = &args.selection;
    let table = super::table(&mut lake, table.as_ref(), topic.as_deref())?;
    let letters = args.selection.open_letters(&mut lake, &table)?;
    let mut resolver =
        Resolver { lake: &mut lake, table: table.clone(), resolution: Resolution::Retried };
    let summary =
        resolver.resolve(&letters, |lake, tables, open| stage(args, lake, tables, open))?;
    let mut out = io::stdout().lock();
    out.write_all(text(&table, &summary).as_bytes())?;
    out.flush()?;
    match summary.refused.len() {
        0 => Ok(()),
        count => Err(Failure::StayOpen { count }),
    }
}

fn stage(
    args: &RetryArgs,
    lake: &mut DuckLake,
    tables: &Tables,
    open: &LetterFilter,
) -> Result<Staged, Failure> {
    // A table without dates has no use for the consumers' setting.
    let given = args.partition_by.as_deref().filter(|_| tables.rows.shape.is_partitioned());
    let ducktide_protocol::Table { version, shape, partitioning, .. } = &tables.rows;
    let partition_by = partitioning
        .date_column(&version.table, shape, given)
        .map_err(|error| LakeError::invalid("retry dead letters").because(error))?;
    let RetryArgs { values, keys, registry, .. } = args;
    let mut stage =
        RetryWriter::new(values, *keys, registry, &tables.rows, partition_by.as_deref())
            .map_err(failure)?;
    let mut refused = Vec::new();
    for letter in lake.dead_letters(&tables.rows.version.table, open)? {
        if let Some(decode_failure) = stage.add(&letter).map_err(failure)? {
            refused.push((letter.place, decode_failure));
        }
    }
    let (letters, files) = stage.finish(&tables.letters).map_err(failure)?;
    Ok(Staged { letters, files, refused })
}

fn failure(error: RetryError) -> Failure {
    let text = "retry dead letters";
    match error {
        RetryError::Address(_) | RetryError::PartitionBy(_) => {
            LakeError::invalid(text).because(error)
        }
        other => LakeError::unavailable(text).because(other),
    }
    .into()
}

fn text(table: &TableName, summary: &Summary) -> String {
    let moved = units::count(summary.resolved as u64, "letter");
    let end = format!("{moved} moved to {table}");
    if summary.refused.is_empty() {
        return end + "\n";
    }
    let stay = units::number(summary.refused.len() as u64);
    refused(&summary.refused) + &format!("\n{end}; {stay} cannot be decoded still, and stay open\n")
}

fn refused(letters: &[(RecordPlace, DecodeFailure)]) -> String {
    let mut table = TextTable::with_columns(&[
        ("topic", Align::Left),
        ("partition", Align::Right),
        ("offset", Align::Right),
        ("class", Align::Left),
        ("error", Align::Left),
    ]);
    for (place, failure) in letters {
        table.push(vec![
            place.topic.clone(),
            place.partition.to_string(),
            place.offset.to_string(),
            failure.class.to_string(),
            failure.text.clone(),
        ]);
    }
    table.to_text()
}
