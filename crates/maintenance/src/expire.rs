//! Expiry of old snapshots.

use std::time::Duration;

use ducktide_lake::CatalogClient as _;
use ducktide_lake::DuckLake;
use ducktide_lake::catalog::pin::{self, RetentionHold};
use ducktide_lake::rows::Row;
use ducktide_lake::session::{LAKE, Session};
use ducktide_protocol::error::Result;
use ducktide_protocol::position::SnapshotId;
use jiff::Timestamp;

use super::{MaintenanceOutcome, Operation, failed, maintain};

/// Maximum number of snapshots that one transaction expires: DuckLake names each of them in its
/// statements, and no other client can write to a SQLite catalog meanwhile.
const BATCH: usize = 5_000;

/// Snapshots that expire. The newest never does, nor one that [`snapshots_to_keep_from`] keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Snapshots from before this time expire.
    pub older_than: Timestamp,
    /// Maximum number of snapshots: beyond it the oldest expire even if they are younger.
    pub max_snapshots: Option<u64>,
    /// Snapshots since this time always stay: an open transaction may have started at one, and DuckLake
    /// detects conflicts in the history that expiry erases.
    pub never_younger_than: Timestamp,
}

impl Retention {
    /// Returns a retention by age only.
    #[must_use]
    pub const fn by_age(older_than: Timestamp) -> Self {
        Self { older_than, max_snapshots: None, never_younger_than: older_than }
    }
}

/// Effect of an expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiryPlan {
    /// Number of snapshots.
    pub snapshots: u64,
    /// Number of snapshots that would expire.
    pub expires: u64,
    /// The oldest snapshot that would stay; None only for a lake without snapshots.
    pub oldest_left: Option<SnapshotId>,
    /// Reason why it stays.
    pub bound: ExpiryBound,
}

/// Limit of an expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpiryBound {
    /// The others are younger than the retention and not more than its maximum.
    Retention,
    /// There are too many, but they are too young to expire.
    TooYoung,
    /// A replay or pin keeps the others.
    Kept(RetentionHold),
    /// Only the newest stays.
    Newest,
}

/// Expires snapshots, the oldest first.
pub fn expire_snapshots(
    lake: &mut DuckLake,
    retention: &Retention,
    timeout: Duration,
) -> Result<MaintenanceOutcome> {
    maintain(lake, Operation::ExpireSnapshots, timeout, |session, writing| {
        let kept = pin::kept(session)?;
        let expired = ExpiryDecision::of(&snapshots(session)?, retention, kept).expired;
        for batch in expired.chunks(BATCH) {
            // In a SQLite catalog a concurrent commit would abort the transaction.
            let _guard = writing.commit.acquire(session)?;
            writing.leader.check()?;
            expire(session, batch)?;
        }
        Ok(MaintenanceOutcome::Done(expired.len() as u64))
    })
}

/// Returns the effect of an expiry without changing anything.
pub fn plan_expiry(lake: &mut DuckLake, retention: &Retention) -> Result<ExpiryPlan> {
    let session = lake.session()?;
    let kept = pin::kept(session)?;
    let snapshots = snapshots(session)?;
    let ExpiryDecision { expired, oldest_left, bound } =
        ExpiryDecision::of(&snapshots, retention, kept);
    let (snapshots, expires) = (snapshots.len() as u64, expired.len() as u64);
    Ok(ExpiryPlan { snapshots, expires, oldest_left, bound })
}

/// Returns the oldest snapshot that must stay readable, if there is one: of an announced replay, of a pin,
/// or from before a replay whose partitions have not passed their old end again.
pub fn snapshots_to_keep_from(lake: &mut DuckLake) -> Result<Option<SnapshotId>> {
    Ok(kept_snapshots(lake)?.map(|kept| kept.from))
}

/// Returns the oldest snapshot that must stay readable, with the reason.
pub fn kept_snapshots(lake: &mut DuckLake) -> Result<Option<RetentionHold>> {
    pin::kept(lake.session()?)
}

/// Expires snapshots in one transaction.
///
/// Each snapshot is named, because in a SQLite catalog DuckLake compares times as text in two formats, and
/// would also expire all snapshots of the same day (measured on 1.5.5).
fn expire(session: &Session, snapshots: &[SnapshotId]) -> Result<()> {
    let ids: Vec<_> = snapshots.iter().map(SnapshotId::to_string).collect();
    let sql = format!("CALL ducklake_expire_snapshots('{LAKE}', versions => [{}])", ids.join(", "));
    session.execute(&sql).map_err(failed("expire snapshots"))
}

/// Reads all snapshots with their times, the newest last.
fn snapshots(session: &Session) -> Result<Vec<(SnapshotId, Timestamp)>> {
    let snapshots = session.native_table("ducklake_snapshot");
    let sql = format!("SELECT snapshot_id, snapshot_time FROM {snapshots} ORDER BY snapshot_id");
    let rows: Vec<Row> = session.catalog_query(&sql)?;
    rows.iter().map(|row| Ok((row.get("snapshot_id")?, row.get("snapshot_time")?))).collect()
}

/// Snapshots that expire, and the limit of the expiry.
#[derive(Debug, PartialEq, Eq)]
struct ExpiryDecision {
    expired: Vec<SnapshotId>,
    oldest_left: Option<SnapshotId>,
    bound: ExpiryBound,
}

