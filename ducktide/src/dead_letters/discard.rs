//! `ducktide dead-letters discard`.

use std::io::{self, Write as _};

use clap::Args;
use ducktide_consumer::dead_letter::stage_resolutions;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DeadLetterFilter, DuckLake};
use ducktide_protocol::LakeError;
use ducktide_protocol::dead_letter::Resolution;

use super::resolver::{Resolver, StagedPage, TablePair};
use super::selection::Selection;
use super::topic_table::topic_table;
use crate::failure::Failure;
use ducktide_service::units;

const NOTES: &str = "\
Examples:
  # all records of a class
  ducktide dead-letters discard --class truncated --yes

  # one record
  ducktide dead-letters discard --topic events --partition 2 --offset 7

Exit codes: 0 done; 2 wrong command line, or --yes is missing; 3 the lake is unavailable; 4 the lake
cannot be used.";

/// Discards dead letters: they stay in the dead-letter table, and count as given up in the ledger.
///
/// A single record, selected by --partition and --offset, is discarded without --yes. Without --yes, the
/// number of others is printed and nothing is changed.
#[derive(Args, Clone, Debug)]
#[command(after_help = NOTES)]
pub struct DiscardArgs {
    /// Selection of dead letters.
    #[command(flatten)]
    pub selection: Selection,

    /// Discard all selected dead letters.
    #[arg(long)]
    pub yes: bool,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

pub(super) fn run(args: &DiscardArgs) -> Result<(), Failure> {
    args.selection.check()?;
    let mut lake = DuckLake::open(&args.lake.resolve()?, Access::Commit)?;
    let Selection { table, topic, .. } = &args.selection;
    let table = topic_table(&mut lake, table.as_ref(), topic.as_deref())?;
    let letters = args.selection.open_letters(&mut lake, &table)?;
    let mut out = io::stdout().lock();
    let is_single = args.selection.is_single_record() && letters.len() <= 1;
    if !(args.yes || is_single) {
        let count = units::count(letters.len() as u64, "dead letter");
        writeln!(out, "{count} of {table} would be discarded")?;
        return Err(Failure::Usage("nothing was discarded; confirm with --yes"));
    }
    let mut resolver =
        Resolver { lake: &mut lake, table: table.clone(), resolution: Resolution::Discarded };
    let summary = resolver.resolve(&letters, stage)?;
    let discarded = units::count(summary.resolved as u64, "dead letter");
    writeln!(out, "{discarded} of {table} discarded")?;
    Ok(out.flush()?)
}

fn stage(
    lake: &mut DuckLake,
    tables: &TablePair,
    open: &DeadLetterFilter,
) -> Result<StagedPage, Failure> {
    let open = lake.dead_letter_summaries(&tables.rows.version.table, open)?;
    let letters: Vec<_> = open.into_iter().map(|letter| letter.place).collect();
    if letters.is_empty() {
        return Ok(StagedPage::default());
    }
    let files = stage_resolutions(&tables.letters, Resolution::Discarded, &letters)
        .map_err(|error| LakeError::unavailable("discard dead letters").because(error))?;
    Ok(StagedPage { letters, files, still_open: Vec::new() })
}
