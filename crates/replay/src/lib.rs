//! Replay and skip. A replay removes the rows from an offset on, moves progress back and starts a new epoch,
//! in one DuckLake transaction. A skip moves progress forward; the records in between are given up.
//!
//! ```text
//! announce `prepare` ─▶ maintenance lock ─▶ write retained rows ─▶ announce `replay` ─▶ commit lock
//!    ─▶ read progress ─▶ BEGIN: end files, add retained rows, message; COMMIT ─▶ withdraw
//! ```
//! Missing files are ended after the first lock, in the catalog alone (`missing.rs`).
//!
//! A DELETE that leaves rows in a file makes DuckLake write a delete file, which its error path removes when
//! the answer of COMMIT is lost: every read of the table would fail from then on. So files that also hold
//! other rows are rewritten without the removed rows, and every file that the transaction touches ends as a
//! whole (invariant I11).
//!
//! A replay that is killed leaves the old state or the new one, and possibly orphans.

mod files;
mod history;
pub mod missing;
mod plan;
mod request;
mod retained;
mod skip;
mod snapshot;
mod transaction;

use std::time::{Duration, Instant};

use ducktide_lake::DuckLake;
use ducktide_lake::catalog::intent::{self, Intent, IntentKind};
use ducktide_lake::catalog::ledger;
use ducktide_lake::duckdb_error;
use ducktide_lake::session::{LAKE, quote};
use ducktide_protocol::Source;
use ducktide_protocol::error::{ErrorKind, LakeError, Result};
use ducktide_protocol::position::{Offset, Partition, SnapshotId, SourceId};
use jiff::Timestamp;

pub use self::missing::MissingFiles;
pub use self::request::{ReplayRequest, ReplaySummary};
pub use self::skip::skip;
use self::transaction::Replay;

/// Maximum wait for the maintenance lock before the intent is renewed.
const LOCK_SLICE: Duration = Duration::from_secs(5);

/// Maximum distance from an offset of the record whose time is taken for it, in offsets.
const NEARBY: i64 = 10_000;

/// Returns the effect of a replay; writes and locks nothing.
pub fn plan_replay(lake: &mut DuckLake, request: &ReplayRequest) -> Result<ReplaySummary> {
    plan(lake, request).map(|(summary, _)| summary)
}

/// Finds the missing files of the tables that a source fills, and the offsets from which a replay covers them.
///
/// An error of kind [`Invalid`](ducktide_protocol::ErrorKind::Invalid) means that no replay restores all of
/// their rows.
pub fn missing_files(lake: &mut DuckLake, source: &Source) -> Result<MissingFiles> {
    let targets = files::targets(lake, source)?;
    MissingFiles::find(lake.session()?, source, &targets)
}

fn plan(lake: &mut DuckLake, request: &ReplayRequest) -> Result<(ReplaySummary, MissingFiles)> {
    let targets = files::targets(lake, &request.source)?;
    let newest = newest_snapshot(lake)?;
    let session = lake.session()?;
    let replay = Replay::new(session, request, targets.clone(), MissingFiles::default());
    let (mut summary, missing) = match replay.plan() {
        Ok(summary) => (summary, MissingFiles::default()),
        Err(error) if error.kind() == ErrorKind::Unavailable => {
            let missing = MissingFiles::find(session, &request.source, &targets)?;
            if missing.is_empty() {
                return Err(error);
            }
            missing.check_covered(&request.offsets)?;
            let replay = Replay::new(session, request, targets, missing.clone());
            (replay.plan_by_ledger()?, missing)
        }
        Err(error) => return Err(error),
    };
    summary.shows_old_state = Some(newest);
    Ok((summary, missing))
}

