//! `ducktide snapshots list`.

use std::io::{self, Write as _};

use clap::Args;
use ducktide_lake::config::LakeArgs;
use ducktide_lake::{Access, DuckLake, Pin, RetentionHold, Snapshot};
use ducktide_service::units;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde::Serialize;

use crate::failure::Failure;
use ducktide_service::text_table::{Align, TextTable};

const NOTES: &str = "\
Examples:
  # the newest 20
  ducktide snapshots list

  # all of them, for a program
  ducktide snapshots list --limit 1000000 --json | jq '.snapshots[].snapshot_id'

JSON, times in UTC, null if unknown; fields may be added:
  count        number of all snapshots of the lake
  kept_from    the oldest snapshot that a pin or a replay keeps, or null
  kept_by      that pin or replay, or null
  snapshots[]  snapshot_id, committed_at, author, message, changes[], pins[]; the newest first
  pins[]       name, snapshot_id, created_at, of all pins

Exit codes: 0 done, 2 wrong command line, 3 the lake is unavailable, 4 the lake cannot be used.";

/// Lists snapshots, the newest first, with time, author, changes and pins.
///
/// `AT (VERSION => …)` and `table_changes` take the number of a snapshot.
#[derive(Args, Clone, Debug)]
#[command(after_help = NOTES)]
pub struct ListArgs {
    /// Maximum number of snapshots to list, the newest first.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

#[derive(Serialize)]
struct SnapshotList {
    count: u64,
    kept_from: Option<i64>,
    kept_by: Option<String>,
    snapshots: Vec<SnapshotItem>,
    pins: Vec<PinItem>,
}

#[derive(Serialize)]
struct SnapshotItem {
    snapshot_id: i64,
    committed_at: String,
    author: String,
    message: String,
    changes: Vec<String>,
    pins: Vec<String>,
}

#[derive(Serialize)]
struct PinItem {
    name: String,
    snapshot_id: i64,
    created_at: String,
}

pub(super) fn run(args: &ListArgs) -> Result<(), Failure> {
    let mut lake = DuckLake::open(&args.lake.resolve()?, Access::Read)?;
    let snapshots = lake.snapshots(args.limit.into())?;
    let count = lake.overview()?.snapshots.count;
    let list = SnapshotList::new(
        count,
        snapshots,
        &lake.pins()?,
        ducktide_maintenance::kept_snapshots(&mut lake)?,
    );
    let mut out = io::stdout().lock();
    out.write_all(if args.json { json(&list) } else { text(&list) }.as_bytes())?;
    Ok(out.flush()?)
}

impl SnapshotList {
    fn new(
        count: u64,
        snapshots: Vec<Snapshot>,
        pins: &[Pin],
        kept: Option<RetentionHold>,
    ) -> Self {
        let item = |snapshot: Snapshot| SnapshotItem {
            snapshot_id: snapshot.id.0,
            committed_at: time(snapshot.committed_at),
            author: snapshot.author,
            message: snapshot.message,
            changes: snapshot.changes,
            pins: pin_names(pins, snapshot.id.0),
        };
        Self {
            count,
            kept_from: kept.as_ref().map(|kept| kept.from.0),
            kept_by: kept.map(|kept| kept.by.to_string()),
            snapshots: snapshots.into_iter().map(item).collect(),
            pins: pins.iter().map(PinItem::from).collect(),
        }
    }
}

fn pin_names(pins: &[Pin], snapshot: i64) -> Vec<String> {
    let matching = pins.iter().filter(|pin| pin.snapshot.0 == snapshot);
    matching.map(|pin| pin.name.clone()).collect()
}

impl From<&Pin> for PinItem {
    fn from(pin: &Pin) -> Self {
        let created_at = time(pin.created_at);
        Self { name: pin.name.clone(), snapshot_id: pin.snapshot.0, created_at }
    }
}

/// Formats a time in milliseconds, which suffice to distinguish commits.
fn time(at: Timestamp) -> String {
    let round = TimestampRound::new().smallest(Unit::Millisecond).mode(RoundMode::Trunc);
    at.round(round).unwrap_or(at).to_string()
}

fn json(list: &SnapshotList) -> String {
    serde_json::to_string_pretty(list).expect("numbers and texts always serialize") + "\n"
}

fn text(list: &SnapshotList) -> String {
    let mut table = TextTable::with_columns(&[
        ("snapshot", Align::Right),
        ("committed at", Align::Left),
        ("author", Align::Left),
        ("message", Align::Left),
        ("changes", Align::Left),
        ("pins", Align::Left),
    ]);
    for item in &list.snapshots {
        table.push(vec![
            item.snapshot_id.to_string(),
            item.committed_at.clone(),
            item.author.clone(),
            item.message.clone(),
            item.changes.join(", "),
            item.pins.join(" "),
        ]);
    }
    let listed = units::count(table.len() as u64, "snapshot");
    let all = units::number(list.count);
    format!("{}\n{listed} listed of {all}\n{}", table.to_text(), retention_holds(list))
}

/// Returns the pins of snapshots that are not listed, and the reason why old snapshots are kept.
fn retention_holds(list: &SnapshotList) -> String {
    let is_listed =
        |pin: &&PinItem| list.snapshots.iter().any(|s| s.snapshot_id == pin.snapshot_id);
    let others = list.pins.iter().filter(|pin| !is_listed(pin));
    let others = others.map(|pin| format!("pin `{}`: snapshot {}\n", pin.name, pin.snapshot_id));
    let kept = list.kept_from.zip(list.kept_by.as_ref());
    let kept = kept.map(|(from, by)| format!("kept from snapshot {from}: {by}\n"));
    others.chain(kept).collect()
}

#[cfg(test)]
mod tests {
    use ducktide_lake::HoldReason;
    use ducktide_protocol::position::SnapshotId;

