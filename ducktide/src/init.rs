//! `ducktide init`: makes the lake.

use std::io::{self, Write};

use clap::Args;
use ducktide_consumer::{
    NewTableError, RegistryArgs, RegistryError, TableLayout, UnionArgs, make_table,
};
use ducktide_lake::config::{CatalogLocation, LakeArgs};
use ducktide_lake::{Access, DuckLake, Overview, Setup};
use ducktide_protocol::LakeError;

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # on one machine: a SQLite catalog, its data files in lake.sqlite.files
  ducktide init --catalog sqlite:lake.sqlite

  # for many machines: the catalog in PostgreSQL, the data files where all of them can write
  DUCKLAKE_CATALOG=postgres://lake@db/lake DUCKLAKE_DATA_PATH=/shared/lake ducktide init

  # a copy of a catalog takes the lake's files over: a restored backup, a new server
  ducktide init --adopt

  # and the table for a topic, to look at before anything is in it
  ducktide init --from-subject orders-value --table shop.orders --partition-by ordered_at";

/// Makes the lake and Ducktide's tables in its catalog, and restores triggers that are missing or
/// disabled; changes nothing else that is there.
///
/// May be run again at any time, and says what it made and what it found. The data path is chosen
/// now and stays: the catalog remembers it. A consumer makes a lake that is missing by the same way.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArgs,

    /// Makes this catalog the owner of the lake's files. A catalog that was copied, restored from a dump or
    /// moved may only be read until then, since two copies would remove each other's files. Programs that
    /// use another copy can no longer write: stop them first. Also claims a data path again whose files
    /// were lost.
    #[arg(long)]
    pub adopt: bool,

    /// Which table.
    #[command(flatten)]
    pub table: TableArgs,

    /// Where its schema is.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// A table that is made before its first consumer starts, which would make the same.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Table")]
pub struct TableArgs {
    /// Also makes the table for records of this subject's newest schema, such as `orders-value` for the
    /// topic `orders`. A table that is there gets the columns that it lacks.
    #[arg(long, value_name = "SUBJECT")]
    pub from_subject: Option<String>,

    /// The table's name, `table` or `schema.table`. [default: the subject's without `-value`]
    #[arg(long, env = "DUCKLAKE_TABLE", value_name = "TABLE")]
    pub table: Option<String>,

    /// As the consumers are to have it.
    #[command(flatten)]
    pub layout: TableLayout,

    #[command(flatten)]
    pub unions: UnionArgs,
}

pub(crate) fn run(args: &InitArgs) -> Result<(), Failure> {
    let config = args.lake.resolve()?;
    if args.adopt {
        DuckLake::adopt(&config)?;
    }
    let setup = DuckLake::init(&config)?;
    let overview = DuckLake::open(&config, Access::Read)?.overview()?;
    let mut out = io::stdout().lock();
    report(setup, &config.catalog, &overview, &mut out)?;
    if args.adopt {
        writeln!(out, "owner      this catalog; other copies of it may only be read")?;
    }
    let TableArgs { from_subject, table, layout, unions } = &args.table;
    let Some(subject) = from_subject else { return Ok(()) };
    let mut lake = DuckLake::open(&config, Access::Operate)?;
    let made = make_table(&mut lake, &args.registry, subject, table.as_deref(), layout, *unions);
    let made = made.map_err(failure)?;
    let columns = made.shape.columns.len();
    writeln!(out, "table      {}, {columns} columns", made.version.table)?;
    Ok(())
}

fn failure(error: NewTableError) -> Failure {
    match error {
        NewTableError::Lake(error) => error.into(),
        NewTableError::Runtime(_)
        | NewTableError::Registry { error: RegistryError::Unavailable(_), .. } => {
            LakeError::unavailable(error.to_string()).into()
        }
        _ => Failure::Refused(error.to_string()),
    }
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
        Setup { triggers_are_restored: true, .. } => {
            "restored the lake's triggers; other clients may have written without them: run \
             `ducktide verify --deep`"
        }
        _ => "found the lake, nothing to do",
    }
}
