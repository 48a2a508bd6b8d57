//! Says whether a lake holds exactly what a producer saw acknowledged.

use std::{fmt, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::duckdb_cli::{Lake, quoted_path};

/// The difference between a producer's ledger and a table of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Records that the producer saw acknowledged and that can be decoded.
    pub acknowledged: u64,
    /// Acknowledged records without an event id: poison, which no table must hold.
    pub poison: u64,
    /// Rows of the table.
    pub rows: u64,
    /// Acknowledged, not in the table: lost.
    pub missing: Discrepancy,
    /// The second and further rows of one position: written twice.
    pub duplicates: Discrepancy,
    /// In the table, never acknowledged with this event id.
    pub unexpected: Discrepancy,
}

/// How often something was found, and where, a few times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discrepancy {
    /// How often.
    pub count: u64,
    /// The first few in the order of their positions.
    pub examples: Vec<LedgerRecord>,
}

/// An event and its position in Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LedgerRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The event's id; none for poison.
    pub event_id: Option<String>,
}

/// Compares a ledger (CSV with the header `topic,partition,offset,event_id`) with a table of the
/// lake, such as `events` or `main.events`, by topic, partition, offset and event id.
///
/// The DuckDB command line does it all; millions of rows take seconds.
pub fn compare(ledger: &Path, lake: &Lake, table: &str) -> Result<Comparison> {
    let rows = lake.query(&statements(ledger, table)).context("compare ledger and lake")?;
    let row = rows.into_iter().next().context("compare ledger and lake: no answer")?;
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
    /// Whether every acknowledged record is in the table once, and nothing else is.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.missing.count == 0 && self.duplicates.count == 0 && self.unexpected.count == 0
    }
}

/// What is wrong, or how much is right.
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
