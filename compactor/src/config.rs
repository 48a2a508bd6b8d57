//! Settings from flags and environment variables: [`Args`] as parsed, [`Config`] as validated.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use ducktide_lake::Resources;
use ducktide_lake::config::{LakeArgs, LakeConfig};
use ducktide_maintenance::{OrphanPolicy, Retention};
use ducktide_protocol::LakeError;
use ducktide_service::endpoints::EndpointArgs;
use ducktide_service::units::{self, parse_bytes, parse_duration, parse_ratio};
use jiff::Timestamp;
use thiserror::Error;

use crate::planner::MergePolicy;

const EXAMPLES: &str = "\
Examples:
  # maintain a lake continuously; a second compactor is the standby
  ducktide-compactor run --catalog postgres://lake@db/lake

  # one pass, for cron
  ducktide-compactor once

  # print the due operations without running them
  ducktide-compactor plan

Exit codes:
  0  stopped on request; once: all due operations are done
  1  failed; no operation is partly applied, the next run continues
  2  invalid or unsafe command line or setting
  3  lake unavailable; once: another compactor is the leader, or some operations were not done
  4  no lake exists, or it needs a newer version of Ducktide
  6  --shutdown-timeout expired before the current operation finished; it is abandoned without any change";

/// Shortest accepted retention: readers and time travel need it.
const MIN_RETENTION: Duration = Duration::from_hours(24);

/// Minimum ratio of the retention to the longest transaction. Expiring the snapshot at which an
/// open transaction began would remove the history that DuckLake checks for conflicts.
const TRANSACTIONS_IN_RETENTION: u32 = 4;

/// Maintains a Ducktide lake: merges small files, expires snapshots, removes unused files.
///
/// One compactor is the leader of a lake; others are standbys and take over when it fails.
/// Consumers and readers continue during all operations: files are replaced in one short
/// transaction, and removed days later.
#[derive(Clone, Debug, Parser)]
#[command(name = "ducktide-compactor", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// Command to run.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Commands of the compactor.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Maintain the lake until stopped.
    Run(RunArgs),
    /// Run everything that is due once, and exit.
    Once(PassArgs),
    /// Print the due operations and their reasons without running them.
    Plan(PlanArgs),
}

/// Arguments of the continuous worker.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Arguments common to all commands.
    #[command(flatten)]
    pub pass: PassArgs,
    /// Intervals of the operations.
    #[command(flatten)]
    pub schedule: ScheduleArgs,

    /// Endpoints.
    #[command(flatten)]
    pub endpoints: EndpointArgs,
}

/// Arguments of one pass.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PassArgs {
    /// Connection to the lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// Merge settings.
    #[command(flatten)]
    pub merging: MergingArgs,
    /// Retention settings.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// Resource limits.
    #[command(flatten)]
    pub bounds: BoundsArgs,
}

const PLAN_JSON: &str = "\
JSON, further fields may be added:
  files_below_target
  operations[]  table, files, bytes, files_less,
                merges[] {partition, schema_version, files, bytes, reason}
  snapshots     count, expire, oldest_left
  orphans       files, bytes, problem";

/// Arguments of the plan.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = PLAN_JSON)]
pub struct PlanArgs {
    /// Settings of the planned pass.
    #[command(flatten)]
    pub pass: PassArgs,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Merge settings.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Merging")]
pub struct MergingArgs {
    /// Target size of files. Larger files make full scans faster and merges longer.
    #[arg(long, env = "DUCKTIDE_TARGET_FILE_SIZE", value_name = "BYTES", default_value = "256MiB",
          value_parser = parse_bytes)]
    pub target_file_size: u64,

    /// Upper bounds of the size tiers below the target size, ascending. The files of a tier are
    /// merged when they leave it together. Each additional tier means fewer waiting files, and each
    /// byte is written once more.
    #[arg(long, env = "DUCKTIDE_TIERS", value_name = "BYTES,...", default_value = "256KiB,8MiB",
          value_delimiter = ',', value_parser = parse_bytes)]
    pub tiers: Vec<u64>,

    /// Merge a partition as far as worthwhile after this time without new files.
    #[arg(long, env = "DUCKTIDE_COLD_AFTER", value_name = "SECONDS", default_value = "24h",
          value_parser = parse_duration)]
    pub cold_after: Duration,

    /// Maximum size that one operation reads.
    #[arg(long, env = "DUCKTIDE_OPERATION_BYTES", value_name = "BYTES", default_value = "512MiB",
          value_parser = parse_bytes)]
    pub operation_bytes: u64,

    /// Maximum number of files that one operation reads.
    #[arg(long, env = "DUCKTIDE_OPERATION_FILES", value_name = "N", default_value = "2000",
          value_parser = clap::value_parser!(u32).range(2..))]
    pub operation_files: u32,
}

