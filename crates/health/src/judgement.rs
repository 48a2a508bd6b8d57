//! Judgement of a lake's health, in one line. Pure.

use std::time::Duration;

use ducktide_lake::catalog::pin::HoldReason;
use ducktide_maintenance::Operation;
use ducktide_service::units;
use jiff::Timestamp;
use serde::Serialize;

use super::table_health::share;
use super::{LakeHealth, TableHealth};

/// Judgement of a lake's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LakeJudgement {
    /// State in one word.
    pub state: LakeState,
    /// State in one line, with the remedy.
    pub text: String,
}

/// State of a lake; of several, the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LakeState {
    /// No action required.
    Healthy,
    /// Small files wait to be merged.
    CompactionBehind,
    /// Many files have delete files, which merges leave unchanged.
    ManyDeletes,
    /// Files that no snapshot needs are not removed.
    RemovalBehind,
    /// Old snapshots are not expired.
    ExpiryBehind,
    /// Old snapshots are kept by a pin or a replay.
    SnapshotsKept,
}

impl LakeState {
    /// All states, for metrics.
    pub const ALL: [Self; 6] = [
        Self::Healthy,
        Self::CompactionBehind,
        Self::ManyDeletes,
        Self::RemovalBehind,
        Self::ExpiryBehind,
        Self::SnapshotsKept,
    ];

    /// Returns the name in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::CompactionBehind => "compaction_behind",
            Self::ManyDeletes => "many_deletes",
            Self::RemovalBehind => "removal_behind",
            Self::ExpiryBehind => "expiry_behind",
            Self::SnapshotsKept => "snapshots_kept",
        }
    }
}

/// Limits below which a lake counts as healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// Number of mergeable files of a table that is too large at any age: a thousand commits, a quarter of
    /// an hour at full speed, are more than a compactor leaves unmerged.
    pub mergeable: u64,
    /// Additional mergeable files for each group of files that can be merged: a tier is merged when it has
    /// eight files.
    pub mergeable_per_group: u64,
    /// Number of mergeable files that is too large if nothing was merged for [`stale`](Self::stale), and
    /// minimum number of files or snapshots for the other states.
    pub few: u64,
    /// Maximum delay of maintenance, in addition to the time in the lake's options.
    pub late: Duration,
    /// Maximum time without a merge for a table with a few small files: cold partitions are merged after
    /// a day.
    pub stale: Duration,
    /// Maximum age of the last maintenance of a running compactor.
    pub running: Duration,
    /// Default of the lake's `expire_older_than`.
    pub retention: Duration,
    /// Default of the lake's `delete_older_than`.
    pub removal_delay: Duration,
}

impl Default for Tolerance {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Self {
            mergeable: 1000,
            mergeable_per_group: 8,
            few: 100,
            late: day,
            stale: 2 * day,
            running: Duration::from_hours(2),
            retention: 7 * day,
            removal_delay: 2 * day,
        }
    }
}

/// Judges a lake's health as of `now`.
///
/// | state | when |
/// |---|---|
/// | compaction behind | a table has many mergeable files, or a few and nothing was merged for days |
/// | many deletes | a fifth of a table's files have delete files, and they are not few |
/// | removal behind | files await removal for a day longer than they should |
/// | expiry behind | snapshots are a day older than they should get, and not few |
/// | snapshots kept | the same, but a pin or a replay keeps them |
///
/// A small and new lake is healthy without a compactor.
#[must_use]
pub fn judge(health: &LakeHealth, now: Timestamp, tolerance: &Tolerance) -> LakeJudgement {
    let judge = Judge { health, now, tolerance };
    let findings = [
        judge.compaction().map(|text| (LakeState::CompactionBehind, text)),
        judge.deletes().map(|text| (LakeState::ManyDeletes, text)),
        judge.removal().map(|text| (LakeState::RemovalBehind, text)),
        judge.expiry(),
    ];
    let mut findings = findings.into_iter().flatten();
    let Some((state, text)) = findings.next() else {
        return LakeJudgement { state: LakeState::Healthy, text: "healthy".to_owned() };
    };
    let text = match findings.count() {
        0 => text,
        more => format!("{text} (and {more} more)"),
    };
    LakeJudgement { state, text }
}

struct Judge<'a> {
    health: &'a LakeHealth,
    now: Timestamp,
    tolerance: &'a Tolerance,
}

