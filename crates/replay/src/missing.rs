//! Data files of the catalog that cannot be read, because they are missing or have another size.
//!
//! A replay deletes rows by reading them. A missing file cannot be read, but the catalog's statistics name
//! the partitions and offsets in it: if the replay takes all of them back, the file is ended in the catalog
//! alone, in a snapshot of its own before that of the replay. A replay that is killed between the two leaves
//! a table that can be read and lacks the rows; `verify` reports them missing, and another replay restores
//! them.

mod search;

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use ducktide_lake::CatalogClient as _;
use ducktide_lake::catalog::{self, ledger};
use ducktide_lake::duckdb_error;
use ducktide_lake::session::{Session, quote};
use ducktide_protocol::Source;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::{Offset, Partition};

pub(super) use self::search::least_time_sql;
use self::search::{PositionSpan, missing_files, span};
use super::files::ReplayTarget;
use super::history::History;

/// Author of the snapshot that ends missing files; `verify` identifies it by author and message.
pub const AUTHOR: &str = "ducktide";
/// Commit message of the snapshot that ends missing files.
pub const MESSAGE: &str = "end missing files";

/// Maximum number of attempts: each concurrent commit takes the next snapshot ID, so the lake progresses.
const MAX_ATTEMPTS: u32 = 20;

/// Pause between two attempts: a commit takes 15 to 50 ms.
const RETRY_PAUSE: Duration = Duration::from_millis(25);

/// Missing files of a source's tables, and the offsets from which a replay covers them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingFiles {
    /// Number of missing files.
    pub files: u64,
    /// Number of rows that a reader would see in them, including dead-letter rows.
    pub rows: u64,
    /// First offset that the files may have of each partition.
    pub offsets: BTreeMap<Partition, Offset>,
    /// `data_file_id` of each file, by `table_id`.
    ids: BTreeMap<i64, Vec<i64>>,
}

