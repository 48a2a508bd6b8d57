//! Compares a table with what a producer saw acknowledged.
//!
//! The producer's ledger is a CSV file `topic,partition,offset,event_id`; an empty event id is a
//! record that cannot be decoded. Records beyond progress are not yet in the lake, and not lost.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use super::catalog_view::Key;
use super::chain::Chain;
use super::finding::{Finding, FindingKind, Findings, Note, NoteKind, Place};
use super::offsets::{Occurrences, TableReader, list};
use crate::error::{LakeError, Result};
use crate::position::Partition;
use crate::session::{Session, quote};

/// The first line of a producer's ledger.
const HEADER: &str = "topic,partition,offset,event_id";

/// The column whose value is compared with the ledger's event id, where a table has it.
const EVENT_ID: &str = "event_id";

/// What the comparison with a producer's ledger amounts to, over all tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Lines of the ledger that belong to the tables.
    pub records: u64,
    /// Records that are rows.
    pub found: u64,
    /// Records beyond the lake's progress.
    pub pending: u64,
    /// Records below the offset at which their partition was started.
    pub before_start: u64,
    /// Records that are counted as dead letter, duplicate, tombstone or given up.
    pub accounted: u64,
    /// Records that progress has passed and that nothing accounts for.
    pub lost: u64,
    /// Rows that the ledger does not have.
    pub unacknowledged: u64,
}

/// What stands for an event id: eight bytes instead of 36, since both sides of the comparison are held
/// in memory. Two ids of one offset that share them are not to be feared (one in 2⁶⁴).
fn short_id(column: &str) -> String {
    format!("hash(lower({column}))")
}

/// Reads the file into a temporary table.
pub(super) fn load(session: &Session, path: &Path) -> Result<()> {
    let context = || format!("read the producer's ledger: path=`{}`", path.display());
    let file = File::open(path).map_err(|error| LakeError::invalid(context()).because(error))?;
    let mut header = String::new();
    let read = BufReader::new(file).read_line(&mut header);
    read.map_err(|error| LakeError::invalid(context()).because(error))?;
    if header.trim_end() != HEADER {
        return Err(LakeError::invalid(format!(
            "{}: the first line of a ledger is `{HEADER}`",
            context()
        )));
    }
    let sql = format!(
        "CREATE OR REPLACE TEMP TABLE acknowledged AS \
         SELECT topic, \"partition\", \"offset\" AS o, \
         CASE WHEN event_id <> '' THEN {} END AS id \
         FROM read_csv({}, auto_detect = false, header = true, delim = ',', columns = {{topic: 'VARCHAR', \
         partition: 'INTEGER', \"offset\": 'BIGINT', event_id: 'VARCHAR'}})",
        short_id("event_id"),
        quote(&path.to_string_lossy())
    );
    session.execute(&sql).map_err(|error| LakeError::invalid(context()).because(error))
}

/// Topics of the ledger that none of these sources has.
pub(super) fn unknown_topics<'a>(
    session: &Session,
    topics: impl Iterator<Item = &'a str>,
) -> duckdb::Result<Vec<String>> {
    let sql = format!(
        "SELECT DISTINCT topic FROM acknowledged WHERE topic NOT IN ('', {}) ORDER BY 1",
        list(topics).replace("NULL", "''")
    );
    Ok(session.rows(&sql)?.into_iter().flatten().flatten().collect())
}

/// Compares one table; its findings, notes and sums are added.
pub(super) fn compare(
    reader: &TableReader<'_>,
    sums: &mut Acknowledged,
    findings: &mut Findings,
    notes: &mut Vec<Note>,
) -> duckdb::Result<()> {
    let comparison = Comparison { reader };
    comparison.prepare()?;
    let (records, absent) = comparison.counts()?;
    sums.records += records;
    sums.found += records - absent;
    comparison.unacknowledged(sums, findings)?;
    let mut split = Split::default();
    for key in comparison.partitions()? {
        split.add(&comparison.judge(key, findings)?);
    }
    split.note(&reader.table.to_string(), notes);
    sums.pending += split.pending;
    sums.before_start += split.before_start;
    sums.accounted += split.accounted;
    sums.lost += split.lost;
    Ok(())
}

