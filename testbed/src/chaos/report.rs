//! Report of a run, as a table.

use std::{collections::BTreeMap, fmt, fs, path::Path, time::Duration};

use serde_json::Value;

use super::{
    environment::{Environment, lock},
    options::Options,
};
use crate::{catalog::CatalogKind, oracle::Comparison, pipeline::Protocol};

/// Report of a finished run.
#[derive(Debug)]
pub struct ChaosReport {
    options: Options,
    protocol: Protocol,
    faults: Vec<FaultLine>,
    kills: u64,
    members_fenced: u64,
    starts: u64,
    compactor_kills: u64,
    compactor_starts: u64,
    /// Sorted.
    takeovers: Vec<Duration>,
    temporary_leftovers: usize,
    audits: u64,
    history_checks: u64,
    log: LogCounts,
    comparison: Comparison,
    verified: String,
    violations: Vec<String>,
}

#[derive(Debug)]
struct FaultLine {
    name: &'static str,
    injected: u64,
    skipped: u64,
    /// Sorted.
    recoveries: Vec<Duration>,
}

/// Counts of log lines of consumers and compactors.
#[derive(Debug, Default)]
struct LogCounts {
    commits: u64,
    rows: u64,
    fenced: u64,
    abandoned: u64,
    responses_lost: u64,
    retries: u64,
    files_unusable: u64,
    merges: u64,
    files_merged: u64,
    snapshots_expired: u64,
    ranges_coalesced: u64,
    files_cleaned_up: u64,
    orphans_removed: u64,
    /// Lines of level ERROR, by message.
    errors: BTreeMap<String, u64>,
}

impl ChaosReport {
    pub(super) fn new(
        options: &Options,
        environment: &Environment,
        comparison: Comparison,
        verified: String,
    ) -> Self {
        let stats = environment.stats();
        let mut times = lock(&environment.recoveries).times();
        let names = stats.injected.keys().chain(stats.skipped.keys()).copied();
        let names: std::collections::BTreeSet<_> = names.collect();
        let faults = names.into_iter().map(|name| FaultLine {
            name,
            injected: stats.injected.get(name).copied().unwrap_or(0),
            skipped: stats.skipped.get(name).copied().unwrap_or(0),
            recoveries: times.remove(name).unwrap_or_default(),
        });
        Self {
            options: *options,
            protocol: environment.pipeline.protocol,
            faults: faults.collect(),
            kills: stats.kills,
            members_fenced: stats.members_fenced,
            starts: environment.slots.iter().map(|slot| lock(slot).starts).sum(),
            compactor_kills: stats.compactor_kills,
            compactor_starts: lock(&environment.compactor).starts,
            takeovers: sorted(&stats.takeovers),
            temporary_leftovers: stats.temporary_leftovers,
            audits: stats.audits,
            history_checks: stats.history_checks,
            log: LogCounts::of(environment.pipeline.logs()),
            comparison,
            verified,
            violations: stats.violations.clone(),
        }
    }

    /// Returns true if the lake holds exactly the acknowledged records, and there was no violation.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.comparison.is_exact() && self.violations.is_empty()
    }

    /// Returns the number of killed consumers.
    #[must_use]
    pub const fn kills(&self) -> u64 {
        self.kills
    }

    /// Returns the number of killed compactors.
    #[must_use]
    pub const fn compactor_kills(&self) -> u64 {
        self.compactor_kills
    }

    /// Returns the number of merges that a compactor logged.
    #[must_use]
    pub const fn merges(&self) -> u64 {
        self.log.merges
    }
}

impl LogCounts {
    fn of(folder: &Path) -> Self {
        let mut counts = Self::default();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            if is_log && path.file_stem().is_some_and(|name| name != "producer") {
                let text = fs::read(path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
                lines.for_each(|line: Value| counts.add(&line));
            }
        }
        counts
    }

