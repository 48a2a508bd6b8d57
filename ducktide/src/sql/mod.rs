//! `ducktide sql`: runs SQL on the lake without an installation of DuckDB.

mod query;
mod read_only;
mod statements;
mod value;

pub(crate) mod output;

use std::io::{self, BufWriter, IsTerminal as _, Read as _, Write as _};

use clap::Args;
use duckdb::Connection;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DuckLake};

use crate::failure::Failure;
use output::{Format, printer};

const EXAMPLES: &str = "\
Examples:
  # number of events by type in the last hour
  ducktide sql \"SELECT event_type, count(*) FROM events
                WHERE event_timestamp > now() - INTERVAL 1 HOUR GROUP BY ALL\"

  # a field of a JSON column; the parentheses are required, because = binds stronger than ->>
  ducktide sql \"SELECT * FROM events WHERE (details->>'user_id') = 'user_1234'\"

  # an earlier state of the lake, and all snapshots
  ducktide sql \"SELECT count(*) FROM events AT (TIMESTAMP => now() - INTERVAL 1 DAY)\"
  ducktide sql \"FROM snapshots()\"

  # several statements from a file, for another program
  ducktide sql --format csv < report.sql > report.csv

Exit codes: 0 done, 1 DuckDB refused a statement (earlier ones have run), 2 wrong command line, 3 the
lake is unavailable, 4 the lake cannot be used.";

/// Runs SQL on the lake and prints the result.
///
/// The lake is attached as `lake` and is the default catalog, so `FROM events` reads its table. Times are
/// in UTC. Without --write, the lake is read-only, no file outside of it is read or written, statements and
/// functions that write files (COPY, ATTACH, INSTALL, CALL, DuckLake's maintenance) are refused, and only
/// the settings `threads`, `memory_limit`, `preserve_insertion_order` and `TimeZone` can be changed.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SqlArgs {
    /// Statements, separated by semicolons. [default: read from standard input]
    #[arg(value_name = "SQL")]
    pub sql: Option<String>,

    /// Format of results: `table` for a terminal, `csv` and `json` (an array of objects for each result)
    /// for programs.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,

    /// Maximum number of rows of a table; further rows are counted only. csv and json are always complete.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub max_rows: usize,

    /// Allow statements that change the lake, and files outside of it. Rows that you insert have no
    /// offsets; rows that you delete or change no longer match the ledger.
    #[arg(long)]
    pub write: bool,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

pub(crate) fn run(args: SqlArgs) -> Result<(), Failure> {
    let text = args.sql.map_or_else(read_standard_input, Ok)?;
    let statements = statements::split(&text);
    if statements.is_empty() {
        return Err(Failure::Usage("no SQL; pass it as argument or on standard input"));
    }
    if let Some(write) = statements.iter().find_map(|sql| read_only::find_write(sql))
        && !args.write
    {
        return Err(Failure::Refused(format!(
            "the statement can write files or change other databases; allow it with --write: \
             statement=`{write}`"
        )));
    }
    let access = if args.write { Access::Operate } else { Access::Read };
    let mut lake = DuckLake::open(&args.lake.resolve()?, access)?;
    let directories = lake.file_directories()?;
    let connection = lake.connection()?;
    prepare(connection)?;
    if !args.write {
        read_only::restrict(connection, &directories)?;
    }
    let printed = run_statements(connection, &statements, args.format, args.max_rows);
    // The lake can be detached only if it is not the default catalog.
    let reset = connection.execute_batch("USE memory");
    printed.and_then(|()| reset.map_err(Failure::from))
}

fn read_standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(Failure::Input)?;
    Ok(text)
}

/// Sets up a session for scans: the session of a worker has low limits. Spills to the system's temporary
/// directory rather than to the current one.
fn prepare(connection: &Connection) -> Result<(), Failure> {
    let spill = std::env::temp_dir().join(format!("ducktide-{}", std::process::id()));
    let spill = spill.to_string_lossy().replace('\'', "''");
    connection.execute_batch(&format!(
        "RESET threads; RESET memory_limit; SET temp_directory = '{spill}'; USE lake"
    ))?;
    Ok(())
}

fn run_statements(
    connection: &Connection,
    statements: &[&str],
    format: Format,
    max_rows: usize,
) -> Result<(), Failure> {
    let stdout = io::stdout();
    let flush_each = stdout.is_terminal();
    let mut out = BufWriter::new(stdout.lock());
    for (index, statement) in statements.iter().enumerate() {
        if index > 0 && format == Format::Table {
            writeln!(out)?;
        }
        let mut printer = printer(format, max_rows, &mut out);
        let result = query::run(connection, statement, format.cells(), printer.as_mut());
        drop(printer);
        // Rows before an error are printed too.
        if flush_each || result.is_err() {
            out.flush()?;
        }
        result?;
    }
    Ok(out.flush()?)
}
