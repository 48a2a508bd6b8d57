//! Meaning of each finding and the next step, for an operator.

use ducktide_verify::{FindingKind, NoteKind};

/// Explanation of a kind of finding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Explanation {
    /// Exit status. It must stay stable, as the name in JSON.
    pub(super) exit_status: u8,
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Unit of the finding's count, in the singular.
    pub(super) counted: &'static str,
    pub(super) meaning: &'static str,
    pub(super) next: &'static str,
}

/// Returns the explanation of a kind of finding.
#[expect(clippy::too_many_lines, reason = "a table with an entry for each kind")]
pub(super) const fn explain(kind: FindingKind) -> Explanation {
    match kind {
        FindingKind::RowsMissing => Explanation {
            exit_status: 10,
            name: "rows_missing",
            title: "rows are missing",
            counted: "row",
            meaning: "The ledger counts records as rows that the table does not have. Ducktide removes \
                      rows in a replay only.",
            next: "Run `ducktide verify --deep` for the offsets. Find the client that deleted them: \
                   `ducktide sql \"FROM snapshots()\"`. Older snapshots may still have the rows: `AT \
                   (VERSION => …)`. Stop expiry by the compactor. While Kafka has the records, read them \
                   again with `ducktide replay --topic TOPIC --partition PARTITION --from-offset OFFSET`, \
                   where OFFSET is the first missing one.",
        },
        FindingKind::RowsDuplicated => Explanation {
            exit_status: 11,
            name: "rows_doubled",
            title: "records are in the table more than once",
            counted: "row",
            meaning: "The same record is in the table more than once, so counts and sums are too high. \
                      Possible causes: a file that is registered twice, rows that another client \
                      copied, writes to a catalog without its triggers.",
            next: "Run `ducktide verify --deep` for the offsets, and query one of them: `ducktide sql \
                   \"SELECT filename, * FROM … WHERE _kafka_partition = … AND _kafka_offset = …\"`. \
                   The file name shows the writer (unless the table has a column named filename). \
                   To leave one row for each record: `ducktide replay --topic TOPIC --partition PARTITION \
                   --from-offset OFFSET`, where OFFSET is the first duplicated one.",
        },
        FindingKind::RowsUnexpected => Explanation {
            exit_status: 12,
            name: "rows_unexpected",
            title: "rows have offsets that the ledger does not count as rows",
            counted: "row",
            meaning: "Another client wrote rows with Kafka offsets. Rows at or after the next offset are \
                      duplicated as soon as a consumer reads their records.",
            next: "Find the client (`ducktide sql \"FROM snapshots()\"`), and delete the rows before \
                   the consumers reach their offsets. Rows of other clients must have NULL in the \
                   _kafka_ columns.",
        },
        FindingKind::DeadLettersDiffer => Explanation {
            exit_status: 13,
            name: "dead_letters_differ",
            title: "the dead-letter table differs from the ledger",
            counted: "row",
            meaning: "The dead-letter table has one row for each dead letter, and a second one after it \
                      is retried or discarded. Another client deleted, inserted or updated rows.",
            next: "Find the client and the time (`ducktide sql \"FROM snapshots()\"`). While Kafka has the \
                   records, replay from an earlier time or from the beginning: `ducktide replay --topic \
                   TOPIC --from-timestamp TIME`. This removes the rows and dead letters after that \
                   time, and consumers write both again. It also reverts decisions to discard.",
        },
        FindingKind::DataFileMissing => Explanation {
            exit_status: 14,
            name: "data_file_missing",
            title: "a data file is missing",
            counted: "row",
            meaning: "A Parquet file of the catalog does not exist. Queries that need it fail; \
                      its rows are lost unless the file is restored.",
            next: "Check that the data path is mounted, and is the same on this machine. Stop the compactor. \
                   Restore the file from a backup of the data path, under the same name; nothing else is \
                   needed. Without a backup: `ducktide replay --topic TOPIC --from-missing-files` (first with \
                   --dry-run) ends the missing files, and consumers read their records again if Kafka has \
                   them. It reports files for which this is impossible. A file that only older snapshots \
                   need is no longer checked after they expire.",
        },
        FindingKind::DataFileTruncated => Explanation {
            exit_status: 15,
            name: "data_file_truncated",
            title: "the size of a data file is not the registered one",
            counted: "row",
            meaning: "A registered Parquet file never changes, but this one did: truncated by a full or \
                      failing disk, or replaced manually. Queries that need it fail or return wrong results.",
            next: "Check the disk, and stop the compactor. Restore the file from a backup. Without a backup: \
                   `ducktide replay --topic TOPIC --from-missing-files` (first with --dry-run) also ends such \
                   files, and consumers read their records again if Kafka has them.",
        },
        FindingKind::DeleteFileMissing => Explanation {
            exit_status: 16,
            name: "delete_file_missing",
            title: "a delete file is missing, or its size is not the registered one",
            counted: "deleted row",
            meaning: "A DELETE removed some rows of a data file, and the file that lists them is missing: \
                      DuckDB removes it if the answer to its COMMIT is lost. Reads of the data file fail. \
                      Ducktide writes no delete files; DELETE and UPDATE of other clients do.",
            next: "Restore the delete file from a backup of the data path. Without a backup: `ducktide replay \
                   --topic TOPIC --from-missing-files` ends the data file, and consumers read its records \
                   again, including those of the deleted rows. Delete these again.",
        },
        FindingKind::FileRegisteredTwice => Explanation {
            exit_status: 17,
            name: "file_registered_twice",
            title: "a data file is registered more than once",
            counted: "registration",
            meaning: "The same file is in the catalog more than once. Its rows count twice; or, if one of \
                      the registrations has ended, its cleanup deletes the file that the other one needs.",
            next: "Stop the compactor immediately. No command repairs this: a replay ends only one of the \
                   registrations. Remove the newer ones from the catalog manually: DELETE FROM \
                   ducklake_data_file, and FROM ducklake_file_column_stats, WHERE data_file_id is one of \
                   the greater ids above. Then run `ducktide init`, which restores the triggers, and \
                   `ducktide verify --deep`.",
        },
        FindingKind::FileToBeDeleted => Explanation {
            exit_status: 18,
            name: "file_to_be_deleted",
            title: "a registered file is scheduled for deletion",
            counted: "file",
            meaning: "The next cleanup deletes a file that the table still needs.",
            next: "Stop the compactor and every job that calls ducklake_cleanup_old_files. Then remove the \
                   file's row from ducklake_files_scheduled_for_deletion.",
        },
        FindingKind::TableUnreadable => Explanation {
            exit_status: 19,
            name: "table_unreadable",
            title: "a table cannot be read",
            counted: "table",
            meaning: "All files exist with their registered sizes, but DuckDB cannot read them: the \
                      content of a file is damaged, or a column that Ducktide needs was dropped.",
            next: "The error of DuckDB above names the file or the column. A file: restore it from a backup. \
                   Without a backup, move it out of the data path, so that it is missing, and run `ducktide \
                   replay --topic TOPIC --from-missing-files`. A dropped column: no command restores it; fill \
                   another table with `ducktide replay --topic TOPIC --from-beginning --into TABLE`, and use \
                   that.",
        },
        FindingKind::LedgerGap => Explanation {
            exit_status: 20,
            name: "ledger_gap",
            title: "a range of the ledger starts after the end of the previous one",
            counted: "range",
            meaning: "The ledger has no entry for the offsets in between. The triggers of the catalog \
                      prevent this, so the ledger or progress was edited manually, or a range was deleted.",
            next: "Query the ranges of the partition in ducktide_ledger, by ledger_id. If the rows are in \
                   the table (`ducktide verify --deep`), only the row of the ledger is missing. Otherwise \
                   the records of the gap were skipped. A replay from before the gap is refused: no \
                   command repairs a ledger. Restore the catalog, or fill another table with `ducktide replay \
                   --topic TOPIC --from-beginning --into TABLE`, use that, and check it with `ducktide verify \
                   --table TABLE`.",
        },
        FindingKind::LedgerOverlap => Explanation {
            exit_status: 21,
            name: "ledger_overlap",
            title: "a range of the ledger starts before the end of the previous one",
            counted: "range",
            meaning: "The same offsets were committed twice. The triggers of the catalog prevent this: \
                      they were missing at that time, or the ledger was edited manually.",
            next: "Run `ducktide verify --deep`. If it finds duplicated rows: a replay from before the overlap \
                   is refused, since no command repairs a ledger. Restore the catalog, or fill another table \
                   with `ducktide replay --topic TOPIC --from-beginning --into TABLE`, use that, and check it \
                   with `ducktide verify --table TABLE`.",
        },
        FindingKind::LedgerEpoch => Explanation {
            exit_status: 22,
            name: "ledger_epoch",
            title: "the epoch of a range of the ledger is not the one of its partition at that time",
            counted: "range",
            meaning: "A worker that was paused during a replay or skip committed afterwards: the triggers \
                      were missing, or the ledger was edited manually.",
            next: "Run `ducktide verify --deep`. If it finds duplicated rows, replay from the start of the \
                   range. No command changes the ledger: when the rows are correct, set epoch of this \
                   ledger_id in ducktide_ledger manually to the epoch of the partition above.",
        },
        FindingKind::LedgerCounts => Explanation {
            exit_status: 23,
            name: "ledger_counts",
            title: "the counts of a range of the ledger are impossible",
            counted: "range",
            meaning: "The counts of a range do not add up to its length, or do not match its kind. \
                      The constraints of the table reject such rows: they were dropped.",
            next: "No command changes the ledger. `ducktide verify --deep` counts the rows; correct the counts \
                   of this ledger_id in ducktide_ledger manually, and compare the constraints of the table \
                   with those of a new lake.",
        },
        FindingKind::LedgerNotStarted => Explanation {
            exit_status: 29,
            name: "ledger_not_started",
            title: "the ledger of a partition does not begin with its start",
            counted: "range",
            meaning: "The first entry of each partition is its start, and nothing removes it: the compactor \
                      joins ranges of ingested records only. It was deleted manually, perhaps with the \
                      ranges after it. Consumers continue, but a replay of the partition is refused.",
            next: "Run `ducktide verify --deep`. If it finds nothing else, the rows are complete; otherwise \
                   ranges were deleted as well. No command repairs a ledger: restore the catalog, or fill \
                   another table with `ducktide replay --topic TOPIC --from-beginning --into TABLE`, use \
                   that, and check it with `ducktide verify --table TABLE`.",
        },
        FindingKind::ProgressDiffers => Explanation {
            exit_status: 24,
            name: "progress_differs",
            title: "progress is not the end of the ledger",
            counted: "partition",
            meaning: "Progress and ledger change together, so one of them was edited manually. A consumer \
                      continues from progress: too far ahead loses records, too far behind duplicates them.",
            next: "Stop the consumers of the table. Unless you know otherwise, assume that the ledger is \
                   correct: set epoch and next_offset of the partition in ducktide_progress to the values \
                   of the ledger, and run `ducktide verify --deep`. To move progress on purpose, use replay \
                   or skip.",
        },
        FindingKind::TriggerMissing => Explanation {
            exit_status: 25,
            name: "trigger_missing",
            title: "a trigger is missing, disabled, or had no effect",
            counted: "trigger",
            meaning: "Without all four triggers, two workers can write the same records. Consumers refuse \
                      to commit until the triggers are restored. Possible causes: a catalog restored from a \
                      dump without triggers, or DISABLE TRIGGER.",
            next: "Run `ducktide init`, which restores missing and disabled triggers. Then run \
                   `ducktide verify --deep`: other clients may have written in the meantime.",
        },
        FindingKind::RowsUndecided => Explanation {
            exit_status: 26,
            name: "rows_undecided",
            title: "the table has more rows than the ledger counts",
            counted: "row",
            meaning: "The rows are either duplicates or were inserted by other clients, which is allowed. \
                      The catalog cannot distinguish them any more, because old snapshots have expired.",
            next: "Run `ducktide verify --deep`, which reads the rows and distinguishes them.",
        },
        FindingKind::RowsDeleted => Explanation {
            exit_status: 27,
            name: "rows_deleted",
            title: "another client deleted rows",
            counted: "row",
            meaning: "All rows that Ducktide wrote are accounted for; another client deleted at least as \
                      many rows as are missing.",
            next: "If that was intended, do nothing, and treat exit status 27 as success. If not: \
                   older snapshots still have the rows, `AT (VERSION => …)`, and `ducktide replay --topic TOPIC \
                   --partition PARTITION --from-offset OFFSET` reads them again; `ducktide verify --deep` \
                   lists the offsets.",
        },
        FindingKind::RowsUnacknowledged => Explanation {
            exit_status: 28,
            name: "rows_unacknowledged",
            title: "rows belong to records that were not acknowledged to the producer",
            counted: "row",
            meaning: "Kafka has the records, but the producer's ledger does not: another producer wrote \
                      to the topic, or this one was killed before it wrote the last second to its ledger, \
                      or an acknowledgement was lost.",
            next: "Combine the ledgers of all producers in one file. If a producer was killed at the time of \
                   these offsets, nothing is wrong.",
        },
    }
}

