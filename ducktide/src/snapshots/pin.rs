//! `ducktide snapshots pin`.

use std::io::{self, Write as _};
use std::time::Duration;

use clap::Args;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::position::SnapshotId;
use ducktide_service::units::parse_duration;

use super::refusal::refused;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # the current state
  ducktide snapshots pin before-upgrade

  # a snapshot of `ducktide snapshots list`
  ducktide snapshots pin audit-2026 --snapshot 3

Exit codes: 0 done, 1 there is no such snapshot or the name is taken, 2 wrong command line, 3 the lake
is unavailable or --lock-timeout has passed, 4 the lake cannot be used.";

/// Keeps a snapshot until it is unpinned, independent of the retention.
///
/// All newer snapshots and the files that they need are kept too: the lake grows by everything that is
/// merged or deleted from then on.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PinArgs {
    /// Name of the pin: letters, digits and punctuation, no spaces.
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Snapshot to pin. [default: the newest one]
    #[arg(long, value_name = "ID")]
    pub snapshot: Option<i64>,

    /// Maximum time to wait for an operation of the compactor or a replay.
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration, default_value = "60")]
    pub lock_timeout: Duration,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

pub(super) fn run(args: &PinArgs) -> Result<(), Failure> {
    let mut lake = DuckLake::open(&args.lake.resolve()?, Access::Operate)?;
    let snapshot = args.snapshot.map(SnapshotId);
    let pin = lake.pin(&args.name, snapshot, args.lock_timeout).map_err(refused)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "pinned snapshot {id} as `{name}`: it and all newer snapshots are kept until `ducktide snapshots \
         unpin {name}`\nread it with AT (VERSION => {id})",
        id = pin.snapshot,
        name = pin.name,
    )?;
    Ok(out.flush()?)
}
