//! Reads dead letters from the lake.

use std::collections::BTreeMap;

use duckdb::types::Value;
use duckdb::{Row, ToSql, params_from_iter};
use ducktide_protocol::dead_letter::{
    DeadLetter, Header, RecordLocation, Resolution, dead_letter_table,
};
use ducktide_protocol::error::Result;
use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::TableName;

use crate::catalog::ledger;
use crate::duck_lake::DuckLake;
use crate::session::LAKE;

/// Conditions that select dead letters; all must hold.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// Topic of the record.
    pub topic: Option<String>,
    /// Partition of the record.
    pub partition: Option<Partition>,
    /// Offset of the record.
    pub offset: Option<Offset>,
    /// Class of the error.
    pub class: Option<String>,
    /// Only these records; empty for all.
    pub places: Vec<RecordLocation>,
    /// Includes resolved dead letters.
    pub with_resolved: bool,
    /// Maximum number of dead letters.
    pub limit: Option<u64>,
}

/// A dead letter without the record itself, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterSummary {
    /// Topic, partition and offset of the record.
    pub place: RecordLocation,
    /// Schema ID at the start of the value, if it has one.
    pub schema_id: Option<u32>,
    /// Class of the error.
    pub error_class: String,
    /// Text of the error.
    pub error: String,
    /// Time of the decode failure, in microseconds since 1970.
    pub failed_at_micros: i64,
    /// Size of key and value, in bytes.
    pub bytes: u64,
    /// Resolution of the dead letter; None if it is open.
    pub resolution: Option<Resolution>,
    /// Time of the resolution, in microseconds since 1970.
    pub resolved_at_micros: Option<i64>,
}

