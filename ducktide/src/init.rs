//! `ducktide init`: makes the lake.

use std::io::{self, Write};

use clap::Args;
use ducktide_lake::config::{CatalogLocation, LakeArgs};
use ducktide_lake::{Access, DuckLake, Overview, Setup};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # on one machine: a SQLite catalog, its data files in lake.sqlite.files
  ducktide init --catalog sqlite:lake.sqlite

  # for many machines: the catalog in PostgreSQL, the data files where all of them can write
  DUCKLAKE_CATALOG=postgres://lake@db/lake DUCKLAKE_DATA_PATH=/shared/lake ducktide init";

/// Makes the lake and Ducktide's tables in its catalog; changes nothing that is there.
///
/// May be run again at any time, and says what it made and what it found. The data path is chosen
/// now and stays: the catalog remembers it. A consumer makes a lake that is missing by the same way.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

pub(crate) fn run(args: &InitArgs) -> Result<(), Failure> {
    let config = args.lake.resolve()?;
    let setup = DuckLake::init(&config)?;
    let overview = DuckLake::open(&config, Access::Read)?.overview()?;
    report(setup, &config.catalog, &overview, &mut io::stdout().lock())?;
    Ok(())
}

fn report(
    setup: Setup,
    catalog: &CatalogLocation,
    lake: &Overview,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "{}", sentence(setup))?;
    writeln!(out, "catalog    {catalog}")?;
    writeln!(out, "data path  {}", lake.data_path)?;
    writeln!(out, "layout     {} (DuckLake {})", lake.layout_version, lake.ducklake_version)
}

const fn sentence(setup: Setup) -> &'static str {
    match setup {
        Setup { lake_is_new: true, .. } => "made a new lake",
        Setup { tables_are_new: true, .. } => {
            "added Ducktide's tables to a DuckLake that was there"
        }
        _ => "found the lake, nothing to do",
    }
}
