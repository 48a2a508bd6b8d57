//! Another client of the lake, with a table of its own: what it wrote stays as it wrote it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::fault::ForeignWrite;
use crate::duckdb_cli::Lake;

/// The client's table.
const TABLE: &str = "foreign_writer";

/// The rows: number and version.
type Rows = BTreeMap<i64, i64>;

/// The client, and what its table may hold.
#[derive(Debug)]
pub(super) struct ForeignWriter {
    table_exists: bool,
    next: i64,
    /// More than one while nobody knows how its last statements ended.
    possible: Vec<Rows>,
}

impl Default for ForeignWriter {
    fn default() -> Self {
        Self { table_exists: false, next: 0, possible: vec![Rows::new()] }
    }
}

impl ForeignWriter {
    /// Writes; whether all of it was done. An error says that the table does not hold what it should.
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

    /// Errors unless the table holds what it should. A foreign_writer that never came has none.
    pub(super) fn check(&self, lake: &Lake) -> Result<()> {
        if self.table_exists { self.checked(&read(lake)?).map(|_| ()) } else { Ok(()) }
    }

    /// The one of the possible states that was seen.
    fn checked(&self, seen: &[(i64, i64)]) -> Result<Rows> {
        let is_it = |rows: &&Rows| {
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

    /// Each statement, and what the table holds after it.
    fn steps(&mut self, mut rows: Rows, write: ForeignWrite) -> Vec<(String, Rows)> {
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

/// The rows in their order; one that is there twice stays so.
fn read(lake: &Lake) -> Result<Vec<(i64, i64)>> {
    let rows = lake.query(&format!("SELECT id, version FROM lake.{TABLE} ORDER BY ALL"))?;
    let row = |row: serde_json::Value| Some((row["id"].as_i64()?, row["version"].as_i64()?));
    rows.into_iter().map(row).collect::<Option<_>>().context("parse another client's rows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statement_leads_to_the_state_that_is_expected_after_it() {
        let mut foreign_writer = ForeignWriter::default();

        let inserts = foreign_writer.steps(Rows::new(), ForeignWrite::Inserts(9));
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
