//! Compares a lake with the records that Kafka acknowledged to a producer.

use std::{fmt, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::duckdb_cli::{Lake, quoted_path};

/// Difference between a producer's ledger and a table of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Acknowledged records that can be decoded.
    pub acknowledged: u64,
    /// Acknowledged records without an event ID: poison records, which must not be in the table.
    pub poison: u64,
    /// Rows of the table.
    pub rows: u64,
    /// Acknowledged records that are not in the table: lost.
    pub missing: Discrepancy,
    /// Second and further rows of one topic, partition and offset: written twice.
    pub duplicates: Discrepancy,
    /// Rows of the table that were not acknowledged with this event ID.
    pub unexpected: Discrepancy,
}

/// Number of records of one kind of difference, with examples.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discrepancy {
    /// Number of records.
    pub count: u64,
    /// First five, ordered by topic, partition and offset.
    pub examples: Vec<LedgerRecord>,
}

/// Event ID and position of a record in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LedgerRecord {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// ID of the event; None for a poison record.
    pub event_id: Option<String>,
}

/// Compares a ledger (CSV with the header `topic,partition,offset,event_id`) with a table of the
/// lake, such as `events` or `main.events`, by topic, partition, offset and event ID.
///
/// DuckDB's command line runs the comparison; millions of rows take seconds.
pub fn compare(ledger: &Path, lake: &Lake, table: &str) -> Result<Comparison> {
    let rows = lake.query(&statements(ledger, table)).context("compare ledger and lake")?;
    let row = rows.into_iter().next().context("compare ledger and lake: no result")?;
    let row: ComparisonRow = serde_json::from_value(row).context("parse comparison")?;
    Ok(Comparison {
        acknowledged: row.acknowledged,
        poison: row.poison,
        rows: row.stored,
        missing: Discrepancy::new(row.missing, row.missing_examples),
        duplicates: Discrepancy::new(row.duplicates, row.duplicates_examples),
        unexpected: Discrepancy::new(row.unexpected, row.unexpected_examples),
    })
}

impl Comparison {
    /// Returns true if every acknowledged record is in the table once, and no other row is.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.missing.count == 0 && self.duplicates.count == 0 && self.unexpected.count == 0
    }
}

/// Counts of acknowledged records, rows and differences.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, rows, .. } = self;
        write!(f, "{acknowledged} events acknowledged, {rows} rows in the lake: ")?;
        if self.is_exact() {
            return f.write_str("none missing, no duplicates, none unexpected");
        }
        write!(f, "{} missing, ", self.missing)?;
        write!(f, "{} duplicates, {} unexpected", self.duplicates, self.unexpected)
    }
}

impl Discrepancy {
    fn new(count: u64, examples: Option<Vec<LedgerRecord>>) -> Self {
        Self { count, examples: examples.unwrap_or_default() }
    }
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count)?;
        match self.examples.first() {
            Some(LedgerRecord { topic, partition, offset, .. }) => {
                write!(f, " (first: {topic}/{partition} offset {offset})")
            }
            None => Ok(()),
        }
    }
}

#[derive(Deserialize)]
struct ComparisonRow {
    acknowledged: u64,
    poison: u64,
    stored: u64,
    missing: u64,
    missing_examples: Option<Vec<LedgerRecord>>,
    duplicates: u64,
    duplicates_examples: Option<Vec<LedgerRecord>>,
    unexpected: u64,
    unexpected_examples: Option<Vec<LedgerRecord>>,
}

fn statements(ledger: &Path, table: &str) -> String {
    let sql = format!(
        "
        CREATE TEMP TABLE ledger AS
            SELECT topic, \"partition\", \"offset\", event_id
            FROM read_csv({ledger}, header = true, nullstr = '', columns = {{
                topic: 'VARCHAR', \"partition\": 'INTEGER', \"offset\": 'BIGINT', event_id: 'UUID'}});
        CREATE TEMP TABLE stored AS
            SELECT _kafka_topic AS topic, _kafka_partition AS \"partition\",
                _kafka_offset AS \"offset\", event_id::UUID AS event_id
            FROM lake.{table};
        CREATE TEMP TABLE missing AS
            SELECT * FROM ledger ANTI JOIN stored USING (topic, \"partition\", \"offset\", event_id)
            WHERE event_id IS NOT NULL;
        CREATE TEMP TABLE unexpected AS
            SELECT * FROM stored ANTI JOIN ledger USING (topic, \"partition\", \"offset\", event_id);
        CREATE TEMP TABLE duplicates AS
            SELECT topic, \"partition\", \"offset\", any_value(event_id) AS event_id,
                count(*) - 1 AS times
            FROM stored GROUP BY topic, \"partition\", \"offset\" HAVING count(*) > 1;
        SELECT (SELECT count(event_id) FROM ledger) AS acknowledged,
            (SELECT count(*) FROM ledger WHERE event_id IS NULL) AS poison,
            (SELECT count(*) FROM stored) AS stored,
            (SELECT count(*) FROM missing) AS missing,
            (SELECT coalesce(sum(times), 0)::BIGINT FROM duplicates) AS duplicates,
            (SELECT count(*) FROM unexpected) AS unexpected,
        ",
        ledger = quoted_path(ledger),
    );
    let tables = ["missing", "duplicates", "unexpected"];
    sql + &tables.map(examples).join(", ")
}

fn examples(table: &str) -> String {
    format!(
        "(SELECT list(e) FROM (SELECT {{topic: topic, \"partition\": \"partition\",
            \"offset\": \"offset\", event_id: event_id}} AS e
            FROM {table} ORDER BY topic, \"partition\", \"offset\" LIMIT 5)) AS {table}_examples"
    )
}
