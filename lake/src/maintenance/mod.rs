//! What keeps a lake small and fast, one named operation at a time.
//!
//! Each operation holds the maintenance lock and honours intents: the files of a table that is being
//! replayed stay as they are, and snapshots that show what a replay took out stay readable. There is
//! no `CHECKPOINT` and no `cleanup_all`: those act on more than they name.
//!
//! A snapshot's author and message tell what was done; its `extra_info` stays empty, since only
//! commits that move progress write there.

use std::time::Duration;

use jiff::Timestamp;

use crate::catalog::intent::{self, Intent};
use crate::catalog::parse;
use crate::dead_letter::dead_letter_name;
use crate::duck_lake::DuckLake;
use crate::duckdb_error::is_refusal;
use crate::error::{LakeError, Result};
use crate::overview::parse_time;
use crate::position::SnapshotId;
use crate::session::{LAKE, Session, quote};
use crate::table::TableName;

/// Who wrote a snapshot, in DuckLake's own words: `snapshots().author`.
const AUTHOR: &str = "ducktide-compactor";

/// Which files a merge takes, and how much it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeLimits {
    /// Smaller files are left to the tier below; DuckLake's default when None.
    pub min_file_bytes: Option<u64>,
    /// Files of at least this size are left alone. Without it every run rewrites what the one before
    /// has merged.
    pub max_file_bytes: Option<u64>,
    /// How many files are made at most.
    pub max_compacted_files: Option<u32>,
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maintained {
    /// It was done; so many files or snapshots were merged, expired or removed.
    Done(u64),
    /// Another operation, or a replay, holds the maintenance lock: try at the next tick.
    LockNotFree,
    /// A replay of the table is announced: try at the next tick.
    ReplayAnnounced(Intent),
}

impl DuckLake {
    /// Merges the small files of one table; readers of old snapshots see what they saw before.
    ///
    /// Waits at most `timeout` for the maintenance lock. An error of kind
    /// [`Unavailable`](crate::ErrorKind::Unavailable) means that others changed the table meanwhile,
    /// or an outage; nothing was done.
    pub fn merge_adjacent_files(
        &mut self,
        table: &TableName,
        limits: &MergeLimits,
        timeout: Duration,
    ) -> Result<Maintained> {
        self.maintain("merge adjacent files", timeout, |session| {
            if let Some(announced) = announced(session, table)? {
                return Ok(Maintained::ReplayAnnounced(announced));
            }
            let merged = in_transaction(session, &merge_sql(table, limits), "merge_adjacent_files");
            let rows = merged.map_err(failed("merge adjacent files"))?;
            let processed = |row: &Vec<Option<String>>| row.get(2)?.as_deref()?.parse::<u64>().ok();
            Ok(Maintained::Done(rows.iter().filter_map(processed).sum()))
        })
    }

    /// Expires snapshots that were made before `older_than`, but none that
    /// [`snapshots_to_keep_from`](Self::snapshots_to_keep_from) wants.
    pub fn expire_snapshots(
        &mut self,
        older_than: Timestamp,
        timeout: Duration,
    ) -> Result<Maintained> {
        self.maintain("expire snapshots", timeout, |session| {
            let kept = intent::snapshots_to_keep_from(session)?;
            let expired = expired(&snapshots(session)?, older_than, kept);
            if expired.is_empty() {
                return Ok(Maintained::Done(0));
            }
            let ids: Vec<_> = expired.iter().map(SnapshotId::to_string).collect();
            let sql = format!(
                "CALL ducklake_expire_snapshots('{LAKE}', versions => [{}])",
                ids.join(", ")
            );
            session.execute(&sql).map_err(failed("expire snapshots"))?;
            Ok(Maintained::Done(expired.len() as u64))
        })
    }

    /// Removes files that no snapshot needs since before `older_than`: readers that began earlier
    /// must have ended.
    pub fn cleanup_old_files(
        &mut self,
        older_than: Timestamp,
        timeout: Duration,
    ) -> Result<Maintained> {
        self.maintain("clean up old files", timeout, |session| {
            session.respell_schedule().map_err(failed("clean up old files"))?;
            let time = quote(&older_than.to_string());
            let sql = format!(
                "CALL ducklake_cleanup_old_files('{LAKE}', older_than => TIMESTAMPTZ {time})"
            );
            let removed = session.text_rows(&sql).map_err(failed("clean up old files"))?;
            Ok(Maintained::Done(removed.len() as u64))
        })
    }

    /// The oldest snapshot that must stay readable, if there is one: of an announced replay, of a
    /// pin, or from before a replay whose partitions are not past their old end again.
    pub fn snapshots_to_keep_from(&mut self) -> Result<Option<SnapshotId>> {
        intent::snapshots_to_keep_from(self.session()?)
    }

    fn maintain(
        &mut self,
        what: &str,
        timeout: Duration,
        operation: impl FnOnce(&Session) -> Result<Maintained>,
    ) -> Result<Maintained> {
        let (session, lock) = self.session_and_maintenance_lock()?;
        let Some(guard) = lock.take(timeout)? else { return Ok(Maintained::LockNotFree) };
        let done = operation(session);
        drop(guard);
        if let Err(error) = &done {
            tracing::debug!(error = error.chain(), "could not {what}");
            self.note_error(&error.chain());
        }
        done
    }
}

