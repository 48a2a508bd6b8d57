//! `ducktide snapshots pin`.

use std::io::{self, Write as _};
use std::time::Duration;

use clap::Args;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::position::SnapshotId;
use ducktide_service::units::parse_duration;

use super::refused;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # the state of now
  ducktide snapshots pin before-upgrade

  # one that `ducktide snapshots list` shows
  ducktide snapshots pin audit-2026 --snapshot 4711

Exit codes: 0 done, 1 there is no such snapshot or the name is taken, 2 wrong command line, 3 the lake
cannot be reached or the compactor is at work for too long, 4 the lake cannot be used.";

/// Keeps a snapshot, until it is unpinned, whatever the retention.
///
/// It keeps every newer snapshot too, and with them all the files that any of them needs: the lake
/// grows by whatever is merged or deleted from now on.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PinArgs {
    /// What to call it: letters, digits and signs, no spaces.
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Which snapshot; the newest one by default.
    #[arg(long, value_name = "ID")]
    pub snapshot: Option<i64>,

    /// How long an operation of the compactor, or a replay, is waited for: seconds, or `2m`.
    #[arg(long, value_name = "SECONDS", value_parser = parse_duration, default_value = "60")]
    pub lock_timeout: Duration,

    /// Which lake.
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
        "pinned snapshot {id} as `{name}`: it is kept until `ducktide snapshots unpin {name}`, and with \
         it every newer snapshot and the files they need\nread it with AT (VERSION => {id})",
        id = pin.snapshot,
        name = pin.name,
    )?;
    Ok(out.flush()?)
}
