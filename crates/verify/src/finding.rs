//! Findings of a verification; `ducktide` formats them for operators.

use std::collections::BTreeMap;

/// Maximum number of findings of one kind that are kept with their details; the others are counted. A lake
/// whose disk is lost has as many as it has files.
const DETAILED: usize = 20;

/// Maximum number of offsets that a finding names.
pub(super) const EXAMPLES: usize = 10;

/// Kinds of errors, the worst first. The order decides which one determines the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// The ledger counts rows that the table does not have.
    RowsMissing,
    /// A record is in the table more than once.
    RowsDuplicated,
    /// The table has rows of offsets that the ledger does not count as rows.
    RowsUnexpected,
    /// The dead-letter table does not have the dead letters that the ledger counts.
    DeadLettersDiffer,
    /// A registered data file is missing.
    DataFileMissing,
    /// A data file has another size than was registered.
    DataFileTruncated,
    /// A delete file is missing or has another size: every read of its table fails.
    DeleteFileMissing,
    /// One data file is registered more than once.
    FileRegisteredTwice,
    /// A registered file is also scheduled for deletion.
    FileToBeDeleted,
    /// The table cannot be read although its files exist.
    TableUnreadable,
    /// A range of the ledger starts beyond the end of the one before it.
    LedgerGap,
    /// A range of the ledger starts before the end of the one before it, and is not a replay.
    LedgerOverlap,
    /// A range of the ledger has another epoch than its partition had.
    LedgerEpoch,
    /// The counts of a range do not add up to its length, or do not fit its kind.
    LedgerCounts,
    /// The ledger of a partition does not begin with its start.
    LedgerNotStarted,
    /// Progress is not at the end of the ledger.
    ProgressDiffers,
    /// A trigger is missing, disabled, or on another table.
    TriggerMissing,
    /// The table has more rows than the ledger counts; their origin needs a deep verification.
    RowsUndecided,
    /// Another client deleted rows.
    RowsDeleted,
    /// The table has rows of records that Kafka did not acknowledge to the producer.
    RowsUnacknowledged,
}

/// Table, partition or file that a finding is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindingPlace {
    /// Table with its schema.
    pub table: Option<String>,
    /// Kafka topic.
    pub topic: Option<String>,
    /// Kafka partition.
    pub partition: Option<i32>,
    /// Path of the file.
    pub path: Option<String>,
}

/// An error of the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Kind of the error.
    pub kind: FindingKind,
    /// Table, partition or file.
    pub place: FindingPlace,
    /// Number of affected rows, files or ranges.
    pub count: u64,
    /// The numbers that disagree, as text.
    pub detail: String,
    /// Some of the affected offsets, where they are known.
    pub offsets: Vec<i64>,
}

impl Finding {
    pub(super) fn new(kind: FindingKind, place: FindingPlace, count: u64, detail: String) -> Self {
        Self { kind, place, count, detail, offsets: Vec::new() }
    }

    pub(super) fn at_offsets(self, offsets: Vec<i64>) -> Self {
        Self { offsets, ..self }
    }
}

impl FindingPlace {
    pub(super) fn table(table: &str) -> Self {
        Self { table: Some(table.to_owned()), ..Self::default() }
    }

    pub(super) fn file(table: &str, path: String) -> Self {
        Self { path: Some(path), ..Self::table(table) }
    }
}

/// All findings, in bounded memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    detailed: Vec<Finding>,
    numbers: BTreeMap<FindingKind, usize>,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        let number = self.numbers.entry(finding.kind).or_default();
        *number += 1;
        if *number <= DETAILED {
            self.detailed.push(finding);
        }
    }

    pub(super) fn has(&self, kind: FindingKind) -> bool {
        self.numbers.contains_key(&kind)
    }

    /// Returns the findings, the worst kind first; of each kind the first twenty.
    #[must_use]
    pub fn detailed(&self) -> Vec<&Finding> {
        let mut findings: Vec<_> = self.detailed.iter().collect();
        findings.sort_by_key(|finding| finding.kind);
        findings
    }

    /// Returns the number of findings of each kind.
    #[must_use]
    pub const fn numbers(&self) -> &BTreeMap<FindingKind, usize> {
        &self.numbers
    }

    /// Returns the worst kind that was found.
    #[must_use]
    pub fn worst(&self) -> Option<FindingKind> {
        self.numbers.keys().next().copied()
    }
}

/// A fact of interest that is not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Kind of the note.
    pub kind: NoteKind,
    /// Table, partition or file.
    pub place: FindingPlace,
    /// Number of rows, records or files.
    pub count: u64,
}

/// Kinds of notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoteKind {
    /// Rows that other clients wrote: allowed, and not covered by the guarantee.
    RowsOfOthers,
    /// Offsets that an operator gave up by command.
    GivenUp,
    /// Files that cannot be checked, because they are in an object store.
    FilesNotChecked,
    /// Missing files that a replay ended: only older snapshots need them.
    FilesReplayed,
    /// Acknowledged records beyond the lake's progress, which are not yet in the lake.
    Pending,
    /// Acknowledged records below the offset that their partition started at.
    BeforeStart,
    /// Acknowledged records that are not rows, and are counted as dead letter, duplicate, tombstone or
    /// given up.
    Accounted,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: FindingKind) -> Finding {
        Finding::new(kind, FindingPlace::default(), 1, String::new())
    }

    #[test]
    fn the_worst_kind_is_first_in_any_order_of_findings() {
        let mut findings = Findings::default();
        findings.add(finding(FindingKind::TriggerMissing));
        findings.add(finding(FindingKind::RowsMissing));

        assert_eq!(findings.worst(), Some(FindingKind::RowsMissing));
        assert_eq!(findings.detailed()[0].kind, FindingKind::RowsMissing);
    }

    #[test]
    fn findings_beyond_the_maximum_are_counted() {
        let mut findings = Findings::default();
        (0..1000).for_each(|_| findings.add(finding(FindingKind::DataFileMissing)));

        assert_eq!(findings.detailed().len(), DETAILED);
        assert_eq!(findings.numbers()[&FindingKind::DataFileMissing], 1000);
    }
}
