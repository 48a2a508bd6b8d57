//! What old snapshots are kept for.

use crate::catalog::{intent, parse};
use crate::error::Result;
use crate::position::SnapshotId;
use crate::session::Session;

/// Why snapshots are kept however old they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptBy {
    /// An operator's pin, by its name.
    Pin(String),
    /// A replay of the table that is announced.
    AnnouncedReplay(String),
    /// A replay of the table whose rows are not all back yet.
    UnfinishedReplay(String),
}

/// What keeps snapshots, and from which one on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// Why.
    pub by: KeptBy,
    /// The oldest snapshot that it needs.
    pub from: SnapshotId,
}

/// The keeper that reaches back furthest: the same as what expiry stops at.
pub(super) fn furthest_back(session: &Session) -> Result<Option<Keeper>> {
    let lasting = session.catalog_rows(&keepers_sql(session))?.into_iter().map(keeper_of_row);
    let mut keepers = lasting.collect::<Result<Vec<_>>>()?;
    keepers.extend(intent::live_intents(session)?.into_iter().map(|intent| Keeper {
        by: KeptBy::AnnouncedReplay(intent.table),
        from: intent.keep_snapshots_from,
    }));
    Ok(keepers.into_iter().min_by_key(|keeper| keeper.from))
}

/// Pins, and replays whose partitions are not past their old end again.
fn keepers_sql(session: &Session) -> String {
    let ledger = session.native_table("ducktide_ledger");
    format!(
        "SELECT 'pin' AS kind, name, snapshot_id FROM {pins} \
         UNION ALL SELECT 'replay', s.table_name, min(r.snapshot_id) - 1 \
         FROM {ledger} r JOIN {sources} s ON s.source_id = r.source_id \
         WHERE r.kind = 'replay' AND r.snapshot_id IS NOT NULL AND NOT EXISTS ( \
           SELECT 1 FROM {ledger} l WHERE l.source_id = r.source_id AND l.partition = r.partition \
           AND l.ledger_id > r.ledger_id AND l.to_offset >= r.from_offset) \
         GROUP BY s.table_name",
        pins = session.native_table("ducktide_pin"),
        sources = session.native_table("ducktide_source"),
    )
}

fn keeper_of_row(row: Vec<Option<String>>) -> Result<Keeper> {
    let mut values = row.into_iter();
    let mut next = || values.next().flatten();
    let kind = next();
    let name = next().unwrap_or_default();
    let by = match kind.as_deref() {
        Some("pin") => KeptBy::Pin(name),
        _ => KeptBy::UnfinishedReplay(name),
    };
    Ok(Keeper { by, from: SnapshotId(parse(next())?) })
}
