//! `ducktide snapshots`: the states that a reader can travel to, and which of them are kept.

mod list;
mod pin;
mod unpin;

use clap::{Args, Subcommand};
use ducktide_protocol::{ErrorKind, LakeError};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # what changed lately, and who changed it
  ducktide snapshots list

  # keep the state of now, whatever the retention, for an audit
  ducktide snapshots pin audit-2026

  # read it, now or in a year
  ducktide sql \"SELECT count(*) FROM events AT (VERSION => 4711)\"

  # let it go
  ducktide snapshots unpin audit-2026

Every commit makes a snapshot. The compactor expires those that are older than the lake's retention
(7 days, unless the option `expire_older_than` or the compactor's settings say otherwise), and removes
the files that only they needed. Never expired are: the newest one, what is pinned, and what a replay
took out until it is read again; each of these keeps all newer snapshots too.";

/// Lists the lake's snapshots, keeps one for good, or lets it go again.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SnapshotsArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: SnapshotsVerb,
}

/// What can be done with snapshots.
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

/// A request that makes no sense for this lake says nothing against the lake.
fn refused(error: LakeError) -> Failure {
    match error.kind() {
        ErrorKind::Invalid => Failure::Refused(error.chain()),
        ErrorKind::Unavailable | ErrorKind::Setting => error.into(),
    }
}