    fn add(&mut self, line: &Value) {
        let message = line["message"].as_str().unwrap_or_default();
        match message {
            "batch committed" => {
                self.commits += 1;
                self.rows += line["rows"].as_u64().unwrap_or(0);
            }
            "batch dropped, reading it again" => match line["reason"].as_str() {
                Some("fenced") => self.fenced += 1,
                Some("abandoned") => self.abandoned += 1,
                _ => self.files_unusable += 1,
            },
            "the commit was applied, only its answer was lost" => self.responses_lost += 1,
            "lake unavailable, retrying" if line["operation"] == "commit" => self.retries += 1,
            _ => self.add_of_compactor(message, line),
        }
        if line["level"] == "ERROR" {
            *self.errors.entry(message.to_owned()).or_default() += 1;
        }
    }

    fn add_of_compactor(&mut self, message: &str, line: &Value) {
        let number = |field: &str| line[field].as_u64().unwrap_or(0);
        match message {
            "files merged" => {
                self.merges += 1;
                self.files_merged += number("files_read");
            }
            "expire_snapshots: done" => self.snapshots_expired += number("count"),
            "coalesce_ledger: done" => self.ranges_coalesced += number("count"),
            "cleanup_old_files: done" => self.files_cleaned_up += number("count"),
            "remove_orphans: done" => self.orphans_removed += number("count"),
            _ => {}
        }
    }
}

fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

pub(super) const fn storage(options: &Options) -> &'static str {
    if options.in_object_storage { "s3" } else { "local" }
}

pub(super) const fn name(catalog: CatalogKind) -> &'static str {
    match catalog {
        CatalogKind::Sqlite => "sqlite",
        CatalogKind::Postgres => "postgres",
    }
}

impl ChaosReport {
    fn counts(&self) -> Vec<(&'static str, u64)> {
        let log = &self.log;
        vec![
            ("consumers killed", self.kills),
            ("static members fenced by a duplicate", self.members_fenced),
            ("consumers started", self.starts),
            ("commits", log.commits),
            ("commits fenced", log.fenced),
            ("commits whose response was lost", log.responses_lost),
            ("commits retried", log.retries),
            ("batches abandoned at a revocation", log.abandoned),
            ("batches with unusable files", log.files_unusable),
            ("compactors killed", self.compactor_kills),
            ("compactors started", self.compactor_starts),
            ("merges", log.merges),
            ("files merged", log.files_merged),
            ("snapshots expired", log.snapshots_expired),
            ("ranges of the ledger coalesced", log.ranges_coalesced),
            ("old files removed", log.files_cleaned_up),
            ("orphans removed", log.orphans_removed),
            ("temporary folders left by killed merges", self.temporary_leftovers as u64),
            ("audits of the running lake", self.audits),
            ("checks of old snapshots and changes", self.history_checks),
        ]
    }
}

impl fmt::Display for ChaosReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { seed, length, catalog, consumers, rate, .. } = self.options;
        writeln!(
            f,
            "seed {seed}, {} min, {}, {}, {consumers} consumers, {:?} protocol, {rate} events/s\n",
            length.as_secs_f64() / 60.0,
            name(catalog),
            storage(&self.options),
            self.protocol,
        )?;
        writeln!(
            f,
            "{:<44} {:>8} {:>8} {:>22}",
            "fault", "injected", "skipped", "recovery p50 / max"
        )?;
        for line in &self.faults {
            let FaultLine { name, injected, skipped, .. } = line;
            writeln!(f, "{name:<44} {injected:>8} {skipped:>8} {:>22}", line.recovery())?;
        }
        writeln!(f)?;
        for (what, count) in self.counts() {
            writeln!(f, "{what:<44} {count:>8}")?;
        }
        if let Some(longest) = self.takeovers.last() {
            let longest = format!("{:.1} s", longest.as_secs_f64());
            writeln!(f, "{:<44} {longest:>8}", "longest takeover by another compactor")?;
        }
        for (message, count) in &self.log.errors {
            writeln!(f, "logged as an error, {count} times: {message}")?;
        }
        writeln!(f, "\n{}", self.comparison)?;
        writeln!(f, "verify: {}", self.verified)?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        f.write_str(if self.is_exact() { "exact" } else { "NOT EXACT" })
    }
}

impl FaultLine {
    fn recovery(&self) -> String {
        let Some(last) = self.recoveries.last() else { return "-".to_owned() };
        let median = self.recoveries[self.recoveries.len() / 2];
        format!("{:.1} s / {:.1} s", median.as_secs_f64(), last.as_secs_f64())
    }
}
