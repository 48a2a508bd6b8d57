//! Pins: snapshots that an operator wants to stay readable, by name; and everything else that keeps
//! snapshots from being expired.
//!
//! `DuckLake` has no named snapshots: a pin is a rule of Ducktide's own expiry. Since a data file goes
//! only when no snapshot needs it, and snapshots expire from the oldest on, a pin keeps every newer
//! snapshot too.

use std::fmt;
use std::time::Duration;

use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::SnapshotId;
use jiff::Timestamp;

use super::{intent, parse};
use crate::duck_lake::DuckLake;
use crate::duckdb_error;
use crate::overview::parse_time;
use crate::session::{Session, quote};

/// The longest name of a pin, characters.
const LONGEST_NAME: usize = 100;

/// A snapshot that is kept until it is unpinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// What an operator calls it.
    pub name: String,
    /// The oldest snapshot that it keeps.
    pub snapshot: SnapshotId,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Who wants old snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeper {
    /// An operator, by a pin of this name.
    Pin(String),
    /// A replay of this table that is announced.
    AnnouncedReplay(String),
    /// A replay of this table whose partitions are not past their old end again.
    UnfinishedReplay(String),
}

impl fmt::Display for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin(name) => write!(f, "pin `{name}`"),
            Self::AnnouncedReplay(table) => write!(f, "announced replay of {table}"),
            Self::UnfinishedReplay(table) => write!(f, "replay of {table} that is not read again"),
        }
    }
}

/// A snapshot that must stay readable with all newer ones, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The oldest one.
    pub from: SnapshotId,
    /// Who wants it.
    pub by: Keeper,
}

impl DuckLake {
    /// All pins, the oldest snapshot first.
    pub fn pins(&mut self) -> Result<Vec<Pin>> {
        pins(self.session()?)
    }

    /// Keeps a snapshot, or the newest one, until it is unpinned.
    ///
    /// Waits at most `timeout` for the maintenance lock: no snapshot expires while a pin is made, so
    /// one that is pinned is there.
    pub fn pin(
        &mut self,
        name: &str,
        snapshot: Option<SnapshotId>,
        timeout: Duration,
    ) -> Result<Pin> {
        check_name(name)?;
        let (session, _, lock) = self.session_and_locks()?;
        let Some(_guard) = lock.take(timeout)? else {
            return Err(LakeError::unavailable(
                "an operation of a compactor, or a replay, holds the maintenance lock; try again",
            ));
        };
        let pinned = pin(session, name, snapshot)?;
        // The lock is not what it was if its connection broke meanwhile: then an expiry may have
        // come between.
        if !has_snapshot(session, pinned.snapshot)? {
            unpin(session, name)?;
            return Err(no_such_snapshot(pinned.snapshot));
        }
        Ok(pinned)
    }

    /// Takes a pin away; returns what it was.
    pub fn unpin(&mut self, name: &str) -> Result<Pin> {
        let session = self.session()?;
        let pin = pins(session)?.into_iter().find(|pin| pin.name == name);
        let pin =
            pin.ok_or_else(|| LakeError::invalid(format!("there is no such pin: name=`{name}`")))?;
        unpin(session, name).map(|()| pin)
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '\'' | '"' | '`' | '\\');
    if !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(LakeError::invalid(format!(
        "a pin's name has 1 to {LONGEST_NAME} letters, digits or signs, no spaces or quotes: \
         name=`{}`",
        name.escape_debug()
    )))
}

fn pins(session: &Session) -> Result<Vec<Pin>> {
    let sql = format!(
        "SELECT name, snapshot_id, created_at FROM {} ORDER BY snapshot_id, name",
        session.native_table("ducktide_pin")
    );
    let pin = |row: Vec<Option<String>>| {
        let mut values = row.into_iter();
        let mut next = || values.next().flatten();
        Ok(Pin {
            name: next().unwrap_or_default(),
            snapshot: SnapshotId(parse(next())?),
            created_at: parse_time(&next().unwrap_or_default())?,
        })
    };
    session.catalog_rows(&sql)?.into_iter().map(pin).collect()
}