impl MissingFiles {
    /// Finds missing files in the tables of a source.
    ///
    /// An error of kind [`Invalid`](ducktide_protocol::ErrorKind::Invalid) means that a file is missing
    /// whose rows no replay restores completely.
    pub(super) fn find(
        session: &Session,
        source: &Source,
        targets: &[ReplayTarget],
    ) -> Result<Self> {
        let mut found = Self::default();
        let mut spans = Vec::new();
        for target in targets {
            for file in missing_files(session, target)? {
                spans.push(span(session, source, target, &file)?);
                found.files += 1;
                found.rows += file.rows;
                found.ids.entry(file.table_id).or_default().push(file.id);
            }
        }
        if spans.is_empty() {
            return Ok(found);
        }
        for progress in catalog::progress(session, source.id)? {
            let (partition, next) = (progress.partition, progress.position.next_offset);
            let history = History::of(&ledger::entries(session, source.id, partition)?);
            let start = history.start().unwrap_or(Offset(0));
            found.offsets.extend(
                PositionSpan::first_of(&spans, partition, start, next)
                    .map(|offset| (partition, offset)),
            );
        }
        Ok(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Refuses a replay that does not take back all rows of missing files: the others would be lost.
    pub(super) fn check_covered(&self, offsets: &BTreeMap<Partition, Offset>) -> Result<()> {
        let is_covered = |(partition, first): (&Partition, &Offset)| {
            offsets.get(partition).is_some_and(|from| from <= first)
        };
        if self.offsets.iter().all(is_covered) {
            return Ok(());
        }
        let needed: Vec<_> =
            self.offsets.iter().map(|(p, offset)| format!("{p}:{offset}")).collect();
        Err(LakeError::invalid(format!(
            "data files of the table are missing, and the replay does not take back all of their rows; \
             use --from-missing-files, or start each of these partitions at or below its offset: \
             files=`{}` rows=`{}` partition_offsets=`{}`",
            self.files,
            self.rows,
            needed.join(" ")
        )))
    }

    /// Ends the files in the catalog, in one snapshot for each table. Must be called under the commit lock.
    pub(super) fn end(&self, session: &Session) -> Result<()> {
        for (table_id, ids) in &self.ids {
            let ids: Vec<_> = ids.iter().map(i64::to_string).collect();
            let statements = end_statements(session, *table_id, &ids);
            let mut attempt = 1;
            while let Err(error) = session.execute_all_in_catalog(&statements) {
                if attempt >= MAX_ATTEMPTS {
                    return Err(duckdb_error::failed("end the missing files", error));
                }
                tracing::debug!(%error, attempt, "concurrent commit, retrying");
                attempt += 1;
                thread::sleep(RETRY_PAUSE);
            }
        }
        Ok(())
    }
}

impl PositionSpan {
    /// Returns the first offset that any of the files may have of a partition.
    fn first_of(
        spans: &[Self],
        partition: Partition,
        start: Offset,
        next: Offset,
    ) -> Option<Offset> {
        let holds = |span: &&Self| (span.partitions.0..=span.partitions.1).contains(&partition.0);
        let first = spans.iter().filter(holds).map(|span| Offset(span.first_offset)).min()?;
        // The statistics of a file with several partitions have the least offset of all of them.
        (first < next).then(|| first.max(start))
    }
}

/// Returns the statements that DuckLake 1.5.5 runs for a DELETE of all rows of files. The first one inserts
/// an existing ID if a file is not live any more, which aborts the transaction.
fn end_statements(session: &Session, table_id: i64, ids: &[String]) -> [String; 3] {
    let name = |table: &str| session.native_table(table);
    let (snapshot, files) = (name("ducklake_snapshot"), name("ducklake_data_file"));
    let newest = format!("(SELECT max(snapshot_id) FROM {snapshot})");
    let listed = ids.join(", ");
    [
        format!(
            "INSERT INTO {snapshot}(snapshot_id, snapshot_time, schema_version, next_catalog_id, next_file_id) \
             SELECT snapshot_id + CASE WHEN (SELECT count(*) FROM {files} WHERE table_id = {table_id} \
               AND end_snapshot IS NULL AND data_file_id IN ({listed})) = {} THEN 1 ELSE 0 END, \
             {}, schema_version, next_catalog_id, next_file_id \
             FROM {snapshot} WHERE snapshot_id = {newest}",
            ids.len(),
            session.dialect().now(),
        ),
        format!("UPDATE {files} SET end_snapshot = {newest} WHERE data_file_id IN ({listed})"),
        format!(
            "INSERT INTO {}(snapshot_id, changes_made, author, commit_message, commit_extra_info) \
             SELECT {newest}, 'deleted_from_table:{table_id}', {}, {}, NULL",
            name("ducklake_snapshot_changes"),
            quote(AUTHOR),
            quote(MESSAGE),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_of(partition: i32, start: i64, next: i64) -> Option<i64> {
        let spans = [
            PositionSpan { partitions: (0, 2), first_offset: 50 },
            PositionSpan { partitions: (1, 1), first_offset: 30 },
        ];
        PositionSpan::first_of(&spans, Partition(partition), Offset(start), Offset(next))
            .map(|o| o.0)
    }

    #[test]
    fn a_partition_goes_back_to_the_first_offset_that_a_missing_file_may_have() {
        assert_eq!(first_of(0, 0, 100), Some(50));
        assert_eq!(first_of(1, 0, 100), Some(30));
        assert_eq!(first_of(2, 60, 100), Some(60), "the partition starts later than the others");
        assert_eq!(first_of(2, 0, 50), None, "the partition does not reach so far");
        assert_eq!(first_of(3, 0, 100), None, "no file has rows of it");
    }

    #[test]
    fn a_replay_must_start_at_or_below_each_of_the_offsets() {
        let missing = MissingFiles {
            files: 1,
            rows: 10,
            offsets: [(Partition(0), Offset(50)), (Partition(1), Offset(30))].into(),
            ids: [(1, vec![7])].into(),
        };
        let check = |offsets: &[(i32, i64)]| {
            let offsets = offsets.iter().map(|(p, o)| (Partition(*p), Offset(*o))).collect();
            missing.check_covered(&offsets)
        };

        assert!(check(&[(0, 50), (1, 30)]).is_ok());
        assert!(check(&[(0, 10), (1, 0), (2, 5)]).is_ok());
        for too_little in [&[(0, 50)][..], &[(0, 51), (1, 30)], &[]] {
            let refused = check(too_little).unwrap_err().to_string();
            assert!(refused.contains("partition_offsets=`0:50 1:30`"), "{refused}");
            assert!(refused.contains("--from-missing-files"), "{refused}");
        }
    }
}
