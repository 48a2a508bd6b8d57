//! What each finding means, and what to do next: for somebody who was woken up by it.

use ducktide_verify::{FindingKind, NoteKind};

/// A kind of finding in the words of an operator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Explanation {
    /// The exit status, and the name in JSON. Both must stay stable.
    pub(super) exit_status: u8,
    pub(super) name: &'static str,
    /// What is wrong.
    pub(super) title: &'static str,
    /// What a finding counts, in the singular.
    pub(super) counted: &'static str,
    pub(super) meaning: &'static str,
    pub(super) next: &'static str,
}

/// Explains a finding.
#[expect(clippy::too_many_lines, reason = "a table with an entry for each kind")]
pub(super) const fn explain(kind: FindingKind) -> Explanation {
    match kind {
        FindingKind::RowsMissing => Explanation {
            exit_status: 10,
            name: "rows_missing",
            title: "rows are missing",
            counted: "row",
            meaning: "Records that the lake has dealt with should be rows, and a reader does not see \
                      them. Ducktide itself never removes a row outside of a replay.",
            next: "Run `ducktide verify --deep` for the offsets. Look for who deleted: `ducktide sql \
                   \"FROM snapshots()\"`. Older snapshots may still have the rows: `AT (VERSION => …)`. \
                   While Kafka has the offsets, `ducktide replay --topic TOPIC --partition PARTITION \
                   --from-offset OFFSET` from the first of them brings them back. Stop the compactor's \
                   expiry until then.",
        },
        FindingKind::RowsDoubled => Explanation {
            exit_status: 11,
            name: "rows_doubled",
            title: "rows are there more than once",
            counted: "row",
            meaning: "The same record is in the table more than once, so counts and sums over it are \
                      too high. A file that was registered twice, rows that another client copied, or \
                      a catalog that was written without its triggers do this.",
            next: "Run `ducktide verify --deep` for the offsets, and look at one of them with `ducktide \
                   sql \"SELECT filename, * FROM … WHERE _kafka_partition = … AND _kafka_offset = …\"`: \
                   the file tells who wrote it (a column of the table named filename hides it). \
                   `ducktide replay --topic TOPIC --partition PARTITION --from-offset OFFSET` from the \
                   first of them leaves one row of each.",
        },
        FindingKind::RowsUnexpected => Explanation {
            exit_status: 12,
            name: "rows_unexpected",
            title: "rows are of offsets that the ledger does not count as rows",
            counted: "row",
            meaning: "Somebody wrote rows that carry Kafka positions without moving progress. Rows beyond \
                      progress will be there twice as soon as a consumer reaches them.",
            next: "Find out who wrote them (`ducktide sql \"FROM snapshots()\"`), and delete them before \
                   the consumers get there. Rows of your own belong into the table with NULL in the \
                   _kafka_ columns.",
        },
        FindingKind::DeadLettersDiffer => Explanation {
            exit_status: 13,
            name: "dead_letters_differ",
            title: "the dead-letter table differs from the ledger",
            counted: "row",
            meaning: "Each dead letter is one row of the dead-letter table, and one more once it is \
                      retried or discarded. The table holds another number: somebody deleted, inserted \
                      or updated there by hand.",
            next: "Find out who and when (`ducktide sql \"FROM snapshots()\"`). While Kafka has the \
                   records, replay from a time before that, or from the beginning: `ducktide replay --topic \
                   TOPIC --from-timestamp TIME`. It removes the rows and the dead letters behind that \
                   time, and consumers write both again. Decisions to discard are taken back with them.",
        },
        FindingKind::DataFileMissing => Explanation {
            exit_status: 14,
            name: "data_file_missing",
            title: "a data file is not there",
            counted: "row",
            meaning: "The catalog names a Parquet file that cannot be found. Queries that need it fail; \
                      its rows are gone unless the file comes back.",
            next: "Is the data path mounted, and the same on this machine? Stop the compactor. Bring the \
                   file back from a backup of the data path, under the same name; nothing else has to be \
                   done. Without a backup: `ducktide replay --topic TOPIC --from-missing-files` (first with \
                   --dry-run) ends the missing files, and consumers read their records again while Kafka has \
                   them. It says why where it cannot. A file that only older snapshots need is no longer \
                   asked for once they expire.",
        },
        FindingKind::DataFileTruncated => Explanation {
            exit_status: 15,
            name: "data_file_truncated",
            title: "a data file has another size than was registered",
            counted: "row",
            meaning: "A Parquet file never changes once it is registered, and this one did: cut by a full \
                      or failing disk, or replaced by hand. Queries that need it fail or are wrong.",
            next: "Check the disk, and stop the compactor. Bring the file back from a backup. Without one: \
                   `ducktide replay --topic TOPIC --from-missing-files` (first with --dry-run) ends such files \
                   too, and consumers read their records again while Kafka has them.",
        },
        FindingKind::DeleteFileMissing => Explanation {
            exit_status: 16,
            name: "delete_file_missing",
            title: "a delete file is not there, or has another size than was registered",
            counted: "deleted row",
            meaning: "A DELETE removed some rows of a data file, and the file which says so is gone: DuckDB \
                      removes it when it does not learn that its COMMIT went through. Reads of the data \
                      file fail. Replays of Ducktide write no delete files; DELETE and UPDATE of other \
                      clients do.",
            next: "Bring the delete file back from a backup of the data path. Without one: `ducktide replay \
                   --topic TOPIC --from-missing-files` ends the data file, and consumers read its records \
                   again, those of the deleted rows too: delete these again.",
        },
        FindingKind::FileRegisteredTwice => Explanation {
            exit_status: 17,
            name: "file_registered_twice",
            title: "a data file is registered more than once",
            counted: "registration",
            meaning: "The same file is in the catalog more than once: its rows count twice, or, if one of \
                      the registrations has ended, cleaning up after that one deletes the file under \
                      the other.",
            next: "Stop the compactor now. No command repairs this: a replay ends only one of the \
                   registrations. Remove the younger ones from the catalog by hand: DELETE FROM \
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
            meaning: "All files are there with their registered sizes, and DuckDB cannot read them: the \
                      content of one is damaged, or a column that Ducktide needs was dropped.",
            next: "DuckDB's words above name the file or the column. A file: restore it from a backup. Without \
                   one, move it out of the data path, so that it is missing, and run `ducktide replay --topic \
                   TOPIC --from-missing-files`. A dropped column: no command brings it back; fill another table with \
                   `ducktide replay --topic TOPIC --from-beginning --into TABLE`, and use that.",
        },
        FindingKind::LedgerGap => Explanation {
            exit_status: 20,
            name: "ledger_gap",
            title: "a range of the ledger starts beyond the end of the one before it",
            counted: "range",
            meaning: "The ledger does not say what became of the offsets in between. The catalog's \
                      triggers make this impossible, so the ledger or progress was edited by hand, or \
                      a range was deleted.",
            next: "Look at the partition's ranges in ducktide_ledger, by ledger_id. Are the rows in the \
                   table (`ducktide verify --deep`)? Then only the ledger's row is gone. Otherwise the \
                   records of the gap were passed over. A replay from before the gap is refused: no \
                   command repairs a ledger. Restore the catalog, or fill another table with `ducktide replay \
                   --topic TOPIC --from-beginning --into TABLE`, use that, and check it with `ducktide verify \
                   --table TABLE`.",
        },
        FindingKind::LedgerOverlap => Explanation {
            exit_status: 21,
            name: "ledger_overlap",
            title: "a range of the ledger starts before the end of the one before it",
            counted: "range",
            meaning: "The same offsets were committed twice, which the catalog's triggers make impossible: \
                      they were missing at that time, or the ledger was edited by hand.",
            next: "Run `ducktide verify --deep`. If it finds doubled rows: a replay from before the overlap is \
                   refused, since no command repairs a ledger. Restore the catalog, or fill another table \
                   with `ducktide replay --topic TOPIC --from-beginning --into TABLE`, use that, and check it \
                   with `ducktide verify --table TABLE`.",
        },
        FindingKind::LedgerEpoch => Explanation {
            exit_status: 22,
            name: "ledger_epoch",
            title: "a range of the ledger is of an epoch that its partition was not in",
            counted: "range",
            meaning: "A worker that slept through a replay or skip committed all the same: the triggers \
                      were missing, or the ledger was edited by hand.",
            next: "Run `ducktide verify --deep`. If it finds doubled rows, replay from the start of the \
                   range. No command changes the ledger: once the rows are right, set epoch of this \
                   ledger_id in ducktide_ledger to the partition's epoch above, by hand.",
        },
        FindingKind::LedgerCounts => Explanation {
            exit_status: 23,
            name: "ledger_counts",
            title: "the counts of a range of the ledger cannot be right",
            counted: "range",
            meaning: "What became of the records of a range does not add up to its length, or does not \
                      fit its kind. The table's constraints refuse such rows: somebody dropped them.",
            next: "No command changes the ledger. `ducktide verify --deep` counts the rows; set the counts of \
                   this ledger_id in ducktide_ledger to what is right, by hand, and compare the constraints \
                   of the table with those of a new lake.",
        },
        FindingKind::ProgressDiffers => Explanation {
            exit_status: 24,
            name: "progress_differs",
            title: "progress is not where the ledger ends",
            counted: "partition",
            meaning: "Progress and ledger change together, so one of them was edited by hand. A consumer \
                      goes on from progress: too far ahead loses records, too far behind doubles them.",
            next: "Stop the consumers of the table. If nobody knows better, the ledger is right: set epoch \
                   and next_offset of the partition in ducktide_progress to what the ledger says, and run \
                   `ducktide verify --deep`. To move progress on purpose there are replay and skip.",
        },
        FindingKind::TriggerMissing => Explanation {
            exit_status: 25,
            name: "trigger_missing",
            title: "a trigger is missing, disabled, or did not do its work",
            counted: "trigger",
            meaning: "Without all four triggers nothing keeps two workers from writing the same records. \
                      Consumers refuse to commit until they are back. Restoring a catalog from a dump \
                      without its triggers does this, and so does DISABLE TRIGGER.",
            next: "Run `ducktide init`, which restores missing and disabled triggers. Then run \
                   `ducktide verify --deep`: other clients may have written meanwhile.",
        },
        FindingKind::RowsUndecided => Explanation {
            exit_status: 26,
            name: "rows_undecided",
            title: "the table has more rows than the ledger counts",
            counted: "row",
            meaning: "Other clients may have inserted them, which is allowed, or they are doubled. The \
                      catalog alone does not tell any more: old snapshots have expired.",
            next: "Run `ducktide verify --deep`, which reads the rows and tells.",
        },
        FindingKind::RowsDeleted => Explanation {
            exit_status: 27,
            name: "rows_deleted",
            title: "rows are gone that another client deleted",
            counted: "row",
            meaning: "Everything Ducktide wrote is accounted for; somebody deleted at least as many rows as \
                      are missing.",
            next: "If that was meant, nothing is to be done, and status 27 may be taken as good. If not: \
                   older snapshots still have the rows, `AT (VERSION => …)`, and `ducktide replay --topic TOPIC \
                   --partition PARTITION --from-offset OFFSET` brings them back; `ducktide verify --deep` \
                   names the offsets.",
        },
        FindingKind::RowsUnacknowledged => Explanation {
            exit_status: 28,
            name: "rows_unacknowledged",
            title: "rows are of records that the producer did not see acknowledged",
            counted: "row",
            meaning: "Kafka has the records, and the producer's ledger does not: another producer wrote \
                      to the topic, or this one was killed before it had noted the last second, or an \
                      acknowledgement was lost.",
            next: "Give the ledgers of all producers in one file. If a producer was killed at the time of \
                   these offsets, nothing is wrong.",
        },
    }
}

