//! Findings about the ledger of one partition, row by row in the order of the commits. Pure.
//!
//! Invariant I3: each range starts where the one before it ended, a replay goes backwards, and the
//! sums over all ranges are the contents of the lake. A replay may end in the middle of a range; the
//! part that it takes back is counted in its own negative numbers, so the sums hold nevertheless.

use ducktide_lake::catalog::ledger::LedgerRow;
use ducktide_protocol::commit::CommitKind;
use ducktide_protocol::invariants::LedgerEntry;
use ducktide_protocol::ledger::{ChainBreak, LiveRange, LiveRanges, PartitionChain};

use super::finding::FindingKind;

/// Follows the next row of a partition, and returns the kind and detail of each error in it.
pub(super) fn follow(chain: &mut PartitionChain, row: &LedgerRow) -> Vec<(FindingKind, String)> {
    let wrong_counts = wrong_counts(row).map(|text| (FindingKind::LedgerCounts, text));
    let chain_break = chain.follow(&entry(row)).and_then(|found| describe_break(found, row));
    wrong_counts.into_iter().chain(chain_break).collect()
}

/// Returns the entry of a row. A kind that no Ducktide of this layout writes is followed like the most
/// frequent one; [`wrong_counts`] reports it.
fn entry(row: &LedgerRow) -> LedgerEntry {
    LedgerEntry { kind: row.kind.unwrap_or(CommitKind::Ingest), step: row.step }
}

/// Returns why the counts cannot be right. The table's constraints require the same, unless another
/// client dropped them.
fn wrong_counts(row: &LedgerRow) -> Option<String> {
    let (counted, length) = (row.step.counts.total(), row.step.range.len());
    if counted != length {
        return Some(format!("counts {counted} records in a range of {length}: {}", describe(row)));
    }
    let has_snapshot = row.snapshot.is_some() || !row.step.counts.needs_snapshot();
    let range = row.step.range;
    let fits = range.from.0 >= 0
        && range.to.0 >= 0
        && has_snapshot
        && row.kind.is_some()
        && entry(row).counts_fit();
    (!fits).then(|| format!("counts do not fit the kind of range: {}", describe(row)))
}

fn describe_break(found: ChainBreak, row: &LedgerRow) -> Option<(FindingKind, String)> {
    let resolves = row.kind.is_some_and(CommitKind::resolves_dead_letter);
    let (kind, text) = match found {
        // A row of an unknown kind may be the start; [`wrong_counts`] reports it.
        ChainBreak::NotStarted if row.kind.is_none() => return None,
        ChainBreak::NotStarted => {
            (FindingKind::LedgerNotStarted, "no start comes before this range".to_owned())
        }
        ChainBreak::Epoch(at) => (
            FindingKind::LedgerEpoch,
            format!("the partition was in epoch {} at offset {}", at.epoch, at.next_offset),
        ),
        ChainBreak::Overlap(at) if resolves => (
            FindingKind::LedgerOverlap,
            format!("a dead letter beyond offset {} is resolved", at.next_offset),
        ),
        ChainBreak::Overlap(at) => (
            FindingKind::LedgerOverlap,
            format!("the range before it ended at offset {}", at.next_offset),
        ),
        ChainBreak::Gap(at) => {
            let (gap, next) = (row.step.range.from.0 - at.next_offset.0, at.next_offset);
            (FindingKind::LedgerGap, format!("{gap} offsets from {next} on are in no range"))
        }
    };
    Some((kind, format!("{text}: {}", describe(row))))
}

fn describe(row: &LedgerRow) -> String {
    let kind = row.kind.map_or("unknown kind", CommitKind::as_str);
    let (id, epoch, range) = (row.ledger_id, row.step.epoch, row.step.range);
    format!("ledger_id {id}, {kind} {}..{} in epoch {epoch}", range.from, range.to)
}

/// Returns the number of rows of the dead-letter table for a partition: one for each open dead letter,
/// two for each resolved one.
pub(super) fn dead_letter_rows(chain: &PartitionChain) -> i64 {
    let resolved = i64::try_from(chain.resolved().len()).unwrap_or(i64::MAX / 4);
    chain.totals().dead + 2 * resolved
}

/// Returns the ranges of a partition that no replay took back.
pub(super) fn live_ranges(rows: &[LedgerRow]) -> LiveRanges {
    LiveRanges::of(rows.iter().map(entry))
}

/// Returns the number of rows that a range has at least.
pub(super) fn least_rows(live: &LiveRange) -> i64 {
    let others = live.committed.total() - live.committed.rows;
    if live.is_cut { (live.range.len() - others).max(0) } else { live.committed.rows }
}

/// Returns the number of records that are not rows and for which the ledger has a reason, at most: all
/// but gaps, which say that Kafka has no record.
pub(super) const fn accounted(live: &LiveRange) -> i64 {
    let counts = live.committed;
    counts.dead + counts.duplicates + counts.tombstones + counts.given_up
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
