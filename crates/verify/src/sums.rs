//! Comparison of the row counts of files with those of the ledger.
//!
//! It reads no file, and it is exact for tables that only Ducktide writes. With rows of other clients it is a
//! bound, and a deep verification finds the difference. Pure.

use std::collections::BTreeSet;

use ducktide_protocol::dead_letter::dead_letter_name;
use ducktide_protocol::position::SourceId;

use super::catalog_view::{CatalogView, SourceEntry, TableEntry};
use super::chain::dead_letter_rows;
use super::finding::{Finding, FindingKind, FindingPlace, Findings, Note, NoteKind};

/// Row counts of one table, from its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileSums {
    /// Number of rows that a reader of the newest snapshot sees.
    pub(super) live: i64,
    /// Maximum number of rows that other clients deleted. Ducktide itself never writes a delete file
    /// (invariant I11), and the files that its replays end are not counted.
    pub(super) deleted_by_others: i64,
}

/// Changes of a table by other clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OtherClients {
    pub(super) inserts: Vec<String>,
    pub(super) deletes: Vec<String>,
}

impl OtherClients {
    pub(super) fn of(view: &CatalogView, table_id: i64) -> Self {
        let name = |snapshot: i64, author: &str| match author {
            "" => format!("snapshot {snapshot}"),
            _ => format!("snapshot {snapshot} by {author}"),
        };
        let named = |touches: &dyn Fn(&super::catalog_view::ForeignChange) -> bool| {
            let touching = view.foreign.iter().filter(|change| touches(change));
            touching.map(|change| name(change.snapshot, &change.author)).collect()
        };
        Self {
            inserts: named(&|change| change.inserts_into(table_id)),
            deletes: named(&|change| change.deletes_from(table_id)),
        }
    }

    /// Returns the deletes by other clients as the end of a message; empty when there are none.
    pub(super) fn deleted(&self) -> String {
        match self.deletes.as_slice() {
            [] => String::new(),
            [only] => format!("; deleted from the table: {only}"),
            [first, .., last] => {
                format!("; deleted from the table: {} times, {first} to {last}", self.deletes.len())
            }
        }
    }
}

/// Sums up the files of a table.
pub(super) fn of_files(view: &CatalogView, table_id: i64) -> FileSums {
    let deletes = |change: &&super::catalog_view::ForeignChange| change.deletes_from(table_id);
    let snapshots = view.foreign.iter().filter(deletes).map(|change| change.snapshot);
    let deleting: BTreeSet<_> = snapshots.collect();
    let mut sums = FileSums::default();
    for file in view.files.iter().filter(|file| file.table_id == table_id) {
        match (file.ended, file.is_delete_file) {
            (None, false) => sums.live += file.records,
            (None, true) => {
                sums.live -= file.records;
                sums.deleted_by_others += file.records;
            }
            (Some(ended), false) if deleting.contains(&ended) => {
                sums.deleted_by_others += file.records;
            }
            (Some(_), _) => {}
        }
    }
    sums
}

/// Compares the rows of one table with the ledger.
pub(super) fn compare_rows(
    view: &CatalogView,
    name: &str,
    expected: i64,
    findings: &mut Findings,
    notes: &mut Vec<Note>,
) {
    let Some(TableEntry { id, .. }) = view.live_table(name) else {
        if expected > 0 {
            findings.add(table_is_gone(name, expected));
        }
        return;
    };
    let sums = of_files(view, *id);
    let hands = OtherClients::of(view, *id);
    let difference = sums.live - expected;
    if difference < 0 {
        let missing = missing_kind(-difference, &sums);
        let detail = format!("{}{}", says(expected, sums.live), hands.deleted());
        let count = difference.unsigned_abs();
        findings.add(Finding::new(missing, FindingPlace::table(name), count, detail));
    } else if difference > 0 {
        add_surplus(view, name, (expected, sums.live), &hands, findings, notes);
    }
}

fn says(ledger: i64, table: i64) -> String {
    format!("the ledger counts {ledger} rows, the table's files {table}")
}

fn table_is_gone(name: &str, expected: i64) -> Finding {
    let detail = format!("the ledger counts {expected} rows, and there is no such table");
    let count = expected.unsigned_abs();
    Finding::new(FindingKind::RowsMissing, FindingPlace::table(name), count, detail)
}

/// Returns the kind of finding for missing rows: whether deletes by other clients explain them.
pub(super) const fn missing_kind(missing: i64, sums: &FileSums) -> FindingKind {
    if missing <= sums.deleted_by_others {
        FindingKind::RowsDeleted
    } else {
        FindingKind::RowsMissing
    }
}

fn add_surplus(
    view: &CatalogView,
    name: &str,
    (expected, live): (i64, i64),
    hands: &OtherClients,
    findings: &mut Findings,
    notes: &mut Vec<Note>,
) {
    let count = (live - expected).unsigned_abs();
    if !hands.inserts.is_empty() {
        notes.push(Note { kind: NoteKind::RowsOfOthers, place: FindingPlace::table(name), count });
        return;
    }
    let (kind, who) = if view.knows_all_changes {
        (FindingKind::RowsDuplicated, "no other client ever wrote to it")
    } else {
        (FindingKind::RowsUndecided, "the snapshots that tell who wrote them may have expired")
    };
    let detail = format!("{}; {who}", says(expected, live));
    findings.add(Finding::new(kind, FindingPlace::table(name), count, detail));
}

/// Compares the dead-letter table of one table: it has a row for each open dead letter, and two for each
/// resolved one.
pub(super) fn compare_dead_letters(
    view: &CatalogView,
    name: &str,
    expected: i64,
    findings: &mut Findings,
) {
    let table = dead_letter_name(name);
    let found = view.live_table(&table).map_or(0, |table| of_files(view, table.id).live);
    if found != expected {
        let detail = format!(
            "the ledger's open and resolved dead letters make {expected} rows, the table's files hold \
             {found}"
        );
        let kind = FindingKind::DeadLettersDiffer;
        let count = found.abs_diff(expected);
        findings.add(Finding::new(kind, FindingPlace::table(&table), count, detail));
    }
}

/// Returns the rows and dead-letter rows that the ledger counts for the sources of one table.
pub(super) fn of_ledger<'a>(
    view: &CatalogView,
    sources: impl Iterator<Item = &'a SourceEntry>,
) -> (i64, i64) {
    let of_source = |id: SourceId| view.partitions(id).map(|(_, chain)| chain);
    let chains = sources.flat_map(|source| of_source(source.id));
    chains.fold((0, 0), |(rows, dead_letters), chain| {
        (rows + chain.totals().rows, dead_letters + dead_letter_rows(chain))
    })
}