impl Judge<'_> {
    /// Returns the text for the table with most mergeable files.
    fn compaction(&self) -> Option<String> {
        let behind = self.health.tables.iter().filter(|table| self.is_behind(table));
        let worst = behind.max_by_key(|table| table.mergeable)?;
        Some(format!(
            "compaction behind: {} in {}, {} of its files; {}",
            units::count(worst.mergeable, "small file"),
            worst.table,
            percent(share(worst.mergeable, worst.live.files)),
            self.last(Operation::MergeAdjacentFiles, "merge")
        ))
    }

    fn is_behind(&self, table: &TableHealth) -> bool {
        let Tolerance { mergeable, mergeable_per_group, few, stale, .. } = *self.tolerance;
        let merged = self.health.last(Operation::MergeAdjacentFiles).map(|last| last.at);
        // A lake without any merge is as old as its oldest snapshot.
        let since = self.age(merged.unwrap_or(self.health.snapshots.oldest_at));
        let many = mergeable.max(mergeable_per_group * table.merge_groups);
        table.mergeable >= many || table.mergeable >= few && since > stale
    }

    fn deletes(&self) -> Option<String> {
        let is_many = |table: &&TableHealth| {
            let part = share(table.with_deletes, table.live.files);
            table.with_deletes >= self.tolerance.few && part >= 0.2
        };
        let worst = self.health.tables.iter().filter(is_many).max_by_key(|of| of.with_deletes)?;
        Some(format!(
            "{} of {}, {} of all, have delete files, and merges leave those alone; rewrite them with \
             ducklake_rewrite_data_files, which shows in the change feed",
            units::count(worst.with_deletes, "file"),
            worst.table,
            percent(share(worst.with_deletes, worst.live.files)),
        ))
    }

    fn removal(&self) -> Option<String> {
        let waiting = self.health.awaiting_removal;
        let age = self.age(waiting.since?);
        let wanted = waiting.delay.unwrap_or(self.tolerance.removal_delay);
        (age > wanted + self.tolerance.late).then(|| {
            format!(
                "{} await removal, the first for {} instead of {}; {}",
                units::count(waiting.files, "file"),
                units::duration(age),
                units::duration(wanted),
                self.last(Operation::CleanupOldFiles, "cleanup")
            )
        })
    }

    fn expiry(&self) -> Option<(LakeState, String)> {
        let snapshots = &self.health.snapshots;
        let age = self.age(snapshots.oldest_at);
        let wanted = snapshots.retention.unwrap_or(self.tolerance.retention);
        if snapshots.count < self.tolerance.few || age <= wanted + self.tolerance.late {
            return None;
        }
        let (age, wanted) = (units::duration(age), units::duration(wanted));
        let kept = format!("snapshots of {age} are kept instead of {wanted}");
        // Expiry stops at a hold; older snapshots would have expired.
        let keeper = snapshots.kept_by.as_ref().filter(|keeper| keeper.from <= snapshots.oldest);
        if let Some(keeper) = keeper {
            return Some((LakeState::SnapshotsKept, format!("{kept}: {}", why(&keeper.by))));
        }
        let last = self.last(Operation::ExpireSnapshots, "expiry");
        Some((LakeState::ExpiryBehind, format!("{kept}; {last}")))
    }

    /// Returns the age of an operation's last run, with a question if that is long ago.
    fn last(&self, kind: Operation, noun: &str) -> String {
        let age = self.health.last(kind).map(|last| self.age(last.at));
        let when = match age {
            Some(age) => format!("last {noun} {} ago", units::duration(age)),
            None => format!("no {noun} so far"),
        };
        if age.is_some_and(|age| age <= self.tolerance.running) {
            return when;
        }
        format!("{when}; is ducktide-compactor running?")
    }

    /// Returns the age of a time; never negative, as the catalog's clock can be ahead of this machine's.
    fn age(&self, at: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(at)).unwrap_or_default()
    }
}

fn why(by: &HoldReason) -> String {
    match by {
        HoldReason::Pin(name) => format!("by pin `{name}`"),
        HoldReason::AnnouncedReplay(table) => format!("for a replay of {table} that is announced"),
        HoldReason::UnfinishedReplay(table) => {
            format!("for a replay of {table} whose rows are not all back; do its consumers run?")
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;
