//! `ducktide verify`: checks that no record is lost or duplicated.

mod explanation;
mod progress_line;
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
use progress_line::ProgressLine;
use report::VerifyReport;

const EXAMPLES: &str = "\
Examples:
  # catalog and file sizes: about a second, independent of the size of the lake
  ducktide verify

  # read the offsets of all rows, and compare them with the ledger
  ducktide verify --deep

  # read every column of every row, to find damaged files
  ducktide verify --read-all-columns

  # one table, compared with the records that Kafka acknowledged to the producer
  ducktide verify --table events --against-ledger acknowledged.csv

  # every hour, for a monitoring system: the result is a metric of the compactor
  ducktide verify --record --json > verify.json

Can run at any time, concurrently with consumers and compactor: takes no lock, reads one snapshot.
Without --deep it checks that the ledger of each partition has no gap or overlap and its counts add up,
that progress equals the end of the ledger, that the tables have as many rows as the ledger counts, that
each file is registered once and exists with its registered size, and that the triggers are enabled.
--deep checks every single offset: it reads topic, partition and offset of the rows, and no other column.
--read-all-columns also decodes every column of every row, and so finds files that cannot be read
(table_unreadable). Parquet files have no checksums here: a changed byte that still decodes, to another
value, is not found. To check the other columns too, compare with a table filled by replay --into.

JSON, null if not checked; fields may be added:
  lake          catalog, snapshot_id
  mode          catalog, deep or all_columns
  sources[]     table, topic, partitions, ranges, rows, dead, duplicates, tombstones, gaps, given_up
  files         count, bytes
  rows_read     rows whose offsets were read
  acknowledged  records, found, pending, before_start, accounted, lost, unacknowledged
  findings[]    finding, exit_status, table, topic, partition, file, count, detail, offsets[] (the
                first ones), meaning, next; the first 20 of each kind
  notes[]       note, table, topic, count, meaning
  judgement     exact, exit_status, findings {finding: number of them}, text
  elapsed_seconds

Exit codes, the first in this list if there are several findings:
  0   nothing lost, no duplicates
  10  rows_missing           the ledger counts rows that the table does not have, or Kafka
                             acknowledged records that the lake does not have
  11  rows_doubled           a record is in the table more than once
  12  rows_unexpected        rows of offsets that the ledger does not count as rows
  13  dead_letters_differ    the dead-letter table does not match the ledger
  14  data_file_missing      a registered data file is missing
  15  data_file_truncated    the size of a data file is not the registered one
  16  delete_file_missing    a delete file is missing, or its size is not the registered one
  17  file_registered_twice  a data file is registered more than once
  18  file_to_be_deleted     a registered file is scheduled for deletion
  19  table_unreadable       a table cannot be read although all of its files exist
  20  ledger_gap             a range starts after the end of the previous one
  21  ledger_overlap         a range starts before the end of the previous one
  22  ledger_epoch           the epoch of a range is not the one of its partition at that time
  23  ledger_counts          the counts of a range are impossible
  29  ledger_not_started     the ledger of a partition does not begin with its start
  24  progress_differs       progress is not the end of the ledger
  25  trigger_missing        a trigger is missing, disabled, or had no effect
  26  rows_undecided         more rows than the ledger counts; --deep finds the reason
  27  rows_deleted           another client deleted rows
  28  rows_unacknowledged    rows of records that were not acknowledged to the producer
Without a judgement: 1 the output cannot be written, 2 wrong command line, 3 the lake is unavailable,
4 the lake cannot be used, or there is no such table or ledger.";

/// Default memory limit for reading rows: enough for two billion offsets without spilling, and for
/// comparing any number of lines of a producer's ledger, about four million at a time.
const MEMORY_LIMIT: &str = "2GiB";

/// Checks that no record is lost or duplicated, and reports errors with their remedies.
///
/// The last line is the judgement. Each finding has its location, its meaning and the next step.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// Read topic, partition and offset of every row, and compare them with the ledger. Takes some
    /// seconds for 100 million rows.
    #[arg(long)]
    pub deep: bool,

    /// Read every column of every row, in addition to --deep, to find files that cannot be decoded. Takes
    /// as long as reading all files of the lake.
    #[arg(long)]
    pub read_all_columns: bool,

    /// Compare with a producer's ledger: a CSV file `topic,partition,offset,event_id` of the records
    /// that Kafka acknowledged, as `ducktide-producer --ledger` writes it. An empty event id is a record
    /// that cannot be decoded. Implies --deep. Needs about 10 bytes for each line in the temporary
    /// directory, and compares in parts that fit into --memory-limit.
    #[arg(long, value_name = "FILE")]
    pub against_ledger: Option<PathBuf>,

    /// Check one table only, with the sources that fill it. [default: all tables]
    #[arg(long, value_name = "TABLE")]
    pub table: Option<TableName>,

    /// Store the result in the lake and replace the previous one: the compactor exports it for alerts, and
    /// `ducktide status` shows it. Needs permission to write to the catalog.
    #[arg(long, conflicts_with = "table")]
    pub record: bool,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,

    /// Maximum memory for reading rows. More is spilled to the temporary directory.
    #[arg(long, value_name = "BYTES", default_value = MEMORY_LIMIT, value_parser = units::parse_bytes)]
    pub memory_limit: u64,

    /// The lake.
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
    let mut progress = ProgressLine::new();
    let verification =
        ducktide_verify::verify(&mut lake, &request, &mut |state| progress.show(state))?;
    progress.clear();
    let recorded = if args.record {
        ducktide_verify::record_verification(&mut lake, &verification)
    } else {
        Ok(())
    };
    let report = VerifyReport::new(&verification, &config.catalog, started.elapsed());
    let text = if args.json { report.to_json() } else { text::render(&report) };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    match report.judgement.exit_status {
        // Findings are reported rather than an error of storing them.
        0 => Ok(recorded?),
        exit_status => Err(Failure::NotExact { exit_status }),
    }
}