/// Retention settings.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Retention")]
pub struct RetentionArgs {
    /// Expire snapshots older than this; time travel to them is no longer possible. Pinned
    /// snapshots and all newer ones are kept (see `ducktide snapshots pin`).
    #[arg(long, env = "DUCKTIDE_EXPIRE_OLDER_THAN", value_name = "SECONDS", default_value = "7d",
          value_parser = parse_duration)]
    pub expire_older_than: Duration,

    /// Maximum number of snapshots; further ones are expired even if they are younger, the oldest
    /// first.
    #[arg(long, env = "DUCKTIDE_MAX_SNAPSHOTS", value_name = "N")]
    pub max_snapshots: Option<u64>,

    /// Remove files that no snapshot needs this time after they became unused. Readers must finish
    /// within this time.
    #[arg(long, env = "DUCKTIDE_DELETE_OLDER_THAN", value_name = "SECONDS", default_value = "48h",
          value_parser = parse_duration)]
    pub delete_older_than: Duration,

    /// Remove files that are in no catalog when they are older than this. Files that a worker is
    /// about to commit are among them, so the value must be longer than any commit.
    #[arg(long, env = "DUCKTIDE_ORPHANS_OLDER_THAN", value_name = "SECONDS", default_value = "7d",
          value_parser = parse_duration)]
    pub orphans_older_than: Duration,

    /// Maximum ratio of orphans to live files, from 0 to 1. More orphans indicate an error, and
    /// none is removed.
    #[arg(long, env = "DUCKTIDE_MAX_ORPHANS", value_name = "RATIO", default_value = "0.05",
          value_parser = parse_ratio)]
    pub max_orphans: f64,

    /// Longest transaction of any client: a merge, a replay, a reader. The retention must be at
    /// least four times as long.
    #[arg(long, env = "DUCKTIDE_MAX_TRANSACTION", value_name = "SECONDS", default_value = "1h",
          value_parser = parse_duration)]
    pub max_transaction: Duration,

    /// Accept a retention of less than a day. Only for tests: it breaks readers and time travel,
    /// and removes the files of slow workers.
    #[arg(long, env = "DUCKTIDE_ACCEPT_RETENTION_THAT_BREAKS_READERS", hide_short_help = true)]
    pub accept_retention_that_breaks_readers: bool,
}

/// Resource limits.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Bounds")]
pub struct BoundsArgs {
    /// Memory limit of DuckDB; larger operations spill to --spill-dir.
    #[arg(long, env = "DUCKTIDE_MEMORY_LIMIT", value_name = "BYTES", default_value = "1GiB",
          value_parser = parse_bytes)]
    pub memory_limit: u64,

    /// Number of DuckDB threads.
    #[arg(long, env = "DUCKTIDE_THREADS", value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,

    /// Directory for spilled data. [default: the system's temporary directory]
    #[arg(long, env = "DUCKTIDE_SPILL_DIR", value_name = "DIR")]
    pub spill_dir: Option<PathBuf>,

    /// Share of the time in which the compactor works while consumers commit, from 0 to 1; it rests
    /// in the remaining time.
    #[arg(long, env = "DUCKTIDE_SHARE", value_name = "RATIO", default_value = "0.5",
          value_parser = parse_ratio)]
    pub share: f64,

    /// Maximum time for the current operation to finish after SIGTERM or Ctrl-C. After that it is
    /// abandoned without any change.
    #[arg(long, env = "DUCKTIDE_SHUTDOWN_TIMEOUT", value_name = "SECONDS", default_value = "20",
          value_parser = parse_duration)]
    pub shutdown_timeout: Duration,
}

