//! `ducktide snapshots`: lists, pins and unpins snapshots of the lake.

mod list;
mod pin;
mod refusal;
mod unpin;

use clap::{Args, Subcommand};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # recent changes and their authors
  ducktide snapshots list

  # keep the current state for an audit, independent of the retention
  ducktide snapshots pin audit-2026

  # read it at any time
  ducktide sql \"SELECT count(*) FROM events AT (VERSION => 3)\"

  # stop keeping it
  ducktide snapshots unpin audit-2026

Every commit creates a snapshot. The compactor expires snapshots that are older than the lake's retention
(7 days, unless set by the option `expire_older_than` or by the compactor), and removes the files that
only they needed. The newest snapshot, pinned ones, and those before a replay that is not completed never
expire; each of these keeps all newer snapshots too.";

/// Lists, pins and unpins snapshots of the lake.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SnapshotsArgs {
    /// Command to run.
    #[command(subcommand)]
    pub verb: SnapshotsVerb,
}

/// Commands for snapshots.
#[derive(Clone, Debug, Subcommand)]
pub enum SnapshotsVerb {
    List(list::ListArgs),
    Pin(pin::PinArgs),
    Unpin(unpin::UnpinArgs),
}

pub(crate) fn run(args: SnapshotsArgs) -> Result<(), Failure> {
    match args.verb {
        SnapshotsVerb::List(args) => list::run(&args),
        SnapshotsVerb::Pin(args) => pin::run(&args),
        SnapshotsVerb::Unpin(args) => unpin::run(&args),
    }
}