fn announced(session: &Session, table: &TableName) -> Result<Option<Intent>> {
    let name = table.to_string();
    // The dead letters of a replayed table are replayed with it.
    let touches = |intent: &Intent| intent.table == name || dead_letter_name(&intent.table) == name;
    Ok(intent::live_intents(session)?.into_iter().find(touches))
}

fn merge_sql(table: &TableName, limits: &MergeLimits) -> String {
    let mut arguments =
        vec![quote(LAKE), quote(&table.table), format!("schema => {}", quote(&table.schema))];
    let named = [
        ("min_file_size", limits.min_file_bytes),
        ("max_file_size", limits.max_file_bytes),
        ("max_compacted_files", limits.max_compacted_files.map(u64::from)),
    ];
    arguments
        .extend(named.iter().filter_map(|(name, value)| Some(format!("{name} => {}", (*value)?))));
    format!("CALL ducklake_merge_adjacent_files({})", arguments.join(", "))
}

/// Runs one statement, with its words in the snapshot that it makes.
fn in_transaction(
    session: &Session,
    sql: &str,
    message: &str,
) -> duckdb::Result<Vec<Vec<Option<String>>>> {
    let text = format!("CALL {LAKE}.set_commit_message({}, {})", quote(AUTHOR), quote(message));
    let done = session
        .execute("BEGIN")
        .and_then(|()| session.execute(&text))
        .and_then(|()| session.text_rows(sql))
        .and_then(|rows| session.execute("COMMIT").map(|()| rows));
    if done.is_err() {
        // A failed COMMIT has ended the transaction already; then there is nothing to roll back.
        let _ = session.execute("ROLLBACK");
    }
    done
}

/// All snapshots and when they were made, the newest one last.
fn snapshots(session: &Session) -> Result<Vec<(SnapshotId, Timestamp)>> {
    let snapshots = session.native_table("ducklake_snapshot");
    let sql = format!("SELECT snapshot_id, snapshot_time FROM {snapshots} ORDER BY snapshot_id");
    let snapshot = |row: Vec<Option<String>>| {
        let mut values = row.into_iter();
        let id = parse(values.next().flatten())?;
        Ok((SnapshotId(id), parse_time(&values.next().flatten().unwrap_or_default())?))
    };
    session.catalog_rows(&sql)?.into_iter().map(snapshot).collect()
}

/// Which snapshots expire: old ones, never the newest, never one that is wanted or newer than it.
///
/// They are named one by one, because in a SQLite catalog `DuckLake` compares times as text of two
/// spellings, and would expire everything of the same day too (measured on 1.5.5).
fn expired(
    snapshots: &[(SnapshotId, Timestamp)],
    older_than: Timestamp,
    kept: Option<SnapshotId>,
) -> Vec<SnapshotId> {
    let candidates = snapshots.split_last().map_or(&[][..], |(_newest, others)| others);
    let expires = |(id, made_at): &&(SnapshotId, Timestamp)| {
        *made_at < older_than && kept.is_none_or(|kept| *id < kept)
    };
    candidates.iter().filter(expires).map(|(id, _)| *id).collect()
}

fn failed(what: &str) -> impl Fn(duckdb::Error) -> LakeError {
    move |error| {
        let text = error.to_string();
        if is_refusal(&text) {
            LakeError::invalid(what).because(text)
        } else {
            LakeError::unavailable(what).because(text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn old_snapshots_expire_but_never_the_newest_nor_what_is_wanted() {
        let snapshots: Vec<_> = (0..5).map(|i| (SnapshotId(i), at(i))).collect();
        let ids = |expired: Vec<SnapshotId>| expired.iter().map(|id| id.0).collect::<Vec<_>>();

        assert_eq!(ids(expired(&snapshots, at(3), None)), [0, 1, 2]);
        assert_eq!(ids(expired(&snapshots, at(100), None)), [0, 1, 2, 3]);
        assert_eq!(ids(expired(&snapshots, at(100), Some(SnapshotId(2)))), [0, 1]);
        assert_eq!(ids(expired(&snapshots, at(0), None)), [] as [i64; 0]);
        assert_eq!(ids(expired(&[], at(100), None)), [] as [i64; 0]);
    }

    #[test]
    fn a_snapshot_of_a_clock_that_is_behind_is_kept_with_those_around_it() {
        let snapshots = [(SnapshotId(1), at(50)), (SnapshotId(2), at(10)), (SnapshotId(3), at(60))];

        assert_eq!(expired(&snapshots, at(55), Some(SnapshotId(2))), [SnapshotId(1)]);
    }

    #[test]
    fn a_merge_names_its_table_and_only_the_limits_that_are_set() {
        let limits = MergeLimits { max_file_bytes: Some(1024), ..MergeLimits::default() };

        let sql = merge_sql(&"raw.events".parse().unwrap(), &limits);

        assert_eq!(
            sql,
            "CALL ducklake_merge_adjacent_files('lake', 'events', schema => 'raw', max_file_size => 1024)"
        );
    }
}
