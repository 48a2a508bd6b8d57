//! What the compactor is told, by flags and environment: [`Args`] is what was typed, [`Config`] what
//! is meant.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use ducktide_lake::config::{LakeArgs, LakeConfig};
use ducktide_lake::maintenance::{OrphanPolicy, Retention};
use ducktide_lake::units::{self, parse_bytes, parse_duration, parse_ratio};
use ducktide_lake::{LakeError, Resources};
use jiff::Timestamp;
use thiserror::Error;

use crate::planner::Policy;

const EXAMPLES: &str = "\
Examples:
  # look after a lake for ever; a second one stands by
  ducktide-compactor run --catalog postgres://lake@db/lake

  # one pass, for cron
  ducktide-compactor once

  # what would it do now, and why?
  ducktide-compactor plan

Exit codes:
  0  stopped as asked; once: everything that was due is done
  1  failed; nothing is half done, the next run goes on
  2  the command line or a setting is wrong, or would be unsafe
  3  the lake cannot be reached for the time being; once: another compactor leads, or not everything could be done
  4  the lake cannot be used: there is none, or it needs a newer Ducktide
  6  --shutdown-timeout was over before the current operation ended; it is given up, whole";

/// The shortest retention that is not refused: readers and time travel need it.
const LEAST_RETENTION: Duration = Duration::from_hours(24);

/// Retention is this many times the longest transaction at least: expiring what an open transaction
/// began with takes the history away that DuckLake looks for conflicts in.
const TRANSACTIONS_IN_RETENTION: u32 = 4;

/// Keeps a Ducktide lake small and fast: merges small files, expires snapshots, removes dead files.
///
/// One compactor works on a lake, others stand by and take over when it dies. It never harms a running
/// consumer or reader: files are exchanged in one short transaction, and removed days later.
#[derive(Clone, Debug, Parser)]
#[command(name = "ducktide-compactor", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What the compactor can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Looks after the lake until it is stopped.
    Run(RunArgs),
    /// Does everything that is due, once, and exits.
    Once(PassArgs),
    /// Shows what would be done now and why, and changes nothing.
    Plan(PlanArgs),
}

/// A worker that stays.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// What every verb takes.
    #[command(flatten)]
    pub pass: PassArgs,
    /// When things are done.
    #[command(flatten)]
    pub schedule: ScheduleArgs,

    /// Where /metrics, /healthz and /readyz are served; port 0 takes a free one, which is logged.
    #[arg(
        long,
        env = "DUCKTIDE_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:0",
        help_heading = "Process"
    )]
    pub listen: SocketAddr,
}

/// One pass.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PassArgs {
    /// Which lake.
    #[command(flatten)]
    pub lake: LakeArgs,
    /// What is merged.
    #[command(flatten)]
    pub merging: MergingArgs,
    /// What is kept.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// What it may use.
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

/// A look.
#[derive(ClapArgs, Clone, Debug)]
#[command(after_help = PLAN_JSON)]
pub struct PlanArgs {
    /// What would be done.
    #[command(flatten)]
    pub pass: PassArgs,

    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which files are merged into which sizes.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Merging")]
pub struct MergingArgs {
    /// The size that files grow to. Larger ones make full scans faster, and merges longer.
    #[arg(long, env = "DUCKTIDE_TARGET_FILE_SIZE", value_name = "BYTES", default_value = "256MiB",
          value_parser = parse_bytes)]
    pub target_file_size: u64,

    /// The upper bounds of the size tiers below the target, ascending. A tier's files are merged when
    /// they leave it together; each tier more means fewer files that wait, and each byte written once
    /// more.
    #[arg(long, env = "DUCKTIDE_TIERS", value_name = "BYTES,...", default_value = "256KiB,8MiB",
          value_delimiter = ',', value_parser = parse_bytes)]
    pub tiers: Vec<u64>,

    /// A partition without new files for so long is merged as far as it pays.
    #[arg(long, env = "DUCKTIDE_COLD_AFTER", value_name = "SECONDS", default_value = "24h",
          value_parser = parse_duration)]
    pub cold_after: Duration,

    /// What one operation reads at most.
    #[arg(long, env = "DUCKTIDE_OPERATION_BYTES", value_name = "BYTES", default_value = "512MiB",
          value_parser = parse_bytes)]
    pub operation_bytes: u64,

    /// How many files one operation reads at most.
    #[arg(long, env = "DUCKTIDE_OPERATION_FILES", value_name = "N", default_value = "2000",
          value_parser = clap::value_parser!(u32).range(2..))]
    pub operation_files: u32,
}