impl ExpiryDecision {
    /// Decides, without side effects, for snapshots in the order of their IDs. Each is judged by its own
    /// time: a clock that is behind can produce an old one among young ones.
    fn of(
        snapshots: &[(SnapshotId, Timestamp)],
        retention: &Retention,
        kept: Option<RetentionHold>,
    ) -> Self {
        let judged: Vec<_> = snapshots
            .iter()
            .enumerate()
            .map(|(index, &(id, made_at))| {
                (id, judge(snapshots.len() - index, id, made_at, retention, kept.as_ref()))
            })
            .collect();
        let expired = judged.iter().filter(|(_, stays)| stays.is_none()).map(|(id, _)| *id);
        let expired = expired.collect();
        let left = judged.into_iter().find_map(|(id, stays)| Some((id, stays?)));
        let oldest_left = left.as_ref().map(|(id, _)| *id);
        let bound = match (left, kept) {
            (Some((_, RetentionReason::Kept)), Some(kept)) => ExpiryBound::Kept(kept),
            (Some((_, RetentionReason::TooYoung)), _) => ExpiryBound::TooYoung,
            (Some((_, RetentionReason::Retained)), _) => ExpiryBound::Retention,
            _ => ExpiryBound::Newest,
        };
        Self { expired, oldest_left, bound }
    }
}

/// Reason why a snapshot stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RetentionReason {
    Newest,
    Retained,
    TooYoung,
    Kept,
}

/// Returns why a snapshot stays; None when it expires. `rank` is 1 for the newest.
fn judge(
    rank: usize,
    id: SnapshotId,
    made_at: Timestamp,
    retention: &Retention,
    kept: Option<&RetentionHold>,
) -> Option<RetentionReason> {
    let too_many = retention.max_snapshots.is_some_and(|most| rank as u64 > most);
    if rank == 1 {
        Some(RetentionReason::Newest)
    } else if made_at >= retention.older_than && !too_many {
        Some(RetentionReason::Retained)
    } else if made_at >= retention.never_younger_than {
        Some(RetentionReason::TooYoung)
    } else if kept.is_some_and(|kept| id >= kept.from) {
        Some(RetentionReason::Kept)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ducktide_lake::catalog::pin::HoldReason;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// A snapshot a second, with ids from 0 on.
    fn snapshots(count: i64) -> Vec<(SnapshotId, Timestamp)> {
        (0..count).map(|i| (SnapshotId(i), at(i))).collect()
    }

    fn pinned(from: i64) -> RetentionHold {
        RetentionHold { from: SnapshotId(from), by: HoldReason::Pin("audit".to_owned()) }
    }

    /// The ids that expire, and the bound.
    fn decide(
        count: i64,
        retention: &Retention,
        kept: Option<RetentionHold>,
    ) -> (Vec<i64>, ExpiryBound) {
        let decision = ExpiryDecision::of(&snapshots(count), retention, kept);
        (decision.expired.iter().map(|id| id.0).collect(), decision.bound)
    }

    #[test]
    fn old_snapshots_expire_but_never_the_newest_nor_what_is_wanted() {
        let by_age = |age| Retention::by_age(at(age));

        assert_eq!(decide(5, &by_age(3), None), (vec![0, 1, 2], ExpiryBound::Retention));
        assert_eq!(decide(5, &by_age(100), None), (vec![0, 1, 2, 3], ExpiryBound::Newest));
        let kept = ExpiryBound::Kept(pinned(2));
        assert_eq!(decide(5, &by_age(100), Some(pinned(2))), (vec![0, 1], kept));
        assert_eq!(decide(5, &by_age(0), None), (vec![], ExpiryBound::Retention));
        assert_eq!(decide(0, &by_age(100), None), (vec![], ExpiryBound::Newest));
    }

    #[test]
    fn a_pin_that_age_keeps_anyway_is_not_named_as_the_reason() {
        let retention = Retention::by_age(at(2));

        assert_eq!(decide(5, &retention, Some(pinned(3))), (vec![0, 1], ExpiryBound::Retention));
    }

    #[test]
    fn of_too_many_snapshots_the_oldest_expire_though_they_are_young() {
        let retention = Retention { max_snapshots: Some(4), ..Retention::by_age(at(0)) };
        let retention = Retention { never_younger_than: at(8), ..retention };

        assert_eq!(decide(10, &retention, None), (vec![0, 1, 2, 3, 4, 5], ExpiryBound::Retention));
        assert_eq!(decide(4, &retention, None), (vec![], ExpiryBound::Retention));
    }

    #[test]
    fn however_many_there_are_those_that_a_transaction_may_have_begun_at_stay() {
        let retention =
            Retention { older_than: at(0), max_snapshots: Some(2), never_younger_than: at(5) };

        let expected = ((0..5).collect(), ExpiryBound::TooYoung);
        assert_eq!(decide(10, &retention, None), expected);
        let none_at_all = Retention { max_snapshots: Some(0), ..Retention::by_age(at(100)) };
        assert_eq!(decide(3, &none_at_all, None).0, [0, 1], "the newest stays");
    }

    #[test]
    fn neither_age_nor_number_moves_a_pin() {
        let retention = Retention { max_snapshots: Some(1), ..Retention::by_age(at(100)) };

        let (expired, bound) = decide(10, &retention, Some(pinned(3)));

        assert_eq!((expired, bound), (vec![0, 1, 2], ExpiryBound::Kept(pinned(3))));
    }

    #[test]
    fn a_snapshot_of_a_clock_that_is_behind_is_kept_with_those_around_it() {
        let snapshots = [(SnapshotId(1), at(50)), (SnapshotId(2), at(10)), (SnapshotId(3), at(60))];

        let decision = ExpiryDecision::of(&snapshots, &Retention::by_age(at(55)), Some(pinned(2)));

        assert_eq!(decision.expired, [SnapshotId(1)]);
        assert_eq!(decision.oldest_left, Some(SnapshotId(2)));
    }
}
