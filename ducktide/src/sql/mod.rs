//! `ducktide sql`: the user's own SQL, for people without a DuckDB at hand.

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
  # how many of each, in the last hour
  ducktide sql \"SELECT event_type, count(*) FROM events
                WHERE event_timestamp > now() - INTERVAL 1 HOUR GROUP BY ALL\"

  # a field of a JSON column; the parentheses are needed, ->> binds weaker than =
  ducktide sql \"SELECT * FROM events WHERE (details->>'user_id') = 'user_1234'\"

  # what the lake looked like, and how it became what it is
  ducktide sql \"SELECT count(*) FROM events AT (TIMESTAMP => now() - INTERVAL 1 DAY)\"
  ducktide sql \"FROM snapshots()\"

  # several statements, from a file, for another program
  ducktide sql --format csv < report.sql > report.csv

Exit codes: 0 done, 1 DuckDB refuses a statement (those before it have run), 2 wrong command line,
3 the lake cannot be reached, 4 the lake cannot be used.";

/// Runs SQL on the lake and prints the answer.
///
/// The lake is attached as `lake`, and is where names without a catalog are looked up, so
/// `FROM events` means its table. Times are in UTC. Without --write the lake is attached for reading,
/// no file outside of it is read or written, statements and functions that write files (COPY, ATTACH,
/// INSTALL, CALL, DuckLake's maintenance) are refused, and of the settings only `threads`, `memory_limit`,
/// `preserve_insertion_order` and `TimeZone` can be changed.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SqlArgs {
    /// The statements, separated by semicolons; without it they are read from standard input.
    #[arg(value_name = "SQL")]
    pub sql: Option<String>,

    /// How answers are printed: `table` for people, `csv` and `json` (an array of objects for each
    /// answer) for programs.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,

    /// Rows that a table shows at most; what is left out is counted. csv and json are always whole.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub max_rows: usize,

    /// Allows statements that change the lake, and files outside of it. Rows that are inserted by hand have no offsets; rows
    /// that are deleted or changed by hand no longer agree with the ledger.
    #[arg(long)]
    pub write: bool,

    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

pub(crate) fn run(args: SqlArgs) -> Result<(), Failure> {
    let text = args.sql.map_or_else(read_standard_input, Ok)?;
    let statements = statements::split(&text);
    if statements.is_empty() {
        return Err(Failure::Usage("there is no SQL: give it as argument or on standard input"));
    }
    if let Some(part) = statements.iter().find_map(|sql| read_only::writing_part(sql))
        && !args.write
    {
        return Err(Failure::Refused(format!(
            "the statement may write files or change other databases; allow it with --write: \
             statement=`{part}`"
        )));
    }
    let access = if args.write { Access::Operate } else { Access::Read };
    let mut lake = DuckLake::open(&args.lake.resolve()?, access)?;
    let directories = lake.file_directories()?;
    let connection = lake.connection()?;
    prepare(connection)?;
    if !args.write {
        read_only::confine(connection, &directories)?;
    }
    let answered = answer(connection, &statements, args.format, args.max_rows);
    // The lake can only be detached while it is not the default.
    let left = connection.execute_batch("USE memory");
    answered.and_then(|()| left.map_err(Failure::from))
}

fn read_standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(Failure::Input)?;
    Ok(text)
}

/// A session for scanning: a worker's is small on purpose. What does not fit into memory goes to the
/// system's temporary directory rather than to the current one.
fn prepare(connection: &Connection) -> Result<(), Failure> {
    let spill = std::env::temp_dir().join(format!("ducktide-{}", std::process::id()));
    let spill = spill.to_string_lossy().replace('\'', "''");
    connection.execute_batch(&format!(
        "RESET threads; RESET memory_limit; SET temp_directory = '{spill}'; USE lake"
    ))?;
    Ok(())
}

fn answer(
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
        let ran = query::run(connection, statement, format.cells(), printer.as_mut());
        drop(printer);
        // What came before an error is an answer too.
        if flush_each || ran.is_err() {
            out.flush()?;
        }
        ran?;
    }
    Ok(out.flush()?)
}