    use super::*;

    fn list() -> SnapshotList {
        let at: Timestamp = "2026-11-25T10:00:00.123456Z".parse().unwrap();
        let snapshot = |id| Snapshot {
            id: SnapshotId(id),
            committed_at: at,
            author: "ducktide-consumer".to_owned(),
            message: "ingest".to_owned(),
            changes: vec!["inserted into main.events".to_owned()],
        };
        let pin = |name: &str, id| Pin {
            name: name.to_owned(),
            snapshot: SnapshotId(id),
            created_at: at,
        };
        let kept = RetentionHold { from: SnapshotId(3), by: HoldReason::Pin("old".to_owned()) };
        let pins = vec![pin("old", 3), pin("audit", 8)];
        SnapshotList::new(1234, vec![snapshot(9), snapshot(8)], &pins, Some(kept))
    }

    #[test]
    fn snapshots_are_listed_with_pins_and_the_reason_why_old_ones_are_kept() {
        let text = text(&list());

        let pinned = "8  2026-11-25T10:00:00.123Z  ducktide-consumer  ingest   inserted into \
                      main.events  audit";
        assert!(text.contains(pinned), "{text}");
        assert!(text.contains("2 snapshots listed of 1,234\n"), "{text}");
        assert!(text.contains("pin `old`: snapshot 3\n"), "its snapshot is not listed: {text}");
        assert!(text.ends_with("kept from snapshot 3: pin `old`\n"), "{text}");
    }

    #[test]
    fn json_has_pins_and_number_of_all_snapshots() {
        let json: serde_json::Value = serde_json::from_str(&json(&list())).unwrap();

        assert_eq!(json["snapshots"][1]["pins"][0], "audit");
        assert_eq!((&json["kept_from"], &json["count"]), (&3.into(), &1234.into()));
        assert_eq!(json["pins"][0]["created_at"], "2026-11-25T10:00:00.123Z");
    }
}