/// What stays readable, and for how long.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Retention")]
pub struct RetentionArgs {
    /// Snapshots older than this are expired: nobody can travel there any more. Pinned ones are kept,
    /// and all that are newer (see `ducktide snapshots pin`).
    #[arg(long, env = "DUCKTIDE_EXPIRE_OLDER_THAN", value_name = "SECONDS", default_value = "7d",
          value_parser = parse_duration)]
    pub expire_older_than: Duration,

    /// More snapshots than these are expired even if they are younger, the oldest first.
    #[arg(long, env = "DUCKTIDE_MAX_SNAPSHOTS", value_name = "N")]
    pub max_snapshots: Option<u64>,

    /// Files that no snapshot needs are removed so long after they were given up. Readers must end
    /// within that time.
    #[arg(long, env = "DUCKTIDE_DELETE_OLDER_THAN", value_name = "SECONDS", default_value = "48h",
          value_parser = parse_duration)]
    pub delete_older_than: Duration,

    /// Files that no catalog knows are removed when they are older than this; what a worker is about
    /// to commit is among them.
    #[arg(long, env = "DUCKTIDE_ORPHANS_OLDER_THAN", value_name = "SECONDS", default_value = "7d",
          value_parser = parse_duration)]
    pub orphans_older_than: Duration,

    /// More orphans than this part of the live files look like a mistake, and are not removed.
    #[arg(long, env = "DUCKTIDE_MAX_ORPHANS", value_name = "RATIO", default_value = "0.05",
          value_parser = parse_ratio)]
    pub max_orphans: f64,

    /// The longest transaction of anybody: of a merge, a replay, a reader. Retention is four times as
    /// long at least.
    #[arg(long, env = "DUCKTIDE_MAX_TRANSACTION", value_name = "SECONDS", default_value = "1h",
          value_parser = parse_duration)]
    pub max_transaction: Duration,

    /// Accepts a retention of less than a day. For tests: readers, time travel and the files of slow
    /// workers are lost with it.
    #[arg(long, env = "DUCKTIDE_ACCEPT_RETENTION_THAT_BREAKS_READERS", hide_short_help = true)]
    pub accept_retention_that_breaks_readers: bool,
}

/// What the process may use.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Bounds")]
pub struct BoundsArgs {
    /// Memory of DuckDB; what does not fit is spilled to --spill-dir.
    #[arg(long, env = "DUCKTIDE_MEMORY_LIMIT", value_name = "BYTES", default_value = "1GiB",
          value_parser = parse_bytes)]
    pub memory_limit: u64,

    /// Threads of DuckDB.
    #[arg(long, env = "DUCKTIDE_THREADS", value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,

    /// Where what does not fit into memory is spilled. [default: the system's temporary directory]
    #[arg(long, env = "DUCKTIDE_SPILL_DIR", value_name = "DIR")]
    pub spill_dir: Option<PathBuf>,

    /// The part of its time in which it works while consumers commit; the rest it leaves to them.
    #[arg(long, env = "DUCKTIDE_SHARE", value_name = "RATIO", default_value = "0.5",
          value_parser = parse_ratio)]
    pub share: f64,

    /// After SIGTERM or Ctrl-C: how long the current operation may take to end. Afterwards it is given
    /// up; nothing is half done.
    #[arg(long, env = "DUCKTIDE_SHUTDOWN_TIMEOUT", value_name = "SECONDS", default_value = "20",
          value_parser = parse_duration)]
    pub shutdown_timeout: Duration,
}

/// How often things are done.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Schedule")]
pub struct ScheduleArgs {
    /// How often each tier is looked at, the smallest first; the last value counts for all further
    /// tiers and for cold partitions.
    #[arg(long, env = "DUCKTIDE_TIER_INTERVALS", value_name = "SECONDS,...",
          default_value = "1m,15m,6h", value_delimiter = ',', value_parser = parse_duration)]
    pub tier_intervals: Vec<Duration>,

    /// How often snapshots are expired and the ledger is coalesced.
    #[arg(long, env = "DUCKTIDE_EXPIRE_INTERVAL", value_name = "SECONDS", default_value = "1h",
          value_parser = parse_duration)]
    pub expire_interval: Duration,

    /// How often files that no snapshot needs are removed.
    #[arg(long, env = "DUCKTIDE_CLEANUP_INTERVAL", value_name = "SECONDS", default_value = "1h",
          value_parser = parse_duration)]
    pub cleanup_interval: Duration,

    /// How often files that no catalog knows are removed.
    #[arg(long, env = "DUCKTIDE_ORPHANS_INTERVAL", value_name = "SECONDS", default_value = "24h",
          value_parser = parse_duration)]
    pub orphans_interval: Duration,
}

/// What the compactor does, checked once.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) lake: LakeConfig,
    pub(crate) policy: Policy,
    pub(crate) retention: RetentionArgs,
    pub(crate) resources: Resources,
    pub(crate) share: f64,
    pub(crate) shutdown_timeout: Duration,
}

