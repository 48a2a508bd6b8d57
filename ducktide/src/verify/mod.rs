//! `ducktide verify`: did we lose or double anything?

mod explanation;
mod progress;
mod report;
mod text;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::table::TableName;
use ducktide_verify::VerifyRequest;

use crate::failure::Failure;
use ducktide_service::units;
use progress::Progress;
use report::Report;

const EXAMPLES: &str = "\
Examples:
  # what the catalog and the files' sizes prove: about a second, whatever the size of the lake
  ducktide verify

  # read the offsets of all rows, and compare them with the ledger
  ducktide verify --deep

  # read every column of every row, so that a damaged file is found
  ducktide verify --read-all-columns

  # one table, against what the producer saw acknowledged
  ducktide verify --table events --against-ledger acknowledged.csv

  # every hour, for a monitoring system: the result is a metric of the compactor
  ducktide verify --record --json > verify.json

It may run at any time, beside consumers and compactor: it takes no lock, and judges one snapshot.
Without --deep it proves that each partition's ledger is without gap or overlap and its counts add up,
that progress is where the ledger ends, that the tables have as many rows as the ledger counts, that
each file is registered once and is there with its size, and that the triggers are in force.
--deep proves it for each single offset: it reads topic, partition and offset of the rows, and no other
column. --read-all-columns decodes every column of every row as well, so a file that cannot be read any
more is found (table_unreadable). Parquet files have no checksums here, so a changed byte that still
decodes, to another value, is not found: nothing in a lake can prove that the other columns are what the
records were. Where that is asked for, compare with a table that a replay --into fills.

JSON, null where something was not looked at; further fields may be added:
  lake          catalog, snapshot_id
  mode          catalog, deep or all_columns
  sources[]     table, topic, partitions, ranges, rows, dead, duplicates, tombstones, gaps, given_up
  files         count, bytes
  rows_read     rows whose offsets were read
  acknowledged  records, found, pending, before_start, accounted, lost, unacknowledged
  findings[]    finding, exit_status, table, topic, partition, file, count, detail, offsets[] (the
                first of them), meaning, next; the first 20 of each kind
  notes[]       note, table, topic, count, meaning
  judgement     exact, exit_status, findings {finding: number of them}, text
  elapsed_seconds

Exit codes, of several findings the first in this list:
  0   nothing is lost, nothing is doubled
  10  rows_missing           the ledger counts rows that the table does not have, or the producer
                             saw records acknowledged that the lake has passed over
  11  rows_doubled           a record is in the table more than once
  12  rows_unexpected        rows of offsets that the ledger does not count as rows
  13  dead_letters_differ    the dead-letter table does not match the ledger
  14  data_file_missing      a registered data file is not there
  15  data_file_truncated    a data file has another size than was registered
  16  delete_file_missing    a delete file is not there, or has another size
  17  file_registered_twice  a data file is registered more than once
  18  file_to_be_deleted     a registered file is scheduled for deletion
  19  table_unreadable       a table cannot be read although its files are there
  20  ledger_gap             a range starts beyond the end of the one before it
  21  ledger_overlap         a range starts before the end of the one before it
  22  ledger_epoch           a range is of another epoch than its partition was in
  23  ledger_counts          the counts of a range cannot be right
  24  progress_differs       progress is not where the ledger ends
  25  trigger_missing        a trigger is missing, disabled, or did not do its work
  26  rows_undecided         more rows than the ledger counts; --deep tells whose they are
  27  rows_deleted           rows are gone that another client deleted
  28  rows_unacknowledged    rows of records that the producer did not see acknowledged
Without a judgement: 1 the answer cannot be written, 2 wrong command line, 3 the lake cannot be
reached, 4 the lake cannot be used, or there is no such table or ledger.";

/// The memory of a deep look: enough for two billion offsets without spilling, and for comparing any
/// number of lines of a producer's ledger, some four million at a time.
const MEMORY_LIMIT: &str = "2GiB";

/// Proves that nothing was lost and nothing is there twice, or says what is wrong.
///
/// The last line is the judgement. Each finding says where it is, what it means, and what to do next.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// Reads topic, partition and offset of every row, and compares them with the ledger. Takes some
    /// seconds for 100 million rows.
    #[arg(long)]
    pub deep: bool,

    /// Reads every column of every row in addition to what --deep does, so that a file that cannot be
    /// decoded is found. Takes as long as reading all of the lake's files.
    #[arg(long)]
    pub read_all_columns: bool,

    /// Compares with a producer's ledger: a CSV file `topic,partition,offset,event_id` of the records
    /// that it saw acknowledged, as `ducktide-producer --ledger` writes it. An empty event id is a
    /// record that cannot be decoded. Reads the rows as --deep does. Takes some 10 bytes a line in the
    /// temporary directory, and compares in parts that fit into --memory-limit.
    #[arg(long, value_name = "FILE")]
    pub against_ledger: Option<PathBuf>,

    /// One table only, with the sources that fill it; all of them by default.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,

    /// Keeps the result in the lake, over the one before: the compactor then exports it for alerts, and
    /// `ducktide status` shows it. Needs the right to write to the catalog.
    #[arg(long, conflicts_with = "table")]
    pub record: bool,

    /// Prints JSON.
    #[arg(long)]
    pub json: bool,

    /// The memory that reading rows may take; beyond, it goes on in the temporary directory.
    #[arg(long, value_name = "BYTES", default_value = MEMORY_LIMIT, value_parser = units::parse_bytes)]
    pub memory_limit: u64,

    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

pub(crate) fn run(args: VerifyArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let config = args.lake.resolve()?;
    let access = if args.record { Access::Operate } else { Access::Read };
    let mut lake = DuckLake::open(&config, access)?;
    let request = VerifyRequest {
        table: args.table,
        deep: args.deep,
        read_all: args.read_all_columns,
        acknowledged: args.against_ledger,
        memory_limit: args.memory_limit,
    };
    let mut progress = Progress::new();
    let verification =
        ducktide_verify::verify(&mut lake, &request, &mut |state| progress.show(state))?;
    progress.clear();
    let recorded = if args.record {
        ducktide_verify::record_verification(&mut lake, &verification)
    } else {
        Ok(())
    };
    let report = Report::new(&verification, &config.catalog, started.elapsed());
    let text = if args.json { report.to_json() } else { text::render(&report) };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    match report.judgement.exit_status {
        // What was found matters more than whether it could be recorded.
        0 => Ok(recorded?),
        exit_status => Err(Failure::Found { exit_status }),
    }
}
