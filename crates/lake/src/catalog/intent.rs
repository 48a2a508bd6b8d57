//! Intents: what an operator's program announces before it takes rows out of a table.
//!
//! | kind | compactor | workers |
//! |---|---|---|
//! | `prepare` | leaves the table alone | go on |
//! | `replay` | leaves the table alone | wait with commits to the table |
//!
//! One for each source at most, so the second of two racing replays is refused. A program that dies
//! leaves its intent behind until it expires.

use std::time::{Duration, Instant};

use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::{SnapshotId, SourceId};
use jiff::Timestamp;

use crate::duck_lake::DuckLake;
use crate::duckdb_error::{failed, is_outage};
use crate::rows::IntentRow;
use crate::session::{Session, quote};

/// Between two looks of a waiting worker, or two tries at a busy catalog.
const POLL: Duration = Duration::from_millis(100);

/// How long a commit waits for replays at most, whatever they say and whatever the time is here: the
/// clock of a worker that lives in the past would have it wait for days. Twice the default of
/// `--max-transaction`.
pub const LONGEST_WAIT: Duration = Duration::from_mins(2);

/// How long a busy catalog is tried: commits take milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentKind {
    /// Files are being rewritten, outside of the lake so far.
    Prepare,
    /// The transaction that removes rows is under way.
    Replay,
}

impl IntentKind {
    /// The name that stands in the catalog.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Replay => "replay",
        }
    }
}

/// An announced replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The source that is replayed.
    pub source: SourceId,
    /// Its table, with the schema.
    pub table: String,
    /// How far the replay is.
    pub kind: IntentKind,
    /// Host and process, for people.
    pub holder: String,
    /// When everybody goes on without waiting any longer.
    pub expires_at: Timestamp,
    /// The newest snapshot that shows what was before.
    pub keep_snapshots_from: SnapshotId,
}

impl Intent {
    fn of_row(row: IntentRow) -> Self {
        Self {
            source: row.source_id,
            table: row.table_name,
            // Whatever a later version announces is waited for as well.
            kind: match row.kind.as_str() {
                "prepare" => IntentKind::Prepare,
                _ => IntentKind::Replay,
            },
            holder: row.holder,
            expires_at: row.expires_at,
            keep_snapshots_from: row.keep_snapshots_from,
        }
    }

    fn to_row(&self) -> IntentRow {
        IntentRow {
            source_id: self.source,
            table_name: self.table.clone(),
            kind: self.kind.as_str().to_owned(),
            holder: self.holder.clone(),
            expires_at: self.expires_at,
            keep_snapshots_from: self.keep_snapshots_from,
        }
    }

    /// Whether it is still to be waited for.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }
}

impl DuckLake {
    /// The intents that are announced and not expired.
    pub fn live_intents(&mut self) -> Result<Vec<Intent>> {
        live_intents(self.session()?)
    }

    /// Announces an intent; refused while another of the same source is live.
    pub fn announce(&mut self, intent: &Intent) -> Result<()> {
        announce(self.session()?, intent)
    }

    /// Changes kind and expiry of an intent: the removal begins, or takes longer.
    pub fn renew(&mut self, intent: &Intent) -> Result<()> {
        renew(self.session()?, intent)
    }

    /// Takes an intent back.
    pub fn withdraw(&mut self, intent: &Intent) -> Result<()> {
        withdraw(self.session()?, intent)
    }
}

/// All intents, live or not.
fn intents(session: &Session) -> Result<Vec<Intent>> {
    let rows = session.select::<IntentRow>("ORDER BY source_id")?;
    Ok(rows.into_iter().map(Intent::of_row).collect())
}

/// Those that are to be waited for.
pub fn live_intents(session: &Session) -> Result<Vec<Intent>> {
    let now = Timestamp::now();
    Ok(intents(session)?.into_iter().filter(|intent| intent.is_live(now)).collect())
}

/// Announces an intent; refused while another of the same source is live.
fn announce(session: &Session, intent: &Intent) -> Result<()> {
    let other = |of: &&Intent| of.source == intent.source;
    let found = intents(session)?;
    let found = found.iter().find(other);
    if let Some(live) = found.filter(|other| other.is_live(Timestamp::now())) {
        return Err(under_way(live));
    }
    if let Some(dead) = found {
        withdraw(session, dead)?;
    }
    let insert = session.insert_sql(&intent.to_row());
    let inserted = patiently(session, &insert);
    inserted.map_err(|error| {
        // The primary key decides between two that announce at the same moment.
        let winner =
            live_intents(session).ok().and_then(|live| live.into_iter().find(|i| other(&i)));
        match winner {
            Some(live) => under_way(&live),
            None => failed("announce the replay", error),
        }
    })
}

fn under_way(live: &Intent) -> LakeError {
    LakeError::unavailable(format!(
        "another replay of the same source is under way, or was killed and has not expired yet; try \
         again after that: \
         table=`{}` holder=`{}` expires_at=`{}`",
        live.table, live.holder, live.expires_at
    ))
}

/// Says that the removal begins, or takes longer: kind and expiry change.
pub fn renew(session: &Session, intent: &Intent) -> Result<()> {
    patiently(
        session,
        &format!(
            "UPDATE {} SET kind = {}, expires_at = {} WHERE {}",
            session.catalog_table("ducktide_intent"),
            quote(intent.kind.as_str()),
            quote(&intent.expires_at.to_string()),
            own(intent)
        ),
    )
    .map_err(|error| failed("renew the replay's intent", error))
}

/// Takes an intent back.
fn withdraw(session: &Session, intent: &Intent) -> Result<()> {
    patiently(
        session,
        &format!("DELETE FROM {} WHERE {}", session.catalog_table("ducktide_intent"), own(intent)),
    )
    .map_err(|error| failed("withdraw the replay's intent", error))
}

/// Repeats a small statement while the catalog is busy: a SQLite file that somebody else writes to is
/// "locked" at once, not after a while.
pub fn patiently(session: &Session, sql: &str) -> duckdb::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match session.execute(sql) {
            Err(error) if is_outage(&error.to_string()) && Instant::now() < deadline => {
                std::thread::sleep(POLL);
            }
            done => return done,
        }
    }
}

fn own(intent: &Intent) -> String {
    format!("source_id = {} AND holder = {}", intent.source, quote(&intent.holder))
}

/// Whether a replay that concerns the caller removes rows now.
pub fn is_replay_announced(session: &Session, concerns: impl Fn(&Intent) -> bool) -> Result<bool> {
    let replays = |intent: &Intent| intent.kind == IntentKind::Replay && concerns(intent);
    Ok(live_intents(session)?.iter().any(replays))
}

/// Waits until no replay that concerns the caller is announced; for each at most until it expires.
pub fn await_replays(
    session: &Session,
    deadline: Instant,
    concerns: impl Fn(&Intent) -> bool,
) -> Result<()> {
    tracing::info!("a replay of the table is announced, the commit waits for it");
    while Instant::now() < deadline && is_replay_announced(session, &concerns)? {
        std::thread::sleep(POLL);
    }
    Ok(())
}
