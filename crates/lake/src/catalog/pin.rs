//! Pins: named snapshots that an operator keeps readable; and all other reasons that prevent the expiry
//! of snapshots.
//!
//! `DuckLake` has no named snapshots: a pin is a rule of Ducktide's own expiry. A data file is
//! deleted only when no snapshot needs it, and the oldest snapshots expire first, so a pin keeps every
//! newer snapshot too.

use std::fmt;

use ducktide_protocol::commit::CommitKind;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_protocol::position::{SnapshotId, SourceId};
use jiff::Timestamp;

use super::ledger::{LedgerQuery, LedgerRow};
use super::{intent, sources};
use crate::catalog::client::CatalogClient as _;
use crate::duckdb_error;
use crate::rows::PinRow;
use crate::session::Session;
use crate::sql_text::quote;

/// Maximum length of a pin's name, in characters.
const LONGEST_NAME: usize = 100;

/// A snapshot that is kept until it is unpinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Name that an operator gave it.
    pub name: String,
    /// Oldest snapshot that it keeps.
    pub snapshot: SnapshotId,
    /// Time of its creation.
    pub created_at: Timestamp,
}

/// Reason to keep old snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// Pin with this name.
    Pin(String),
    /// Announced replay of this table.
    AnnouncedReplay(String),
    /// Replay of this table whose partitions have not reached their old end again.
    UnfinishedReplay(String),
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin(name) => write!(f, "pin `{name}`"),
            Self::AnnouncedReplay(table) => write!(f, "announced replay of {table}"),
            Self::UnfinishedReplay(table) => write!(f, "replay of {table} that is not read again"),
        }
    }
}

/// A snapshot that must stay readable with all newer ones, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionHold {
    /// Oldest snapshot to keep.
    pub from: SnapshotId,
    /// Reason to keep it.
    pub by: HoldReason,
}

/// Returns an error for a name with spaces, quotes or control characters, or of an invalid length.
pub(crate) fn check_name(name: &str) -> Result<()> {
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

/// Returns all pins, the oldest snapshot first.
pub(crate) fn pins(session: &Session) -> Result<Vec<Pin>> {
    let rows = session.select::<PinRow>("ORDER BY snapshot_id, name")?;
    let pin =
        |row: PinRow| Pin { name: row.name, snapshot: row.snapshot_id, created_at: row.created_at };
    Ok(rows.into_iter().map(pin).collect())
}

/// Inserts a pin of a snapshot, or of the newest one.
pub(crate) fn pin(session: &Session, name: &str, snapshot: Option<SnapshotId>) -> Result<Pin> {
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
    let row = PinRow { name: pin.name.clone(), snapshot_id: snapshot, created_at: pin.created_at };
    let insert = session.insert_sql(&row);
    intent::execute_with_retry(session, &insert)
        .map_err(|error| duckdb_error::failed("write the pin", error))?;
    Ok(pin)
}

/// Deletes a pin.
pub(crate) fn unpin(session: &Session, name: &str) -> Result<()> {
    let table = session.catalog_table("ducktide_pin");
    intent::execute_with_retry(
        session,
        &format!("DELETE FROM {table} WHERE name = {}", quote(name)),
    )
    .map_err(|error| duckdb_error::failed("remove the pin", error))
}

fn newest_snapshot(session: &Session) -> Result<SnapshotId> {
    let snapshots = session.native_table("ducklake_snapshot");
    let sql = format!("SELECT max(snapshot_id) AS newest FROM {snapshots}");
    session.catalog_scalar(&sql)
}

/// Returns true if the lake has the snapshot.
pub(crate) fn has_snapshot(session: &Session, snapshot: SnapshotId) -> Result<bool> {
    let snapshots = session.native_table("ducklake_snapshot");
    let sql = format!("SELECT snapshot_id FROM {snapshots} WHERE snapshot_id = {snapshot}");
    Ok(!session.catalog_values::<SnapshotId>(&sql)?.is_empty())
}

/// Returns the error for a snapshot that the lake does not have.
pub(crate) fn no_such_snapshot(snapshot: SnapshotId) -> LakeError {
    LakeError::invalid(format!(
        "there is no such snapshot, or it has expired; `ducktide snapshots list` has those that are \
         there: snapshot=`{snapshot}`"
    ))
}

/// Returns the hold on the oldest snapshot that must stay readable; None if there is no hold. It is an
/// announced replay, a pin, or a replay whose partitions have not reached their old end again.
///
/// A replay's old end is in its ledger row (`from_offset`); once a later range reaches it, the
/// removed rows are written again.
pub fn kept(session: &Session) -> Result<Option<RetentionHold>> {
    let announced = intent::live_intents(session)?.into_iter().map(|intent| RetentionHold {
        from: intent.keep_snapshots_from,
        by: HoldReason::AnnouncedReplay(intent.table),
    });
    let pinned = pins(session)?
        .into_iter()
        .map(|pin| RetentionHold { from: pin.snapshot, by: HoldReason::Pin(pin.name) });
    let unfinished = unfinished_replays(session)?;
    Ok(pinned.chain(announced).chain(unfinished).min_by_key(|kept| kept.from))
}

fn unfinished_replays(session: &Session) -> Result<Vec<RetentionHold>> {
    let ledger = session.native_table("ducktide_ledger");
    let is_unfinished = format!(
        "NOT EXISTS (SELECT 1 FROM {ledger} r WHERE r.source_id = l.source_id \
         AND r.partition = l.partition AND r.ledger_id > l.ledger_id AND r.to_offset >= l.from_offset)"
    );
    let replays = LedgerQuery::all()
        .of_kind(CommitKind::Replay)
        .filter("l.snapshot_id IS NOT NULL".to_owned())
        .filter(is_unfinished)
        .read(session)?;
    if replays.is_empty() {
        return Ok(Vec::new());
    }
    let sources = sources(session)?;
    let table = |of: SourceId| {
        let source = sources.iter().find(|source| source.id == of);
        source.map(|source| source.spec.table.to_string()).unwrap_or_default()
    };
    let kept = |row: &LedgerRow| {
        let snapshot = row.snapshot?;
        let by = HoldReason::UnfinishedReplay(table(row.step.source));
        // The last snapshot before the replay.
        Some(RetentionHold { from: SnapshotId(snapshot.0 - 1), by })
    };
    Ok(replays.iter().filter_map(kept).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_quotes_or_control_characters_is_rejected() {
        for name in ["audit-2026", "before/upgrade"] {
            check_name(name).unwrap();
        }
        for name in ["", "two words", "c'd", "a\nb", &"x".repeat(101)] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.contains("a pin's name has"), "{error}");
        }
    }

    #[test]
    fn a_hold_reason_is_displayed_with_its_name() {
        assert_eq!(HoldReason::Pin("audit".to_owned()).to_string(), "pin `audit`");
        let replay = HoldReason::AnnouncedReplay("main.events".to_owned());
        assert_eq!(replay.to_string(), "announced replay of main.events");
    }
}