fn pin(session: &Session, name: &str, snapshot: Option<SnapshotId>) -> Result<Pin> {
    if let Some(taken) = pins(session)?.into_iter().find(|pin| pin.name == name) {
        return Err(LakeError::invalid(format!(
            "the name is taken; choose another, or unpin it first: name=`{name}` snapshot=`{}`",
            taken.snapshot
        )));
    }
    let snapshot = match snapshot {
        Some(wanted) if has_snapshot(session, wanted)? => wanted,
        Some(unknown) => return Err(no_such_snapshot(unknown)),
        None => newest_snapshot(session)?,
    };
    let pin = Pin { name: name.to_owned(), snapshot, created_at: Timestamp::now() };
    let insert = format!(
        "INSERT INTO {}(name, snapshot_id, created_at) VALUES ({}, {snapshot}, {})",
        session.catalog_table("ducktide_pin"),
        quote(name),
        quote(&pin.created_at.to_string())
    );
    intent::patiently(session, &insert)
        .map_err(|error| duckdb_error::failed("write the pin", error))?;
    Ok(pin)
}

fn unpin(session: &Session, name: &str) -> Result<()> {
    let table = session.catalog_table("ducktide_pin");
    intent::patiently(session, &format!("DELETE FROM {table} WHERE name = {}", quote(name)))
        .map_err(|error| duckdb_error::failed("remove the pin", error))
}

fn newest_snapshot(session: &Session) -> Result<SnapshotId> {
    let snapshots = session.native_table("ducklake_snapshot");
    let sql = format!("SELECT max(snapshot_id) AS newest FROM {snapshots}");
    parse(session.catalog_value(&sql)?).map(SnapshotId)
}

fn has_snapshot(session: &Session, snapshot: SnapshotId) -> Result<bool> {
    let snapshots = session.native_table("ducklake_snapshot");
    let sql = format!("SELECT snapshot_id FROM {snapshots} WHERE snapshot_id = {snapshot}");
    Ok(!session.catalog_rows(&sql)?.is_empty())
}

fn no_such_snapshot(snapshot: SnapshotId) -> LakeError {
    LakeError::invalid(format!(
        "there is no such snapshot, or it has expired; `ducktide snapshots list` has those that are \
         there: snapshot=`{snapshot}`"
    ))
}

/// What keeps the oldest snapshot that must stay readable, if there is one: an announced replay, a
/// pin, or a replay whose partitions are not past their old end again.
///
/// A replay's old end is in its ledger row (`from_offset`); once a later range reaches it, the rows
/// that it took out are back.
pub fn kept(session: &Session) -> Result<Option<Kept>> {
    let announced = intent::live_intents(session)?.into_iter().map(|intent| Kept {
        from: intent.keep_snapshots_from,
        by: Keeper::AnnouncedReplay(intent.table),
    });
    let pinned = pins(session)?
        .into_iter()
        .map(|pin| Kept { from: pin.snapshot, by: Keeper::Pin(pin.name) });
    let unfinished = unfinished_replays(session)?;
    Ok(pinned.chain(announced).chain(unfinished).min_by_key(|kept| kept.from))
}

fn unfinished_replays(session: &Session) -> Result<Vec<Kept>> {
    let ledger = session.native_table("ducktide_ledger");
    let sql = format!(
        "SELECT coalesce(s.table_name, '') AS table_name, min(r.snapshot_id) - 1 AS oldest \
         FROM {ledger} r LEFT JOIN {sources} s ON s.source_id = r.source_id \
         WHERE r.kind = 'replay' AND r.snapshot_id IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM {ledger} l WHERE l.source_id = r.source_id \
           AND l.partition = r.partition AND l.ledger_id > r.ledger_id AND l.to_offset >= r.from_offset) \
         GROUP BY s.table_name",
        sources = session.native_table("ducktide_source"),
    );
    let kept = |row: Vec<Option<String>>| {
        let mut values = row.into_iter();
        let table = values.next().flatten().unwrap_or_default();
        let from = SnapshotId(parse(values.next().flatten())?);
        Ok(Kept { from, by: Keeper::UnfinishedReplay(table) })
    };
    session.catalog_rows(&sql)?.into_iter().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_shell_or_a_table_would_garble_is_refused() {
        for name in ["audit-2026", "before/upgrade"] {
            check_name(name).unwrap();
        }
        for name in ["", "two words", "it's", "a\nb", &"x".repeat(101)] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.contains("a pin's name has"), "{error}");
        }
    }

    #[test]
    fn a_keeper_says_who_it_is() {
        assert_eq!(Keeper::Pin("audit".to_owned()).to_string(), "pin `audit`");
        let replay = Keeper::AnnouncedReplay("main.events".to_owned());
        assert_eq!(replay.to_string(), "announced replay of main.events");
    }
}
