//! Snapshots that time travel can read, and the changes of each.

use std::collections::BTreeMap;

use ducktide_protocol::error::Result;
use ducktide_protocol::position::SnapshotId;
use jiff::Timestamp;

use crate::catalog::client::CatalogClient as _;
use crate::duck_lake::DuckLake;
use crate::session::Session;

/// Snapshot of the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// ID of the snapshot, for `AT (VERSION => …)`.
    pub id: SnapshotId,
    /// Commit time.
    pub committed_at: Timestamp,
    /// Author of the commit; empty if none was set.
    pub author: String,
    /// Message of the commit; empty if none was set.
    pub message: String,
    /// Changes with their tables, such as `inserted into main.events`.
    pub changes: Vec<String>,
}

impl DuckLake {
    /// Returns at most `limit` of the newest snapshots, newest first.
    pub fn snapshots(&mut self, limit: u64) -> Result<Vec<Snapshot>> {
        let session = self.session()?;
        let names = names(session)?;
        let sql = format!(
            "SELECT s.snapshot_id, s.snapshot_time, c.author, c.commit_message, c.changes_made \
             FROM {} s LEFT JOIN {} c ON c.snapshot_id = s.snapshot_id \
             ORDER BY s.snapshot_id DESC LIMIT {limit}",
            session.native_table("ducklake_snapshot"),
            session.native_table("ducklake_snapshot_changes"),
        );
        let rows: Vec<CommittedSnapshot> = session.catalog_query(&sql)?;
        Ok(rows.into_iter().map(|row| row.describe(&names)).collect())
    }
}

crate::row_struct! {
    struct CommittedSnapshot {
        snapshot_id: SnapshotId,
        snapshot_time: Timestamp,
        author: Option<String>,
        commit_message: Option<String>,
        changes_made: Option<String>,
    }
}

impl CommittedSnapshot {
    fn describe(self, names: &BTreeMap<String, String>) -> Snapshot {
        Snapshot {
            id: self.snapshot_id,
            committed_at: self.snapshot_time,
            author: self.author.unwrap_or_default(),
            message: self.commit_message.unwrap_or_default(),
            changes: describe(&self.changes_made.unwrap_or_default(), names),
        }
    }
}

crate::row_struct! {
    struct TableNameRow {
        table_id: String,
        schema_name: String,
        table_name: String,
    }
}

/// Returns the table names by table ID. A renamed table has its latest name.
fn names(session: &Session) -> Result<BTreeMap<String, String>> {
    let sql = format!(
        "SELECT t.table_id, s.schema_name, t.table_name FROM {} t JOIN {} s \
         ON s.schema_id = t.schema_id ORDER BY t.begin_snapshot, s.begin_snapshot",
        session.native_table("ducklake_table"),
        session.native_table("ducklake_schema"),
    );
    let rows: Vec<TableNameRow> = session.catalog_query(&sql)?;
    let name =
        |row: TableNameRow| (row.table_id, format!("{}.{}", row.schema_name, row.table_name));
    Ok(rows.into_iter().map(name).collect())
}

/// Returns readable text for each of DuckLake's changes, which have the form
/// `inserted_into_table:2,created_table:"main"."events"`.
fn describe(changes: &str, names: &BTreeMap<String, String>) -> Vec<String> {
    let words = |change: &str| {
        let (kind, what) = change.split_once(':').unwrap_or((change, ""));
        let kind = match kind {
            "merge_adjacent" => "merged".to_owned(),
            "rewrite_delete" => "rewrote".to_owned(),
            other => other.replace('_', " "),
        };
        let kind = kind.strip_suffix(" table").unwrap_or(&kind);
        match names.get(what) {
            Some(name) => format!("{kind} {name}"),
            None if what.parse::<i64>().is_ok() => format!("{kind} table {what}"),
            None => format!("{kind} {}", what.replace('"', "")),
        }
    };
    split(changes).into_iter().map(words).map(|text| text.trim().to_owned()).collect()
}

/// Splits a list of changes at the commas outside of quoted names.
fn split(changes: &str) -> Vec<&str> {
    let mut is_quoted = false;
    let at_comma = |c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    };
    changes.split(at_comma).filter(|change| !change.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_include_table_names() {
        let names = BTreeMap::from([("2".to_owned(), "main.events".to_owned())]);
        let changes = "inserted_into_table:2,deleted_from_table:7,merge_adjacent:2,created_table:\"main\".\"a,b\"";

        let told = describe(changes, &names);

        assert_eq!(
            told,
            [
                "inserted into main.events",
                "deleted from table 7",
                "merged main.events",
                "created main.a,b"
            ]
        );
        assert_eq!(describe("", &names), [] as [String; 0]);
    }
}
