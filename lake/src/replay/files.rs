//! The files that a replay touches, and what is left of them.

use std::collections::BTreeMap;
use std::path::Path;

use uuid::Uuid;

use crate::dead_letter::dead_letter_table;
use crate::duck_lake::DuckLake;
use crate::error::{LakeError, Result};
use crate::lake::Source;
use crate::position::{Offset, OffsetRange, Partition};
use crate::session::{LAKE, Session, quote};
use crate::staged_file::StagedFile;
use crate::table::{KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TOPIC, TableName};

/// A table that holds something of each record: the topic's table, or its dead letters.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) table: TableName,
    topic: &'static str,
    partition: &'static str,
    offset: &'static str,
}

/// The tables that a source fills: the dead letters only once there are any.
pub(super) fn targets(lake: &mut DuckLake, source: &Source) -> Result<Vec<Target>> {
    let table = source.spec.table.clone();
    if lake.table_version(&table)?.is_none() {
        return Err(LakeError::invalid(format!("the table is gone: table=`{table}`")));
    }
    let letters = dead_letter_table(&table);
    let has_letters = lake.table_version(&letters)?.is_some();
    let (topic, partition, offset) = (KAFKA_TOPIC, KAFKA_PARTITION, KAFKA_OFFSET);
    let rows = Target { table, topic, partition, offset };
    let dead = Target { table: letters, topic: "topic", partition: "partition", offset: "offset" };
    Ok(if has_letters { vec![rows, dead] } else { vec![rows] })
}

/// A file with rows that are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Affected {
    /// The path as DuckDB shows it in `filename`.
    pub(super) path: String,
    pub(super) removed: u64,
    /// All its rows, as a reader sees them.
    pub(super) rows: u64,
}

impl Affected {
    /// Whether the file ends without leaving anything behind.
    pub(super) const fn is_whole(&self) -> bool {
        self.removed == self.rows
    }
}

impl Target {
    fn name(&self) -> String {
        format!("{LAKE}.{}", self.table.sql())
    }

    /// What is removed: everything at and behind the partitions' offsets. The smallest of them stands
    /// by itself, so that file statistics prune.
    pub(super) fn condition(&self, topic: &str, offsets: &[(Partition, Offset)]) -> String {
        let Self { topic: topics, partition, offset, .. } = self;
        let each = offsets.iter().map(|(number, from)| {
            format!("(\"{partition}\" = {number} AND \"{offset}\" >= {from})")
        });
        let least = offsets.iter().map(|(_, from)| from.0).min().unwrap_or(i64::MAX);
        format!(
            "\"{topics}\" = {} AND \"{offset}\" >= {least} AND ({})",
            quote(topic),
            each.collect::<Vec<_>>().join(" OR ")
        )
    }

    /// The files that hold rows under the condition.
    pub(super) fn affected(
        &self,
        session: &Session,
        condition: &str,
    ) -> duckdb::Result<Vec<Affected>> {
        let count = |condition: &str| {
            let sql = format!(
                "SELECT filename, count(*)::VARCHAR FROM {} WHERE {condition} GROUP BY filename",
                self.name()
            );
            session.rows(&sql).map(|rows| rows.into_iter().filter_map(file_count).collect())
        };
        let removed: BTreeMap<String, u64> = count(condition)?;
        if removed.is_empty() {
            return Ok(Vec::new());
        }
        let rows: BTreeMap<String, u64> = count(&in_files(removed.keys()))?;
        let affected = |(path, removed): (String, u64)| {
            let rows = rows.get(&path).copied().unwrap_or(removed);
            Affected { path, removed, rows }
        };
        Ok(removed.into_iter().map(affected).collect())
    }

    /// Writes what a file keeps into a new file beside it.
    ///
    /// Rows whose Kafka columns are NULL belong to other clients, and stay.
    pub(super) fn write_survivors(
        &self,
        session: &Session,
        file: &Affected,
        condition: &str,
    ) -> Result<StagedFile> {
        let context = || format!("write what a file keeps: path=`{}`", file.path);
        let name = format!("ducktide-{}.parquet", Uuid::now_v7());
        let path = Path::new(&file.path).with_file_name(name);
        let copy = format!(
            "COPY (SELECT * FROM {} WHERE filename = {} AND ({condition}) IS NOT TRUE) TO {} \
             (FORMAT parquet, COMPRESSION zstd)",
            self.name(),
            quote(&file.path),
            quote(&path.to_string_lossy())
        );
        session.execute(&copy).map_err(|error| LakeError::unavailable(context()).because(error))?;
        let metadata =
            path.metadata().map_err(|error| LakeError::unavailable(context()).because(error))?;
        let (table, rows) = (self.table.clone(), file.rows - file.removed);
        Ok(StagedFile { path, table, rows, bytes: metadata.len() })
    }

    /// Ends files as a whole; returns how many rows they had. All their rows are deleted, so no
    /// delete file is written.
    pub(super) fn end_files(&self, session: &Session, files: &[Affected]) -> duckdb::Result<u64> {
        let condition = in_files(files.iter().map(|file| &file.path));
        let sql = format!("DELETE FROM {} WHERE {condition}", self.name());
        session.connection().execute(&sql, []).map(|rows| rows as u64)
    }

    /// How many rows there are in a range of offsets.
    pub(super) fn rows_in(
        &self,
        session: &Session,
        topic: &str,
        partition: Partition,
        range: OffsetRange,
    ) -> duckdb::Result<i64> {
        let within = self.within(topic, partition, range);
        number(session, &format!("SELECT count(*)::VARCHAR FROM {} WHERE {within}", self.name()))
    }

    /// How many letters of a range have no resolution.
    pub(super) fn open_letters_in(
        &self,
        session: &Session,
        topic: &str,
        partition: Partition,
        range: OffsetRange,
    ) -> duckdb::Result<i64> {
        let (name, within) = (self.name(), self.within(topic, partition, range));
        let sql = format!(
            "SELECT count(*)::VARCHAR FROM (SELECT 1 FROM {name} WHERE {within} \
             GROUP BY \"offset\" HAVING count(resolution) = 0)"
        );
        number(session, &sql)
    }

    fn within(&self, topic: &str, partition: Partition, range: OffsetRange) -> String {
        let Self { topic: topics, partition: partitions, offset, .. } = self;
        let OffsetRange { from, to } = range;
        format!(
            "\"{topics}\" = {} AND \"{partitions}\" = {partition} AND \"{offset}\" >= {from} \
             AND \"{offset}\" < {to}",
            quote(topic)
        )
    }
}

fn in_files<'a>(paths: impl Iterator<Item = &'a String>) -> String {
    let paths: Vec<_> = paths.map(|path| quote(path)).collect();
    format!("filename IN ({})", paths.join(", "))
}

fn file_count(row: Vec<Option<String>>) -> Option<(String, u64)> {
    let mut values = row.into_iter().flatten();
    Some((values.next()?, values.next()?.parse().ok()?))
}

fn number(session: &Session, sql: &str) -> duckdb::Result<i64> {
    let rows = session.rows(sql)?;
    let value = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
    Ok(value.expect("count(*) is a number"))
}
