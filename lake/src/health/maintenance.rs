//! When maintenance last ran.

use jiff::Timestamp;
use serde::Deserialize;

use crate::error::Result;
use crate::session::Session;

/// Before the name of an operation in the keys of `ducktide_meta`.
const PREFIX: &str = "maintenance.";

/// The last time that one kind of maintenance ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastMaintenance {
    /// The operation, by its name in DuckLake's SQL where it has one.
    pub kind: String,
    /// When it ended.
    pub at: Timestamp,
    /// How many files, snapshots or rows it merged, expired or removed.
    pub done: u64,
}

#[derive(Deserialize)]
struct Record {
    at: String,
    done: u64,
}

/// The records in the order of their kinds. One that cannot be read is as good as none.
pub(super) fn last(session: &Session) -> Result<Vec<LastMaintenance>> {
    let sql = format!(
        "SELECT key, value FROM {} WHERE key LIKE '{PREFIX}%' ORDER BY key",
        session.native_table("ducktide_meta")
    );
    Ok(session.catalog_rows(&sql)?.into_iter().filter_map(last_of_row).collect())
}

fn last_of_row(row: Vec<Option<String>>) -> Option<LastMaintenance> {
    let mut values = row.into_iter();
    let kind = values.next()??.strip_prefix(PREFIX)?.to_owned();
    let Record { at, done } = serde_json::from_str(&values.next()??).ok()?;
    Some(LastMaintenance { kind, at: at.parse().ok()?, done })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_cannot_be_read_is_as_good_as_none() {
        let row = |value: &str| {
            last_of_row(vec![
                Some("maintenance.expire_snapshots".to_owned()),
                Some(value.to_owned()),
            ])
        };

        let expected = LastMaintenance {
            kind: "expire_snapshots".to_owned(),
            at: "2026-11-01T12:00:00Z".parse().unwrap(),
            done: 7,
        };
        assert_eq!(row(r#"{"at":"2026-11-01T12:00:00Z","done":7,"later":1}"#), Some(expected));
        assert_eq!(row(r#"{"at":"yesterday","done":7}"#), None);
        assert_eq!(row("soon"), None);
    }
}
