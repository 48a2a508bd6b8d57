//! `ducktide init`: creates the lake.

use std::io::{self, Write};

use clap::Args;
use ducktide_consumer::{NewTableError, RegistryArgs, TableLayout, UnionArgs, create_table};
use ducktide_lake::config::{CatalogLocation, LakeArgs};
use ducktide_lake::{Access, DuckLake, Overview, Setup};
use ducktide_protocol::LakeError;

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # on one machine: a SQLite catalog, its data files in lake.sqlite.files
  ducktide init --catalog sqlite:lake.sqlite

  # for many machines: the catalog in PostgreSQL, the data files in shared storage
  DUCKLAKE_CATALOG=postgres://lake@db/lake DUCKLAKE_DATA_PATH=/shared/lake ducktide init

  # make a copy of a catalog the owner of the data files: a restored backup, a new server
  ducktide init --adopt

  # also create the table of a topic, before it has rows
  ducktide init --from-subject orders-value --table shop.orders --partition-by ordered_at";

/// Creates the lake and Ducktide's tables in its catalog, and restores triggers that are missing or
/// disabled; changes nothing else in an existing lake.
///
/// Can be run again at any time, and reports what it created. The catalog stores the data path, which
/// cannot be changed later. A consumer creates a missing lake in the same way.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,

    /// Make this catalog the owner of the lake's files. A catalog that was copied, restored from a dump or
    /// moved is read-only until then, because two copies would remove each other's files. Programs that
    /// use another copy can no longer write: stop them first. Also claims a data path again whose files
    /// were lost.
    #[arg(long)]
    pub adopt: bool,

    /// The table to create.
    #[command(flatten)]
    pub table: TableArgs,

    /// The schema registry that has its schema.
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// Table to create before its first consumer starts, which would create the same one.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Table")]
pub struct TableArgs {
    /// Also create the table for records of this subject's newest schema, such as `orders-value` for the
    /// topic `orders`. Missing columns are added to an existing table.
    #[arg(long, value_name = "SUBJECT")]
    pub from_subject: Option<String>,

    /// Name of the table, `table` or `schema.table`. [default: the subject without `-value`]
    #[arg(long, env = "DUCKLAKE_TABLE", value_name = "TABLE")]
    pub table: Option<String>,

    /// Layout of the table, the same as for the consumers.
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
    write_report(setup, &config.catalog, &overview, &mut out)?;
    if args.adopt {
        writeln!(out, "owner      this catalog; other copies of it are read-only")?;
    }
    let TableArgs { from_subject, table, layout, unions } = &args.table;
    let Some(subject) = from_subject else { return Ok(()) };
    let mut lake = DuckLake::open(&config, Access::Operate)?;
    let created =
        create_table(&mut lake, &args.registry, subject, table.as_deref(), layout, *unions)
            .map_err(failure)?;
    let columns = created.shape.columns.len();
    writeln!(out, "table      {}, {columns} columns", created.version.table)?;
    Ok(())
}

fn failure(error: NewTableError) -> Failure {
    match error {
        NewTableError::Lake(error) => error.into(),
        NewTableError::Runtime(_) => LakeError::unavailable(error.to_string()).into(),
        NewTableError::Registry { error: ref cause, .. } if cause.is_recoverable() => {
            LakeError::unavailable(error.to_string()).into()
        }
        _ => Failure::Refused(error.to_string()),
    }
}

fn write_report(
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
        Setup { lake_is_new: true, .. } => "created a new lake",
        Setup { tables_are_new: true, .. } => "added Ducktide's tables to an existing DuckLake",
        Setup { triggers_are_restored: true, .. } => {
            "restored the triggers of the lake; other clients may have written without them: run \
             `ducktide verify --deep`"
        }
        Setup { layout_is_raised: true, .. } => "upgraded the layout of Ducktide's tables",
        _ => "the lake exists, nothing to do",
    }
}
