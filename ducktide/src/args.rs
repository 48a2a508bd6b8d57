//! The verbs, and the words that explain them.

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::{attach, dead_letters, init, replay, skip, snapshots, sql, status, verify};

const EXAMPLES: &str = "\
Examples:
  # a lake in this directory, then how far it is
  ducktide init
  ducktide status

  # did we lose or double anything?
  ducktide verify

  # read a topic's last hours again, while consumers run
  ducktide replay --topic events --from-timestamp 2026-11-24T10:00:00Z

  # records that could not be decoded
  ducktide dead-letters list

  # what changed lately; keep the state of now, whatever the retention
  ducktide snapshots list
  ducktide snapshots pin audit-2026

  # what is in it
  ducktide sql \"SELECT event_type, count(*) FROM events GROUP BY ALL\"

  # one's own DuckDB on the same lake
  ducktide attach > lake.sql && duckdb -init lake.sql

Which lake, and which Kafka, comes from the same flags and variables as the consumer's:
DUCKLAKE_CATALOG, DUCKLAKE_DATA_PATH, DUCKLAKE_METADATA_SCHEMA, KAFKA_BOOTSTRAP_SERVERS.

Exit codes:
  0  done; for status: the lake could be read, however far behind it is
  1  failed: the query is refused, the answer cannot be written, ...
  2  the command line or a setting is wrong
  3  the lake, or Kafka, cannot be reached for the time being; try again
  4  the lake cannot be used: there is none, or it needs a newer Ducktide, ...
  10 and above: what verify found; its help has the list";

/// Sets up a Ducktide lake, shows how far it is, proves, replays and queries it.
#[derive(Clone, Debug, Parser)]
#[command(name = "ducktide", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What the tool can do.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "words here would replace each verb's own in its help")]
pub enum Verb {
    Init(init::InitArgs),
    Status(status::StatusArgs),
    Verify(verify::VerifyArgs),
    Replay(replay::ReplayArgs),
    Skip(skip::SkipArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    Snapshots(snapshots::SnapshotsArgs),
    Sql(sql::SqlArgs),
    Attach(attach::AttachArgs),
}

/// Does what was asked.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.verb {
        Verb::Init(args) => init::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Verify(args) => verify::run(args),
        Verb::Replay(args) => replay::run(&args),
        Verb::Skip(args) => skip::run(&args),
        Verb::DeadLetters(args) => dead_letters::run(args),
        Verb::Snapshots(args) => snapshots::run(args),
        Verb::Sql(args) => sql::run(args),
        Verb::Attach(args) => attach::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
