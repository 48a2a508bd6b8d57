//! Commands of the tool and their help.

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::{
    attach, dead_letters, init, replay, roles, skip, snapshots, sql, status, verify, version,
};

const EXAMPLES: &str = "\
Examples:
  # create a lake in this directory, show its progress
  ducktide init
  ducktide status

  # check that no record is lost or duplicated
  ducktide verify

  # read the last hours of a topic again, while consumers run
  ducktide replay --topic events --from-timestamp 2026-11-24T10:00:00Z

  # records that could not be decoded
  ducktide dead-letters list

  # recent changes; keep the current state, independent of the retention
  ducktide snapshots list
  ducktide snapshots pin audit-2026

  # query the lake
  ducktide sql \"SELECT event_type, count(*) FROM events GROUP BY ALL\"

  # attach the lake to another DuckDB
  ducktide attach > lake.sql && duckdb -init lake.sql

Lake and Kafka cluster are set by the same flags and variables as for the consumer:
DUCKLAKE_CATALOG, DUCKLAKE_DATA_PATH, DUCKLAKE_METADATA_SCHEMA, KAFKA_BOOTSTRAP_SERVERS.

Exit codes:
  0  done; for status: the lake was read, whatever the lag
  1  failed: the query is refused, the output cannot be written, ...
  2  the command line or a setting is wrong
  3  the lake or Kafka is unavailable; retry later
  4  the lake cannot be used: it does not exist, or it needs a newer Ducktide, ...
  10 and above: findings of verify; its help has the list";

/// Sets up, monitors, verifies, replays and queries a Ducktide lake.
#[derive(Clone, Debug, Parser)]
#[command(name = "ducktide", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// Command to run.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Commands of the tool.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "clap would show these comments instead of those of the arguments")]
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
    Roles(roles::RolesArgs),
    Version(version::VersionArgs),
}

/// Runs the command.
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
        Verb::Roles(args) => roles::run(&args),
        Verb::Version(args) => version::run(&args),
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
