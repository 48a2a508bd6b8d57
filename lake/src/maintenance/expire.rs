//! Expires old snapshots.

use std::time::Duration;

use jiff::Timestamp;

use super::{Maintained, Operation, failed};
use crate::catalog::{intent, parse};
use crate::duck_lake::DuckLake;
use crate::error::Result;
use crate::overview::parse_time;
use crate::position::SnapshotId;
use crate::session::{LAKE, Session};

impl DuckLake {
    /// Expires snapshots that were made before `older_than`, but none that
    /// [`snapshots_to_keep_from`](Self::snapshots_to_keep_from) wants.
    pub fn expire_snapshots(
        &mut self,
        older_than: Timestamp,
        timeout: Duration,
    ) -> Result<Maintained> {
        self.maintain(Operation::ExpireSnapshots, timeout, |session, _| {
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

    /// The oldest snapshot that must stay readable, if there is one: of an announced replay, of a
    /// pin, or from before a replay whose partitions are not past their old end again.
    pub fn snapshots_to_keep_from(&mut self) -> Result<Option<SnapshotId>> {
        intent::snapshots_to_keep_from(self.session()?)
    }
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
}