/// Explains a note, after a number: `3 rows of other clients`.
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
            "missing files that a replay ended: snapshots before it cannot read them",
        ),
        NoteKind::Pending => {
            ("pending", "acknowledged records beyond progress: not in the lake yet")
        }
        NoteKind::BeforeStart => {
            ("before_start", "acknowledged records below the offset that the lake started at")
        }
        NoteKind::Accounted => (
            "accounted",
            "acknowledged records counted as dead letter, duplicate, tombstone or given up",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the order of their severity.
    const KINDS: [FindingKind; 19] = [
        FindingKind::RowsMissing,
        FindingKind::RowsDoubled,
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
        FindingKind::ProgressDiffers,
        FindingKind::TriggerMissing,
        FindingKind::RowsUndecided,
        FindingKind::RowsDeleted,
        FindingKind::RowsUnacknowledged,
    ];

    #[test]
    fn every_kind_has_its_own_exit_status_in_the_order_of_severity() {
        let statuses: Vec<_> = KINDS.map(|kind| explain(kind).exit_status).to_vec();
        assert_eq!(statuses, (10..29).collect::<Vec<u8>>());
        assert!(KINDS.is_sorted());
    }

    #[test]
    fn the_help_documents_every_kind() {
        for kind in KINDS {
            let Explanation { exit_status, name, .. } = explain(kind);
            let documented = format!("  {exit_status}  {name} ");
            assert!(super::super::EXAMPLES.contains(&documented), "{documented}");
        }
    }
}
