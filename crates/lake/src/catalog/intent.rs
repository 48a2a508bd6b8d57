//! Intents: announcements of a program that is about to remove rows from a table.
//!
//! | kind | compactor | workers |
//! |---|---|---|
//! | `prepare` | skips the table | continue |
//! | `replay` | skips the table | delay commits to the table |
//!
//! A source has at most one intent, so the second of two concurrent replays is rejected. The intent of
//! a program that dies remains until it expires.

use std::time::{Duration, Instant};

use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::{SnapshotId, SourceId};
use jiff::Timestamp;

use super::client::CatalogClient;
use crate::duckdb_error::{failed, is_outage};
use crate::rows::IntentRow;
use crate::session::Session;
use crate::sql_text::quote;

/// Time between two polls of a waiting worker, or two attempts at a busy catalog.
const POLL: Duration = Duration::from_millis(100);

/// Longest time that a commit waits for replays, regardless of their expiry and of the local clock: a
/// worker whose clock is late would wait for days. Twice the default of `--max-transaction`.
pub const LONGEST_WAIT: Duration = Duration::from_mins(2);

/// Longest time to retry a statement on a busy catalog: commits take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Phase of an announced replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentKind {
    /// The program rewrites files that are not registered in the lake yet.
    Prepare,
    /// The transaction that removes rows is in progress.
    Replay,
}

impl IntentKind {
    /// Returns the name that the catalog stores.
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
    /// Table of the source, with its schema.
    pub table: String,
    /// Phase of the replay.
    pub kind: IntentKind,
    /// Host and process of the program, for operators.
    pub holder: String,
    /// Time after which no client waits for the replay.
    pub expires_at: Timestamp,
    /// Newest snapshot from before the replay.
    pub keep_snapshots_from: SnapshotId,
}

impl Intent {
    fn of_row(row: IntentRow) -> Self {
        Self {
            source: row.source_id,
            table: row.table_name,
            // Kinds of later versions are waited for as well.
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

    /// Returns true if the intent has not expired.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }
}

/// Returns all intents, live or expired.
fn intents(catalog: &impl CatalogClient) -> Result<Vec<Intent>> {
    let rows = catalog.select::<IntentRow>("ORDER BY source_id")?;
    Ok(rows.into_iter().map(Intent::of_row).collect())
}

/// Returns the intents that have not expired.
pub fn live_intents(catalog: &impl CatalogClient) -> Result<Vec<Intent>> {
    let now = Timestamp::now();
    Ok(intents(catalog)?.into_iter().filter(|intent| intent.is_live(now)).collect())
}

/// Announces an intent. Fails while another intent of the same source is live.
pub(crate) fn announce(session: &Session, intent: &Intent) -> Result<()> {
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
    let inserted = execute_with_retry(session, &insert);
    inserted.map_err(|error| {
        // The primary key decides between two concurrent announcements.
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
        "another replay of the same source is in progress, or was killed and has not expired yet; \
         retry after its expiry: \
         table=`{}` holder=`{}` expires_at=`{}`",
        live.table, live.holder, live.expires_at
    ))
}

/// Updates kind and expiry of an intent, when the removal begins or takes longer.
pub fn renew(session: &Session, intent: &Intent) -> Result<()> {
    execute_with_retry(
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

/// Deletes an intent.
pub(crate) fn withdraw(session: &Session, intent: &Intent) -> Result<()> {
    execute_with_retry(
        session,
        &format!("DELETE FROM {} WHERE {}", session.catalog_table("ducktide_intent"), own(intent)),
    )
    .map_err(|error| failed("withdraw the replay's intent", error))
}

/// Retries a small statement while the catalog is busy: a SQLite file that another client writes to is
/// "locked" immediately, without a wait.
pub(crate) fn execute_with_retry(session: &Session, sql: &str) -> duckdb::Result<()> {
    let deadline = Instant::now() + BUSY_TIMEOUT;
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

/// Returns true if a replay that concerns the caller is removing rows.
pub fn is_replay_announced(
    catalog: &impl CatalogClient,
    concerns: impl Fn(&Intent) -> bool,
) -> Result<bool> {
    let replays = |intent: &Intent| intent.kind == IntentKind::Replay && concerns(intent);
    Ok(live_intents(catalog)?.iter().any(replays))
}

/// Waits until no replay that concerns the caller is announced, at most until `deadline`; an expired
/// intent does not count.
pub fn await_replays(
    catalog: &impl CatalogClient,
    deadline: Instant,
    concerns: impl Fn(&Intent) -> bool,
) -> Result<()> {
    tracing::info!("a replay of the table is announced, the commit waits for it");
    while Instant::now() < deadline && is_replay_announced(catalog, &concerns)? {
        std::thread::sleep(POLL);
    }
    Ok(())
}