/// Returns the name of a note, and its explanation, which follows a number: `3 rows of other clients`.
pub(super) const fn explain_note(kind: NoteKind) -> (&'static str, &'static str) {
    match kind {
        NoteKind::RowsOfOthers => (
            "rows_of_others",
            "rows of other clients: allowed, and not covered by Ducktide's guarantee",
        ),
        NoteKind::GivenUp => ("given_up", "records given up by an operator's command"),
        NoteKind::FilesNotChecked => {
            ("files_not_checked", "files in an object store, whose presence was not checked")
        }
        NoteKind::FilesReplayed => (
            "files_replayed",
            "missing files that a replay ended: earlier snapshots cannot read them",
        ),
        NoteKind::Pending => ("pending", "acknowledged records that are not in the lake yet"),
        NoteKind::BeforeStart => {
            ("before_start", "acknowledged records below the start offset of the lake")
        }
        NoteKind::Accounted => (
            "accounted",
            "acknowledged records counted as dead letters, duplicates, tombstones or given up",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the order of their severity.
    const KINDS: [FindingKind; 20] = [
        FindingKind::RowsMissing,
        FindingKind::RowsDuplicated,
        FindingKind::RowsUnexpected,
        FindingKind::DeadLettersDiffer,
        FindingKind::DataFileMissing,
        FindingKind::DataFileTruncated,
        FindingKind::DeleteFileMissing,
        FindingKind::FileRegisteredTwice,
        FindingKind::FileToBeDeleted,
        FindingKind::TableUnreadable,
        FindingKind::LedgerGap,
        FindingKind::LedgerOverlap,
        FindingKind::LedgerEpoch,
        FindingKind::LedgerCounts,
        FindingKind::LedgerNotStarted,
        FindingKind::ProgressDiffers,
        FindingKind::TriggerMissing,
        FindingKind::RowsUndecided,
        FindingKind::RowsDeleted,
        FindingKind::RowsUnacknowledged,
    ];

    #[test]
    fn every_kind_has_its_own_exit_status() {
        let mut statuses = KINDS.map(|kind| explain(kind).exit_status);
        statuses.sort_unstable();
        assert_eq!(statuses.to_vec(), (10..30).collect::<Vec<u8>>());
    }

    #[test]
    fn the_help_documents_every_kind_in_the_order_of_severity() {
        let place = |kind| {
            let Explanation { exit_status, name, .. } = explain(kind);
            super::super::EXAMPLES.find(&format!("  {exit_status}  {name} ")).expect(name)
        };

        assert!(KINDS.is_sorted() && KINDS.map(place).is_sorted());
    }
}
