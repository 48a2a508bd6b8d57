//! Replay: rows behind an offset leave the table, progress goes back, and a new epoch begins, all in
//! one `DuckLake` transaction. Skip: progress goes forward, and the records between are given up.
//!
//! ```text
//! announce `prepare` ─▶ maintenance lock ─▶ write survivors ─▶ announce `replay` ─▶ commit lock
//!    ─▶ read progress ─▶ BEGIN: end files, add survivors, message; COMMIT ─▶ withdraw
//! ```
//! Files that are not there are ended after the first lock, in the catalog alone (`missing.rs`).
//!
//! A DELETE that leaves rows in a file makes `DuckLake` write a delete file, which its error path
//! removes when a COMMIT's answer is lost: every read of the table would fail from then on. So files
//! that hold other rows too are written anew without the removed rows, and every file that the
//! transaction touches ends as a whole (invariant I11).
//!
//! Killed anywhere, it leaves the old state or the new one, and perhaps files nobody knows of.

mod files;
mod history;
pub mod missing;
mod plan;
mod request;
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

/// How long the maintenance lock is waited for before the intent is renewed.
const LOCK_SLICE: Duration = Duration::from_secs(5);

/// How far behind an offset a record still tells the offset's time.
const NEARBY: i64 = 10_000;

/// What a replay would change; nothing is written or locked.
pub fn plan_replay(lake: &mut DuckLake, request: &ReplayRequest) -> Result<ReplaySummary> {
    plan(lake, request).map(|(summary, _)| summary)
}

/// The missing files of the tables that a source fills, and from where a replay covers them.
///
/// An error of kind [`Invalid`](ducktide_protocol::ErrorKind::Invalid) says that no replay brings all of their
/// rows back.
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

/// Removes the rows behind the requested offsets and moves progress back to them.
///
/// An error of kind [`Invalid`](ducktide_protocol::ErrorKind::Invalid) says that nothing was changed. After
/// one of kind [`Unavailable`](ducktide_protocol::ErrorKind::Unavailable) the same request may be made again.
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
        tracing::warn!(error, %expires_at, "the replay's intent stays until it expires");
    }
    if let Err(error) = &done {
        lake.note_error(&error.chain());
    }
    done
}

fn replay_announced(
    lake: &mut DuckLake,
    request: &ReplayRequest,
    targets: Vec<files::Target>,
    missing: MissingFiles,
    intent: &mut Intent,
) -> Result<ReplaySummary> {
    let (session, commit_lock, maintenance_lock) = lake.session_and_locks()?;
    let deadline = Instant::now() + request.lock_timeout;
    // In slices, so that the intent does not expire meanwhile: it is short, since one that a
    // killed replay leaves behind keeps the next replay out.
    let slice = LOCK_SLICE.min(request.max_transaction / 2);
    let _guard = loop {
        intent.expires_at = Timestamp::now() + request.max_transaction;
        intent::renew(session, intent)?;
        if let Some(guard) = maintenance_lock.take(slice)? {
            break guard;
        }
        if Instant::now() >= deadline {
            return Err(LakeError::unavailable(
                "a compactor's operation holds the maintenance lock; try again",
            ));
        }
    };
    let mut replay = Replay::new(session, request, targets, missing);
    replay.end_missing(intent, commit_lock)?;
    replay.prepare(intent)?;
    replay.run(intent, commit_lock)
}

/// The first offset that each partition of a source ever had.
pub fn first_offsets(lake: &mut DuckLake, source: SourceId) -> Result<Vec<(Partition, Offset)>> {
    ledger::first_offsets(lake.session()?, source)
}

/// When Kafka got the first record at or shortly behind an offset, as the table has it.
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
    let rows = match lake.session()?.rows(&sql) {
        Ok(rows) => rows,
        // A file is missing: the files' statistics tell a time that is not later.
        Err(error) => {
            tracing::debug!(%error, "read a record's time from the catalog");
            let sql = missing::least_time_sql(lake.session()?, &source.spec.table, offset);
            let rows = lake.session()?.rows(&sql);
            rows.map_err(|error| duckdb_error::failed("read a record's time", error))?
        }
    };
    let time = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
    Ok(time.and_then(|ms| Timestamp::from_millisecond(ms).ok()))
}

fn newest_snapshot(lake: &mut DuckLake) -> Result<SnapshotId> {
    Ok(lake.overview()?.snapshots.newest)
}

/// Who announces an intent, for people: two replays never have the same.
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "this host" } else { host.trim() };
    let number = uuid::Uuid::new_v4().simple().to_string();
    format!("{host} pid {} ({})", std::process::id(), &number[..8])
}