/// A setting that cannot be followed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the variants are")]
pub enum ConfigError {
    #[error("{}", .0.chain())]
    Lake(#[from] LakeError),
    #[error(
        "--tiers must ascend and stay below --target-file-size: tiers=`{tiers}` target=`{target}`"
    )]
    Tiers { tiers: String, target: String },
    #[error(
        "{setting} is shorter than a day: readers and time travel would lose their files; give 24h or \
         more: value=`{value}`"
    )]
    Retention { setting: &'static str, value: String },
    #[error(
        "{setting} is shorter than four times --max-transaction: what an open transaction needs would \
         be removed; give at least {least}: value=`{value}`"
    )]
    Transaction { setting: &'static str, value: String, least: String },
    #[error("--memory-limit is too small for a merge, give at least 128MiB: value=`{0}`")]
    Memory(u64),
    #[error("--share must be above 0: nothing would ever be done: value=`{0}`")]
    Share(f64),
}

/// A merge of a wide table needs some 100 MB for its row groups.
const LEAST_MEMORY: u64 = 128 << 20;

impl TryFrom<PassArgs> for Config {
    type Error = ConfigError;

    fn try_from(args: PassArgs) -> Result<Self, ConfigError> {
        args.retention.check()?;
        let bounds = args.bounds;
        if bounds.memory_limit < LEAST_MEMORY {
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
    fn policy(self) -> Result<Policy, ConfigError> {
        let bounds = [self.tiers.as_slice(), &[self.target_file_size]].concat();
        if bounds[0] == 0 || !bounds.is_sorted_by(|smaller, larger| smaller < larger) {
            let tiers: Vec<_> = self.tiers.iter().map(|bytes| units::bytes(*bytes)).collect();
            return Err(ConfigError::Tiers {
                tiers: tiers.join(","),
                target: units::bytes(self.target_file_size),
            });
        }
        Ok(Policy {
            target: self.target_file_size,
            tiers: self.tiers,
            cold_after: self.cold_after,
            operation_bytes: self.operation_bytes,
            operation_files: usize::try_from(self.operation_files).unwrap_or(usize::MAX),
        })
    }
}

impl RetentionArgs {
    /// Refuses what would take away what somebody needs.
    fn check(&self) -> Result<(), ConfigError> {
        let settings = [
            ("--expire-older-than", self.expire_older_than),
            ("--delete-older-than", self.delete_older_than),
            ("--orphans-older-than", self.orphans_older_than),
        ];
        let least = self.max_transaction * TRANSACTIONS_IN_RETENTION;
        for (setting, value) in settings {
            let shown = units::duration(value);
            if value < LEAST_RETENTION && !self.accept_retention_that_breaks_readers {
                return Err(ConfigError::Retention { setting, value: shown });
            }
            if value < least {
                let least = units::duration(least);
                return Err(ConfigError::Transaction { setting, value: shown, least });
            }
        }
        Ok(())
    }

    /// Which snapshots expire now.
    pub(crate) fn of_snapshots(&self) -> Retention {
        let now = Timestamp::now();
        Retention {
            older_than: now - self.expire_older_than,
            max_snapshots: self.max_snapshots,
            never_younger_than: now - self.max_transaction * TRANSACTIONS_IN_RETENTION,
        }
    }

    /// Which orphans may go.
    pub(crate) fn of_orphans(&self) -> OrphanPolicy {
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

    pub(crate) fn default_policy() -> Policy {
        parse(&[]).unwrap().policy
    }

    fn parse(flags: &[&str]) -> Result<Config, ConfigError> {
        let args = ["ducktide-compactor", "once"].iter().chain(flags);
        let Verb::Once(pass) = Args::try_parse_from(args).expect("the flags exist").verb else {
            unreachable!("asked for once");
        };
        Config::try_from(pass)
    }

    fn refused(flags: &[&str]) -> String {
        parse(flags).unwrap_err().to_string()
    }

    #[test]
    fn the_flags_are_declared_without_contradiction() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
    }

    #[test]
    fn a_retention_that_breaks_readers_is_refused_with_the_reason() {
        let text = refused(&["--expire-older-than", "1h"]);
        assert!(text.contains("--expire-older-than") && text.contains("24h"), "{text}");

        for setting in ["--delete-older-than", "--orphans-older-than"] {
            assert!(refused(&[setting, "3600"]).contains(setting));
        }
    }

    #[test]
    fn even_the_override_keeps_what_open_transactions_need() {
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
    fn tiers_ascend_to_the_target() {
        assert!(refused(&["--tiers", "8MiB,256KiB"]).contains("--tiers"));
        assert!(refused(&["--target-file-size", "1MiB"]).contains("--target-file-size"));
    }
}