impl DuckLake {
    /// Returns the dead letters of a table in the order of topic, partition and offset; empty if the
    /// table has no dead-letter table.
    pub fn dead_letter_summaries(
        &mut self,
        table: &TableName,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetterSummary>> {
        let columns = "l.topic, l.partition, l.\"offset\", l.schema_id, l.error_class, l.error, \
                       epoch_us(l.failed_at), \
                       coalesce(octet_length(l.key), 0) + coalesce(octet_length(l.value), 0), \
                       r.resolution, epoch_us(r.resolved_at)";
        self.select_dead_letters(table, columns, filter, summary)
    }

    /// Returns the dead letters of a table with their records and resolutions. All of them are in memory
    /// at once, so select few.
    pub fn dead_letters(
        &mut self,
        table: &TableName,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter>> {
        let columns = "l.topic, l.partition, l.\"offset\", epoch_us(l.timestamp), l.key, l.value, \
                       l.headers, l.schema_id, l.error_class, l.error, epoch_us(l.failed_at), \
                       r.resolution, epoch_us(r.resolved_at)";
        self.select_dead_letters(table, columns, filter, dead_letter)
    }

    /// Returns the number of open dead letters of each table, as counted in the ledger, without tables
    /// that have none.
    pub fn open_dead_letters(&mut self) -> Result<BTreeMap<String, i64>> {
        ledger::open_dead_letters(self.session()?)
    }

    fn select_dead_letters<T>(
        &mut self,
        table: &TableName,
        columns: &str,
        filter: &DeadLetterFilter,
        read: fn(&Row<'_>) -> duckdb::Result<T>,
    ) -> Result<Vec<T>> {
        let table = dead_letter_table(table);
        if self.find_table(&table)?.is_none() {
            return Ok(Vec::new());
        }
        let (condition, parameters) = filter.condition();
        let sql = format!(
            "SELECT {columns} FROM {LAKE}.{name} l LEFT JOIN {LAKE}.{name} r \
             ON r.resolution IS NOT NULL AND r.topic = l.topic AND r.partition = l.partition \
             AND r.\"offset\" = l.\"offset\" WHERE l.resolution IS NULL{condition} \
             ORDER BY l.topic, l.partition, l.\"offset\"{limit}",
            name = table.sql(),
            limit = filter.limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default(),
        );
        let query = |session: &crate::session::Session| -> duckdb::Result<Vec<T>> {
            let mut statement = session.connection().prepare(&sql)?;
            let rows = statement.query_map(params_from_iter(parameters), read)?;
            rows.collect()
        };
        query(self.session()?).map_err(|error| {
            crate::duckdb_error::failed(format!("read the dead letters: table=`{table}`"), error)
        })
    }
}

impl DeadLetterFilter {
    /// Returns the conditions to append to the WHERE clause, and their parameters.
    fn condition(&self) -> (String, Vec<Box<dyn ToSql>>) {
        let asked: [(&str, Option<Box<dyn ToSql>>); 4] = [
            ("topic", self.topic.clone().map(|topic| Box::new(topic) as _)),
            ("partition", self.partition.map(|partition| Box::new(partition.0) as _)),
            ("\"offset\"", self.offset.map(|offset| Box::new(offset.0) as _)),
            ("error_class", self.class.clone().map(|class| Box::new(class) as _)),
        ];
        let asked = asked.into_iter().filter_map(|(column, value)| Some((column, value?)));
        let (columns, mut parameters): (Vec<_>, Vec<_>) = asked.unzip();
        let equal = columns.iter().map(|column| format!(" AND l.{column} = ?"));
        let mut condition = equal.collect::<String>();
        if !self.places.is_empty() {
            let places = vec!["(?, ?, ?)"; self.places.len()].join(", ");
            condition += " AND (l.topic, l.partition, l.\"offset\") IN (";
            condition += &places;
            condition += ")";
            for RecordLocation { topic, partition, offset } in &self.places {
                parameters.push(Box::new(topic.clone()));
                parameters.push(Box::new(partition.0));
                parameters.push(Box::new(offset.0));
            }
        }
        if !self.with_resolved {
            condition += " AND r.resolution IS NULL";
        }
        (condition, parameters)
    }
}

fn place(row: &Row<'_>) -> duckdb::Result<RecordLocation> {
    Ok(RecordLocation {
        topic: row.get(0)?,
        partition: Partition(row.get(1)?),
        offset: Offset(row.get(2)?),
    })
}

fn resolution(row: &Row<'_>, column: usize) -> duckdb::Result<Option<Resolution>> {
    let word = row.get::<_, Option<String>>(column)?;
    Ok(word.as_deref().and_then(Resolution::parse))
}

fn summary(row: &Row<'_>) -> duckdb::Result<DeadLetterSummary> {
    Ok(DeadLetterSummary {
        place: place(row)?,
        schema_id: row.get(3)?,
        error_class: row.get::<_, Option<_>>(4)?.unwrap_or_default(),
        error: row.get::<_, Option<_>>(5)?.unwrap_or_default(),
        failed_at_micros: row.get::<_, Option<_>>(6)?.unwrap_or_default(),
        bytes: row.get(7)?,
        resolution: resolution(row, 8)?,
        resolved_at_micros: row.get(9)?,
    })
}

fn dead_letter(row: &Row<'_>) -> duckdb::Result<DeadLetter> {
    Ok(DeadLetter {
        place: place(row)?,
        timestamp_micros: row.get(3)?,
        key: row.get(4)?,
        value: row.get(5)?,
        headers: headers(row.get(6)?),
        schema_id: row.get(7)?,
        error_class: row.get(8)?,
        error: row.get(9)?,
        failed_at_micros: row.get(10)?,
        resolution: resolution(row, 11)?,
        resolved_at_micros: row.get(12)?,
    })
}

/// Converts DuckDB's list of pairs.
fn headers(value: Value) -> Vec<Header> {
    let Value::List(pairs) = value else { return Vec::new() };
    pairs.into_iter().filter_map(header).collect()
}

fn header(pair: Value) -> Option<Header> {
    let Value::Struct(fields) = pair else { return None };
    let mut fields = fields.iter().map(|(_, value)| value);
    let Some(Value::Text(key)) = fields.next() else { return None };
    let value = match fields.next() {
        Some(Value::Blob(bytes)) => Some(bytes.clone()),
        _ => None,
    };
    Some(Header { key: key.clone(), value })
}
