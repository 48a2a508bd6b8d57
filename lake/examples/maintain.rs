//! Merges, expires and cleans up one table of a lake, again and again: what a compactor does, without
//! any judgement. For attacks on a lake, with margins of seconds that no real one should have.

use std::thread;
use std::time::Duration;

use clap::Parser;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::maintenance::{Maintained, MergeLimits};
use ducktide_lake::table::TableName;
use ducktide_lake::{Access, DuckLake, ErrorKind, LakeError, telemetry};
use jiff::Timestamp;

/// How long an operation waits for the maintenance lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    lake: LakeArgs,

    /// The table to merge.
    #[arg(long)]
    table: TableName,

    /// Seconds between two rounds.
    #[arg(long, default_value_t = 5)]
    interval: u64,

    /// Seconds for which snapshots, and then the files that only they need, are kept.
    #[arg(long, default_value_t = 120)]
    retention: u64,
}

fn main() -> Result<(), LakeError> {
    let args = Args::parse();
    telemetry::init("maintain").expect("RUST_LOG is a filter");
    let config = args.lake.resolve()?;
    let mut lake = None;
    loop {
        match round(&mut lake, &config, &args) {
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::warn!(error = error.chain(), "maintenance failed, next round");
            }
            done => done?,
        }
        thread::sleep(Duration::from_secs(args.interval));
    }
}

fn round(
    lake: &mut Option<DuckLake>,
    config: &ducktide_lake::config::LakeConfig,
    args: &Args,
) -> Result<(), LakeError> {
    let lake = match lake {
        Some(lake) => lake,
        None => lake.insert(DuckLake::open(config, Access::Operate)?),
    };
    let limits = MergeLimits { max_file_bytes: Some(1 << 20), ..MergeLimits::default() };
    let older_than = Timestamp::now() - Duration::from_secs(args.retention);
    let merged = lake.merge_adjacent_files(&args.table, &limits, LOCK_TIMEOUT)?;
    let expired = lake.expire_snapshots(older_than, LOCK_TIMEOUT)?;
    let removed = lake.cleanup_old_files(older_than, LOCK_TIMEOUT)?;
    let count = |done: &Maintained| match done {
        Maintained::Done(count) => *count,
        Maintained::LockNotFree | Maintained::ReplayAnnounced(_) => 0,
    };
    let (merged, expired, removed) = (count(&merged), count(&expired), count(&removed));
    tracing::info!(merged, expired, removed, "maintained");
    Ok(())
}
