//! What a verification can find, as facts; what they mean to an operator is said by `ducktide`.

use std::collections::BTreeMap;

/// How many findings of one kind are kept with their details; the others are counted. A lake whose
/// disk is gone has as many as it has files, and nobody reads more than a screen.
const DETAILED: usize = 20;

/// How many places a finding names.
pub(super) const EXAMPLES: usize = 10;

/// What is wrong, the worst first. The order decides which one a program reports in its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// The ledger counts rows that the table does not have.
    RowsMissing,
    /// A record is in the table more than once.
    RowsDoubled,
    /// The table has rows of offsets that the ledger does not count as rows.
    RowsUnexpected,
    /// The dead-letter table does not have the letters that the ledger counts.
    DeadLettersDiffer,
    /// A registered data file is not there.
    DataFileMissing,
    /// A data file has another size than was registered.
    DataFileTruncated,
    /// A delete file is not there, or has another size: every read of its table fails.
    DeleteFileMissing,
    /// One data file is registered more than once.
    FileRegisteredTwice,
    /// A registered file is also scheduled for deletion.
    FileToBeDeleted,
    /// The table cannot be read although its files are there.
    TableUnreadable,
    /// A range of the ledger starts beyond the end of the one before it.
    LedgerGap,
    /// A range of the ledger starts before the end of the one before it, and is no replay.
    LedgerOverlap,
    /// A range of the ledger has another epoch than its partition had.
    LedgerEpoch,
    /// The counts of a range do not add up to its length, or do not fit its kind.
    LedgerCounts,
    /// Progress is not where the ledger ends.
    ProgressDiffers,
    /// A trigger is missing, disabled, or on another table.
    TriggerMissing,
    /// The table has more rows than the ledger counts, and whose they are needs a deep look.
    RowsUndecided,
    /// Rows are gone that another client deleted.
    RowsDeleted,
    /// The table has rows of records that the producer did not see acknowledged.
    RowsUnacknowledged,
}

/// Where a finding is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The table with its schema.
    pub table: Option<String>,
    /// The Kafka topic.
    pub topic: Option<String>,
    /// The Kafka partition.
    pub partition: Option<i32>,
    /// The file.
    pub path: Option<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// Where.
    pub place: Place,
    /// How many rows, files or ranges it concerns.
    pub count: u64,
    /// The numbers that disagree, in words.
    pub detail: String,
    /// A few of the offsets concerned, where they are known.
    pub offsets: Vec<i64>,
}

impl Finding {
    pub(super) fn new(kind: FindingKind, place: Place, count: u64, detail: String) -> Self {
        Self { kind, place, count, detail, offsets: Vec::new() }
    }

    pub(super) fn at_offsets(self, offsets: Vec<i64>) -> Self {
        Self { offsets, ..self }
    }
}

impl Place {
    pub(super) fn table(table: &str) -> Self {
        Self { table: Some(table.to_owned()), ..Self::default() }
    }

    pub(super) fn file(table: &str, path: String) -> Self {
        Self { path: Some(path), ..Self::table(table) }
    }
}

/// Everything that was found, in bounded memory.
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

    /// The findings, the worst kind first; of each kind the first twenty.
    #[must_use]
    pub fn detailed(&self) -> Vec<&Finding> {
        let mut findings: Vec<_> = self.detailed.iter().collect();
        findings.sort_by_key(|finding| finding.kind);
        findings
    }

    /// How many findings of each kind there are in all.
    #[must_use]
    pub const fn numbers(&self) -> &BTreeMap<FindingKind, usize> {
        &self.numbers
    }

    /// The worst kind that was found.
    #[must_use]
    pub fn worst(&self) -> Option<FindingKind> {
        self.numbers.keys().next().copied()
    }
}

/// Something that an operator may want to know, and that is not wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub kind: NoteKind,
    /// Where.
    pub place: Place,
    /// How many rows, records or files it concerns.
    pub count: u64,
}

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoteKind {
    /// Rows that other clients wrote: allowed, and not covered by the guarantee.
    RowsOfOthers,
    /// Offsets that an operator gave up by command.
    GivenUp,
    /// Files that this program cannot look at, because they are in an object store.
    FilesNotChecked,
    /// Missing files that a replay ended: only older snapshots need them.
    FilesReplayed,
    /// Acknowledged records beyond the lake's progress: not yet in the lake.
    Pending,
    /// Acknowledged records below the offset that their partition started at.
    BeforeStart,
    /// Acknowledged records that are no rows, and counted as dead letter, duplicate, tombstone or
    /// given up.
    Accounted,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: FindingKind) -> Finding {
        Finding::new(kind, Place::default(), 1, String::new())
    }

    #[test]
    fn the_worst_kind_is_first_whatever_was_found_first() {
        let mut findings = Findings::default();
        findings.add(finding(FindingKind::TriggerMissing));
        findings.add(finding(FindingKind::RowsMissing));

        assert_eq!(findings.worst(), Some(FindingKind::RowsMissing));
        assert_eq!(findings.detailed()[0].kind, FindingKind::RowsMissing);
    }

    #[test]
    fn findings_beyond_a_screen_are_counted() {
        let mut findings = Findings::default();
        (0..1000).for_each(|_| findings.add(finding(FindingKind::DataFileMissing)));

        assert_eq!(findings.detailed().len(), DETAILED);
        assert_eq!(findings.numbers()[&FindingKind::DataFileMissing], 1000);
    }
}
