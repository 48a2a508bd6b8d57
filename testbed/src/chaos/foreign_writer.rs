//! Another client of the lake, with its own table: its rows must not change.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::fault::ForeignWrite;
use crate::duckdb_cli::Lake;

/// Table of the client.
const TABLE: &str = "foreign_writer";

/// Rows: ID and version.
type TableContent = BTreeMap<i64, i64>;

/// Client, with the possible contents of its table.
#[derive(Debug)]
pub(super) struct ForeignWriter {
    table_exists: bool,
    next: i64,
    /// More than one after statements whose outcome is unknown.
    possible: Vec<TableContent>,
}

impl Default for ForeignWriter {
    fn default() -> Self {
        Self { table_exists: false, next: 0, possible: vec![TableContent::new()] }
    }
}

impl ForeignWriter {
    /// Writes. Returns true if all statements succeeded; an error if the table has an impossible
    /// content.
    pub(super) fn write(&mut self, lake: &Lake, write: ForeignWrite) -> Result<bool> {
        if !self.prepare(lake) {
            return Ok(false);
        }
        let Ok(before) = read(lake) else { return Ok(false) };
        let before = self.checked(&before)?;
        let steps = self.steps(before.clone(), write);
        let (statements, mut states): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
        let done = lake.write(&statements).is_ok();
        if !done {
            states.push(before);
        } else if let Some(last) = states.pop() {
            states = vec![last];
        }
        self.possible = states;
        Ok(done)
    }

    /// Returns an error if the table has an impossible content. Succeeds if there is no table.
    pub(super) fn check(&self, lake: &Lake) -> Result<()> {
        if self.table_exists { self.checked(&read(lake)?).map(|_| ()) } else { Ok(()) }
    }

    /// Returns the possible content that equals the rows that were read.
    fn checked(&self, seen: &[(i64, i64)]) -> Result<TableContent> {
        let is_it = |rows: &&TableContent| {
            rows.iter().map(|(id, version)| (*id, *version)).eq(seen.iter().copied())
        };
        self.possible.iter().find(is_it).cloned().with_context(|| {
            let possible = &self.possible;
            format!("another client's table changed: seen=`{seen:?}` possible=`{possible:?}`")
        })
    }

    fn prepare(&mut self, lake: &Lake) -> bool {
        let create = format!("CREATE TABLE IF NOT EXISTS {TABLE} (id BIGINT, version BIGINT)");
        self.table_exists = self.table_exists || lake.write(&[create]).is_ok();
        self.table_exists
    }

    /// Returns each statement with the content of the table after it.
    fn steps(
        &mut self,
        mut rows: TableContent,
        write: ForeignWrite,
    ) -> Vec<(String, TableContent)> {
        match write {
            ForeignWrite::Inserts(count) => (0..count)
                .map(|_| {
                    let id = self.next;
                    self.next += 1;
                    rows.insert(id, 0);
                    (format!("INSERT INTO {TABLE} VALUES ({id}, 0)"), rows.clone())
                })
                .collect(),
            ForeignWrite::Update(of) => {
                rows.iter_mut().filter(|(id, _)| *id % 7 == of).for_each(|(_, version)| {
                    *version += 1;
                });
                let set = format!("UPDATE {TABLE} SET version = version + 1 WHERE id % 7 = {of}");
                vec![(set, rows)]
            }
            ForeignWrite::Delete(of) => {
                rows.retain(|id, _| id % 7 != of);
                vec![(format!("DELETE FROM {TABLE} WHERE id % 7 = {of}"), rows)]
            }
        }
    }
}

/// Returns the sorted rows, including duplicates.
fn read(lake: &Lake) -> Result<Vec<(i64, i64)>> {
    let rows = lake.query(&format!("SELECT id, version FROM lake.{TABLE} ORDER BY ALL"))?;
    let row = |row: serde_json::Value| Some((row["id"].as_i64()?, row["version"].as_i64()?));
    rows.into_iter().map(row).collect::<Option<_>>().context("parse another client's rows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_returned_with_the_rows_after_it() {
        let mut foreign_writer = ForeignWriter::default();

        let inserts = foreign_writer.steps(TableContent::new(), ForeignWrite::Inserts(9));
        let (_, nine) = inserts.last().unwrap().clone();
        let (_, updated) =
            foreign_writer.steps(nine.clone(), ForeignWrite::Update(1)).pop().unwrap();
        let (_, deleted) =
            foreign_writer.steps(updated.clone(), ForeignWrite::Delete(0)).pop().unwrap();

        assert_eq!(nine.len(), 9);
        assert_eq!((updated[&1], updated[&8], updated[&2]), (1, 1, 0));
        assert_eq!(deleted.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 8]);
    }
}