/// Removes the rows at and after the requested offsets, and moves progress back to them.
///
/// An error of kind [`Invalid`](ducktide_protocol::ErrorKind::Invalid) means that nothing was changed. After
/// one of kind [`Unavailable`](ducktide_protocol::ErrorKind::Unavailable) the request can be repeated.
pub fn replay(lake: &mut DuckLake, request: &ReplayRequest) -> Result<ReplaySummary> {
    lake.check_owner()?;
    let (planned, missing) = plan(lake, request)?;
    if planned.steps.is_empty() {
        return Ok(planned);
    }
    let targets = files::targets(lake, &request.source)?;
    let mut intent = Intent {
        source: request.source.id,
        table: request.source.spec.table.to_string(),
        kind: IntentKind::Prepare,
        holder: holder(),
        expires_at: Timestamp::now() + request.max_transaction,
        keep_snapshots_from: newest_snapshot(lake)?,
    };
    lake.announce(&intent)?;
    let done = replay_announced(lake, request, targets, missing, &mut intent);
    if let Err(error) = lake.withdraw(&intent) {
        let (error, expires_at) = (error.chain(), intent.expires_at);
        tracing::warn!(error, %expires_at, "intent not withdrawn, it stays until it expires");
    }
    if let Err(error) = &done {
        lake.handle_error(&error.chain());
    }
    done
}

fn replay_announced(
    lake: &mut DuckLake,
    request: &ReplayRequest,
    targets: Vec<files::ReplayTarget>,
    missing: MissingFiles,
    intent: &mut Intent,
) -> Result<ReplaySummary> {
    let (session, commit_lock, maintenance_lock) = lake.session_and_locks()?;
    let deadline = Instant::now() + request.lock_timeout;
    // In slices, so that the intent does not expire meanwhile. It is short, since that of a killed replay
    // blocks the next replay.
    let slice = LOCK_SLICE.min(request.max_transaction / 2);
    let _guard = loop {
        intent.expires_at = Timestamp::now() + request.max_transaction;
        intent::renew(session, intent)?;
        if let Some(guard) = maintenance_lock.take(slice)? {
            break guard;
        }
        if Instant::now() >= deadline {
            return Err(LakeError::unavailable(
                "an operation of the compactor holds the maintenance lock; repeat the replay later",
            ));
        }
    };
    let mut replay = Replay::new(session, request, targets, missing);
    replay.end_missing(intent, commit_lock)?;
    replay.prepare(intent)?;
    replay.run(intent, commit_lock)
}

/// Returns the first offset of each partition of a source.
pub fn first_offsets(lake: &mut DuckLake, source: SourceId) -> Result<Vec<(Partition, Offset)>> {
    ledger::first_offsets(lake.session()?, source)
}

/// Returns the Kafka timestamp of the first record at or shortly after an offset, from the table.
pub fn written_at(
    lake: &mut DuckLake,
    source: &Source,
    partition: Partition,
    offset: Offset,
) -> Result<Option<Timestamp>> {
    let (table, topic) = (source.spec.table.sql(), quote(&source.spec.topic));
    let sql = format!(
        "SELECT epoch_ms(arg_min(_kafka_timestamp, _kafka_offset))::VARCHAR FROM {LAKE}.{table} \
         WHERE _kafka_topic = {topic} AND _kafka_partition = {partition} \
         AND _kafka_offset >= {offset} AND _kafka_offset < {}",
        offset.0.saturating_add(NEARBY)
    );
    let found = match lake.session()?.texts(&sql) {
        Ok(found) => found,
        // A file is missing: the statistics of the files give a time that is not later.
        Err(error) => {
            tracing::debug!(%error, "table not readable, record time read from the catalog");
            let sql = missing::least_time_sql(lake.session()?, &source.spec.table, offset);
            let found = lake.session()?.texts(&sql);
            found.map_err(|error| duckdb_error::failed("read a record's time", error))?
        }
    };
    let time = found.first().and_then(|time| time.parse().ok());
    Ok(time.and_then(|ms| Timestamp::from_millisecond(ms).ok()))
}

fn newest_snapshot(lake: &mut DuckLake) -> Result<SnapshotId> {
    Ok(lake.overview()?.snapshots.newest)
}

/// Returns a name for the holder of an intent, unique to each replay.
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "unknown host" } else { host.trim() };
    let number = uuid::Uuid::new_v4().simple().to_string();
    format!("{host} pid {} ({})", std::process::id(), &number[..8])
}
