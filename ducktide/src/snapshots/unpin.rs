//! `ducktide snapshots unpin`.

use std::io::{self, Write as _};

use clap::Args;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DuckLake};

use super::refusal::refused;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # keep a snapshot for the time of an audit
  ducktide snapshots pin audit-2026
  ducktide snapshots unpin audit-2026

Exit codes: 0 done, 1 there is no such pin, 2 wrong command line, 3 the lake is unavailable, 4 the lake
cannot be used.";

/// Stops keeping a pinned snapshot: the compactor expires it like others of its age.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct UnpinArgs {
    /// Name of the pin.
    #[arg(value_name = "NAME")]
    pub name: String,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

pub(super) fn run(args: &UnpinArgs) -> Result<(), Failure> {
    let mut lake = DuckLake::open(&args.lake.resolve()?, Access::Operate)?;
    let pin = lake.unpin(&args.name).map_err(refused)?;
    let kept = ducktide_maintenance::kept_snapshots(&mut lake)?;
    let mut out = io::stdout().lock();
    writeln!(out, "unpinned `{}`, which kept snapshot {} and newer ones", pin.name, pin.snapshot)?;
    match kept {
        Some(kept) => writeln!(out, "still kept from snapshot {}: {}", kept.from, kept.by)?,
        None => writeln!(out, "no other pin or replay keeps old snapshots")?,
    }
    Ok(out.flush()?)
}