/// Intervals of the operations.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Schedule")]
pub struct ScheduleArgs {
    /// Interval of merges for each tier, the smallest first; the last value applies to all further
    /// tiers and to cold partitions.
    #[arg(long, env = "DUCKTIDE_TIER_INTERVALS", value_name = "SECONDS,...",
          default_value = "1m,15m,6h", value_delimiter = ',', value_parser = parse_duration)]
    pub tier_intervals: Vec<Duration>,

    /// Interval of expiring snapshots and coalescing the ledger.
    #[arg(long, env = "DUCKTIDE_EXPIRE_INTERVAL", value_name = "SECONDS", default_value = "1h",
          value_parser = parse_duration)]
    pub expire_interval: Duration,

    /// Interval of removing files that no snapshot needs.
    #[arg(long, env = "DUCKTIDE_CLEANUP_INTERVAL", value_name = "SECONDS", default_value = "1h",
          value_parser = parse_duration)]
    pub cleanup_interval: Duration,

    /// Interval of removing files that are in no catalog.
    #[arg(long, env = "DUCKTIDE_ORPHANS_INTERVAL", value_name = "SECONDS", default_value = "24h",
          value_parser = parse_duration)]
    pub orphans_interval: Duration,
}

/// Validated settings.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) lake: LakeConfig,
    pub(crate) policy: MergePolicy,
    pub(crate) retention: RetentionArgs,
    pub(crate) resources: Resources,
    pub(crate) share: f64,
    pub(crate) shutdown_timeout: Duration,
}

/// Invalid setting.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum ConfigError {
    #[error("{}", .0.chain())]
    Lake(#[from] LakeError),
    #[error(
        "--tiers must be ascending and below --target-file-size: tiers=`{tiers}` target=`{target}`"
    )]
    Tiers { tiers: String, target: String },
    #[error(
        "{setting} is shorter than a day, which would remove files of readers and time travel; set 24h or \
         more: value=`{value}`"
    )]
    Retention { setting: &'static str, value: String },
    #[error(
        "{setting} is shorter than four times --max-transaction, which would remove data that an open \
         transaction needs; set at least {least}: value=`{value}`"
    )]
    Transaction { setting: &'static str, value: String, least: String },
    #[error("--memory-limit is too small for a merge; set at least 128MiB: value=`{0}`")]
    Memory(u64),
    #[error("--share must be above 0, otherwise the compactor never works: value=`{0}`")]
    Share(f64),
}

/// Smallest memory limit: a merge of a wide table needs about 100 MB for its row groups.
const MIN_MEMORY: u64 = 128 << 20;

impl TryFrom<PassArgs> for Config {
    type Error = ConfigError;

    fn try_from(args: PassArgs) -> Result<Self, ConfigError> {
        args.retention.check()?;
        let bounds = args.bounds;
        if bounds.memory_limit < MIN_MEMORY {
            return Err(ConfigError::Memory(bounds.memory_limit));
        }
        if bounds.share <= 0.0 {
            return Err(ConfigError::Share(bounds.share));
        }
        Ok(Self {
            lake: args.lake.resolve()?,
            policy: args.merging.policy()?,
            retention: args.retention,
            resources: Resources {
                memory: bounds.memory_limit,
                threads: bounds.threads,
                spill: bounds.spill_dir.unwrap_or_else(std::env::temp_dir),
            },
            share: bounds.share,
            shutdown_timeout: bounds.shutdown_timeout,
        })
    }
}