/// What became of acknowledged records that are no rows.
#[derive(Clone, Copy, Debug, Default)]
struct Split {
    pending: u64,
    before_start: u64,
    accounted: u64,
    lost: u64,
}

impl Split {
    fn add(&mut self, other: &Self) {
        self.pending += other.pending;
        self.before_start += other.before_start;
        self.accounted += other.accounted;
        self.lost += other.lost;
    }

    fn note(&self, table: &str, notes: &mut Vec<Note>) {
        let kinds = [
            (NoteKind::Pending, self.pending),
            (NoteKind::BeforeStart, self.before_start),
            (NoteKind::Accounted, self.accounted),
        ];
        let some = kinds.into_iter().filter(|(_, count)| *count > 0);
        notes.extend(some.map(|(kind, count)| Note { kind, place: Place::table(table), count }));
    }
}

struct Comparison<'a> {
    reader: &'a TableReader<'a>,
}

impl Comparison<'_> {
    /// Both sides of the difference, as temporary tables: small ones, where the lake is right.
    fn prepare(&self) -> duckdb::Result<()> {
        let (id, same) = if self.reader.has_column(EVENT_ID)? {
            let id = short_id("event_id::VARCHAR");
            (
                format!("CASE WHEN event_id IS NOT NULL THEN {id} END"),
                "a.id IS NOT DISTINCT FROM s.id",
            )
        } else {
            ("NULL::UBIGINT".to_owned(), "true")
        };
        let topics = list(self.reader.sources.iter().map(|source| source.topic.as_str()));
        let stored = format!(
            "(SELECT _kafka_topic AS topic, _kafka_partition AS \"partition\", _kafka_offset AS o, \
             {id} AS id FROM {} WHERE _kafka_topic IN (SELECT DISTINCT topic FROM acknowledged) \
             AND _kafka_topic IN ({topics})) s",
            self.reader.rows_at_snapshot()
        );
        let acknowledged = format!("(FROM acknowledged WHERE topic IN ({topics})) a");
        let on = format!(
            "a.topic = s.topic AND a.\"partition\" = s.\"partition\" AND a.o = s.o AND {same}"
        );
        self.reader.session.execute(&format!(
            "CREATE OR REPLACE TEMP TABLE absent AS SELECT a.* FROM {acknowledged} ANTI JOIN {stored} ON {on}; \
             CREATE OR REPLACE TEMP TABLE unacknowledged AS SELECT s.topic, s.\"partition\", s.o \
             FROM {stored} ANTI JOIN {acknowledged} ON {on}"
        ))
    }

    /// How many records the ledger has for the table, and how many of them are no rows.
    fn counts(&self) -> duckdb::Result<(u64, u64)> {
        let topics = list(self.reader.sources.iter().map(|source| source.topic.as_str()));
        let records =
            format!("SELECT count(*)::VARCHAR FROM acknowledged WHERE topic IN ({topics})");
        Ok((self.number(&records)?, self.number("SELECT count(*)::VARCHAR FROM absent")?))
    }

    fn unacknowledged(
        &self,
        sums: &mut Acknowledged,
        findings: &mut Findings,
    ) -> duckdb::Result<()> {
        let groups = self.reader.session.rows(
            "SELECT topic, \"partition\"::VARCHAR FROM unacknowledged GROUP BY ALL ORDER BY ALL",
        )?;
        for group in groups {
            let mut values = group.into_iter().flatten();
            let (topic, partition) = (values.next().unwrap_or_default(), values.next());
            let partition = partition.and_then(|number| number.parse().ok());
            let condition = condition(&topic, partition.unwrap_or_default());
            let rows = self.some("unacknowledged", &condition)?;
            sums.unacknowledged += rows.count.unsigned_abs();
            let table = Some(self.reader.table.to_string());
            let place = Place { table, topic: Some(topic), partition, path: None };
            let kind = FindingKind::RowsUnacknowledged;
            let detail = format!("{} rows that the producer's ledger does not have", rows.count);
            let count = rows.count.unsigned_abs();
            findings.add(Finding::new(kind, place, count, detail).at_offsets(rows.offsets));
        }
        Ok(())
    }

    /// The partitions with absent records.
    fn partitions(&self) -> duckdb::Result<Vec<Key>> {
        let rows = self
            .reader
            .session
            .rows("SELECT topic, \"partition\"::VARCHAR FROM absent GROUP BY ALL ORDER BY ALL")?;
        let key = |row: Vec<Option<String>>| {
            let mut values = row.into_iter().flatten();
            let (topic, partition) = (values.next()?, values.next()?.parse().ok()?);
            let source = self.reader.sources.iter().find(|source| source.topic == topic)?;
            Some((source.id, Partition(partition)))
        };
        Ok(rows.into_iter().filter_map(key).collect())
    }

    /// Sorts a partition's absent records.
    fn judge(&self, key: Key, findings: &mut Findings) -> duckdb::Result<Split> {
        let place = self.reader.view.place(key);
        let of_partition = condition(place.topic.as_deref().unwrap_or_default(), key.1.0);
        let chain = self.reader.view.chains.get(&key);
        let count = |condition: String| {
            let sql = format!(
                "SELECT count(*)::VARCHAR FROM absent WHERE {of_partition} AND {condition}"
            );
            self.number(&sql)
        };
        let Some((first, next)) = chain.map(Chain::covered) else {
            return Ok(Split { pending: count("true".to_owned())?, ..Split::default() });
        };
        let passed = format!("o >= {first} AND o < {next}");
        let absent = count(passed.clone())?;
        let lost = self.lost(key, &format!("{of_partition} AND {passed}"))?;
        if lost.count > 0 {
            let detail = format!(
                "{} acknowledged records that progress (offset {next}) has passed are neither rows nor \
                 counted as anything else",
                lost.count
            );
            let (kind, count) = (FindingKind::RowsMissing, lost.count.unsigned_abs());
            findings.add(Finding::new(kind, place, count, detail).at_offsets(lost.offsets));
        }
        let lost = lost.count.unsigned_abs();
        Ok(Split {
            pending: count(format!("o >= {next}"))?,
            before_start: count(format!("o < {first}"))?,
            accounted: absent - lost,
            lost,
        })
    }

    /// Absent records beyond those that their range counts as dead letters, duplicates, tombstones
    /// or given up. Gaps count for nothing here: Kafka acknowledged these records.
    fn lost(&self, key: Key, condition: &str) -> duckdb::Result<Occurrences> {
        self.reader.load_ranges(key)?;
        self.reader.session.execute(&format!(
            "CREATE OR REPLACE TEMP TABLE lost AS \
             SELECT a, coalesce(b, 0) AS b, count(*) - coalesce(accounted, 0) AS n \
             FROM (FROM absent WHERE {condition}) ASOF LEFT JOIN ranges ON o >= a \
             GROUP BY a, b, accounted HAVING count(*) > coalesce(accounted, 0)"
        ))?;
        let offsets = format!(
            "SELECT o::VARCHAR FROM (FROM absent WHERE {condition}) \
             SEMI JOIN lost ON lost.a IS NULL OR o >= lost.a AND o < lost.b"
        );
        self.reader.occurrences("SELECT coalesce(sum(n), 0)::VARCHAR FROM lost", &offsets)
    }

    fn some(&self, table: &str, condition: &str) -> duckdb::Result<Occurrences> {
        let count = format!("SELECT count(*)::VARCHAR FROM {table} WHERE {condition}");
        let offsets = format!("SELECT o::VARCHAR FROM {table} WHERE {condition}");
        self.reader.occurrences(&count, &offsets)
    }

    fn number(&self, sql: &str) -> duckdb::Result<u64> {
        let rows = self.reader.session.rows(sql)?;
        let number = |row: &Vec<Option<String>>| row.first()?.as_deref()?.parse().ok();
        Ok(rows.first().and_then(number).unwrap_or(0))
    }
}

fn condition(topic: &str, partition: i32) -> String {
    format!("topic = {} AND \"partition\" = {partition}", quote(topic))
}