impl MergingArgs {
    fn policy(self) -> Result<MergePolicy, ConfigError> {
        let bounds = [self.tiers.as_slice(), &[self.target_file_size]].concat();
        if bounds[0] == 0 || !bounds.is_sorted_by(|smaller, larger| smaller < larger) {
            let tiers: Vec<_> = self.tiers.iter().map(|bytes| units::bytes(*bytes)).collect();
            return Err(ConfigError::Tiers {
                tiers: tiers.join(","),
                target: units::bytes(self.target_file_size),
            });
        }
        Ok(MergePolicy {
            target: self.target_file_size,
            tiers: self.tiers,
            cold_after: self.cold_after,
            operation_bytes: self.operation_bytes,
            operation_files: usize::try_from(self.operation_files).unwrap_or(usize::MAX),
        })
    }
}

impl RetentionArgs {
    /// Rejects a retention that would remove files that are still needed.
    fn check(&self) -> Result<(), ConfigError> {
        let settings = [
            ("--expire-older-than", self.expire_older_than),
            ("--delete-older-than", self.delete_older_than),
            ("--orphans-older-than", self.orphans_older_than),
        ];
        let least = self.max_transaction * TRANSACTIONS_IN_RETENTION;
        for (setting, value) in settings {
            let shown = units::duration(value);
            if value < MIN_RETENTION && !self.accept_retention_that_breaks_readers {
                return Err(ConfigError::Retention { setting, value: shown });
            }
            if value < least {
                let least = units::duration(least);
                return Err(ConfigError::Transaction { setting, value: shown, least });
            }
        }
        Ok(())
    }

    /// Returns the retention of snapshots.
    pub(crate) fn snapshot_retention(&self) -> Retention {
        let now = Timestamp::now();
        Retention {
            older_than: now - self.expire_older_than,
            max_snapshots: self.max_snapshots,
            never_younger_than: now - self.max_transaction * TRANSACTIONS_IN_RETENTION,
        }
    }

    /// Returns the rules for removing orphans.
    pub(crate) fn orphan_policy(&self) -> OrphanPolicy {
        OrphanPolicy {
            margin: self.orphans_older_than,
            max_share: self.max_orphans,
            accept_any_margin: self.accept_retention_that_breaks_readers,
            ..OrphanPolicy::default()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn default_policy() -> MergePolicy {
        parse(&[]).unwrap().policy
    }

    fn parse(flags: &[&str]) -> Result<Config, ConfigError> {
        let args = ["ducktide-compactor", "once"].iter().chain(flags);
        let Verb::Once(pass) = Args::try_parse_from(args).expect("the flags exist").verb else {
            unreachable!("the command is once");
        };
        Config::try_from(pass)
    }

    fn error_of(flags: &[&str]) -> String {
        parse(flags).unwrap_err().to_string()
    }

    #[test]
    fn the_command_definition_is_valid() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn a_retention_that_breaks_readers_is_rejected_with_the_reason() {
        let text = error_of(&["--expire-older-than", "1h"]);
        assert!(text.contains("--expire-older-than") && text.contains("24h"), "{text}");

        for setting in ["--delete-older-than", "--orphans-older-than"] {
            assert!(error_of(&[setting, "3600"]).contains(setting));
        }
    }

    #[test]
    fn the_override_still_keeps_data_of_open_transactions() {
        let short = ["--accept-retention-that-breaks-readers", "--max-transaction", "30"];
        let with = |retention| {
            let all = ["--expire-older-than", "--delete-older-than", "--orphans-older-than"];
            let flags: Vec<_> = all.iter().flat_map(|flag| [*flag, retention]).collect();
            parse(&[short.as_slice(), &flags].concat())
        };

        assert!(with("2m").is_ok());
        let text = with("119").unwrap_err().to_string();
        assert!(text.contains("--max-transaction") && text.contains("2m"), "{text}");
    }

    #[test]
    fn tiers_must_ascend_to_the_target() {
        assert!(error_of(&["--tiers", "8MiB,256KiB"]).contains("--tiers"));
        assert!(error_of(&["--target-file-size", "1MiB"]).contains("--target-file-size"));
    }
}
