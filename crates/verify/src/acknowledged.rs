//! Comparison of a table with the records that Kafka acknowledged to a producer.
//!
//! An empty event ID in the ledger is a record that cannot be decoded. Records beyond progress are not yet
//! in the lake, and not lost. Ledger and table may have any number of records: they are compared in parts
//! of consecutive offsets, each of which fits into memory.

use ducktide_lake::session::quote;
use ducktide_protocol::position::{Offset, OffsetRange, Partition};

use super::catalog_view::Key;
use super::finding::{EXAMPLES, Finding, FindingKind, FindingPlace, Findings, Note, NoteKind};
use super::offsets::{BUCKET, DeepProgress, Occurrences, TableReader, list};
use super::producer_ledger::short_id;

/// Column that is compared with the ledger's event ID, if the table has it.
const EVENT_ID: &str = "event_id";

/// Memory for each record of a part, in the table and in the ledger, in bytes: a part takes about a quarter
/// of the limit, since DuckDB needs memory for reading and for other threads too.
const RECORD_MEMORY: u64 = 512;

/// Sums of the comparison with a producer's ledger, over all tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Number of lines of the ledger that belong to the tables.
    pub records: u64,
    /// Number of records that are rows.
    pub found: u64,
    /// Number of records beyond the lake's progress.
    pub pending: u64,
    /// Number of records below the offset at which their partition was started.
    pub before_start: u64,
    /// Number of records that are counted as dead letter, duplicate, tombstone or given up.
    pub accounted: u64,
    /// Number of records that progress has passed and that the lake does not account for.
    pub lost: u64,
    /// Number of rows that the ledger does not have.
    pub unacknowledged: u64,
}

/// Compares one table, and adds its findings, notes and sums.
pub(super) fn compare(
    reader: &TableReader<'_>,
    memory_limit: u64,
    progress: &mut dyn FnMut(&DeepProgress),
    sums: &mut Acknowledged,
    findings: &mut Findings,
    notes: &mut Vec<Note>,
) -> duckdb::Result<()> {
    let comparison = Comparison::new(reader)?;
    comparison.join_parts(memory_limit, progress)?;
    let (records, absent) = comparison.counts()?;
    sums.records += records;
    sums.found += records - absent;
    comparison.unacknowledged(sums, findings)?;
    let mut split = AbsentRecords::default();
    for key in comparison.partitions()? {
        split.add(&comparison.classify_absent(key, findings)?);
    }
    split.note(&reader.table.to_string(), notes);
    sums.pending += split.pending;
    sums.before_start += split.before_start;
    sums.accounted += split.accounted;
    sums.lost += split.lost;
    Ok(())
}

/// Numbers of acknowledged records that are not rows, by reason.
#[derive(Clone, Copy, Debug, Default)]
struct AbsentRecords {
    pending: u64,
    before_start: u64,
    accounted: u64,
    lost: u64,
}

impl AbsentRecords {
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
        notes.extend(some.map(|(kind, count)| Note {
            kind,
            place: FindingPlace::table(table),
            count,
        }));
    }
}

struct Comparison<'a> {
    reader: &'a TableReader<'a>,
    /// Topics of the table that the ledger has, as an SQL list.
    topics: String,
    /// SQL expression for the hash of a row's event ID.
    id: String,
    /// SQL condition that a row `s` and a record `a` are the same.
    same: String,
}

impl<'a> Comparison<'a> {
    fn new(reader: &'a TableReader<'a>) -> duckdb::Result<Self> {
        let (id, same_id) = if reader.has_column(EVENT_ID)? {
            let id = short_id("event_id::VARCHAR");
            (
                format!("CASE WHEN event_id IS NOT NULL THEN {id} END"),
                "a.id IS NOT DISTINCT FROM s.id",
            )
        } else {
            ("NULL::UBIGINT".to_owned(), "true")
        };
        let topics = list(reader.sources.iter().map(|source| source.topic.as_str()));
        let sql = format!("SELECT DISTINCT topic FROM acknowledged WHERE topic IN ({topics})");
        let topics = reader.session.texts(&sql)?;
        let topics = list(topics.iter().map(String::as_str));
        let same = format!(
            "a.topic = s.topic AND a.\"partition\" = s.\"partition\" AND a.o = s.o AND {same_id}"
        );
        Ok(Self { reader, topics, id, same })
    }

    /// Collects both sides of the difference: `absent`, the records that progress has passed and that are
    /// not rows; `outside`, the number of other records that are not rows; `unacknowledged`, the number of
    /// rows that are not records.
    fn join_parts(
        &self,
        memory_limit: u64,
        progress: &mut dyn FnMut(&DeepProgress),
    ) -> duckdb::Result<()> {
        let execute = |sql: &str| self.reader.session.execute(sql);
        self.load_covered()?;
        execute(
            "CREATE OR REPLACE TEMP TABLE absent(topic VARCHAR, \"partition\" INTEGER, o BIGINT, id UBIGINT); \
             CREATE OR REPLACE TEMP TABLE outside(topic VARCHAR, \"partition\" INTEGER, pending BIGINT, \
               before_start BIGINT); \
             CREATE OR REPLACE TEMP TABLE unacknowledged(topic VARCHAR, \"partition\" INTEGER, n BIGINT, \
               least BIGINT[])",
        )?;
        let begins = self.parts((memory_limit / RECORD_MEMORY).max(1))?;
        for (part, begin) in begins.iter().enumerate() {
            progress(&DeepProgress::Comparison {
                table: self.reader.table.to_string(),
                parts_done: part as u64,
                parts: begins.len() as u64,
            });
            // Rows with an offset that no bucket has are taken in by the open ends.
            let mut within = "true".to_owned();
            if part > 0 {
                within = format!("o >= {begin}");
            }
            if let Some(end) = begins.get(part + 1) {
                within = format!("{within} AND o < {end}");
            }
            execute(&self.join_sql(&within))?;
        }
        Ok(())
    }

    /// Compares the records and rows of some offsets.
    fn join_sql(&self, within: &str) -> String {
        let Self { topics, id, same, .. } = self;
        let stored = format!(
            "(FROM (SELECT _kafka_topic AS topic, _kafka_partition AS \"partition\", _kafka_offset AS o, \
             {id} AS id FROM {} WHERE _kafka_topic IN ({topics})) WHERE {within}) s",
            self.reader.rows_at_snapshot()
        );
        let acknowledged = format!("(FROM acknowledged WHERE topic IN ({topics}) AND {within}) a");
        format!(
            "CREATE OR REPLACE TEMP TABLE part AS \
               SELECT a.*, a.o >= first AND a.o < next AS is_passed, coalesce(a.o < first, false) AS is_before \
               FROM (SELECT a.* FROM {acknowledged} ANTI JOIN {stored} ON {same}) a \
               LEFT JOIN covered c ON c.topic = a.topic AND c.\"partition\" = a.\"partition\"; \
             INSERT INTO absent SELECT topic, \"partition\", o, id FROM part WHERE is_passed; \
             INSERT INTO outside SELECT topic, \"partition\", count(*) FILTER (WHERE NOT is_before), \
               count(*) FILTER (WHERE is_before) FROM part WHERE is_passed IS NOT TRUE GROUP BY ALL; \
             INSERT INTO unacknowledged SELECT s.topic, s.\"partition\", count(*), min(s.o, {EXAMPLES}) \
               FROM {stored} ANTI JOIN {acknowledged} ON {same} GROUP BY ALL"
        )
    }

    /// Loads the offsets that progress has passed, of each partition.
    fn load_covered(&self) -> duckdb::Result<()> {
        self.reader.session.execute(
            "CREATE OR REPLACE TEMP TABLE covered(topic VARCHAR, \"partition\" INTEGER, first BIGINT, next BIGINT)",
        )?;
        for source in &self.reader.sources {
            for (partition, chain) in self.reader.view.partitions(source.id) {
                let OffsetRange { from: first, to: next } = chain.covered();
                let topic = quote(&source.topic);
                self.reader.session.execute(&format!(
                    "INSERT INTO covered VALUES ({topic}, {partition}, {first}, {next})"
                ))?;
            }
        }
        Ok(())
    }

    /// Returns the first offsets of parts with at most this number of records and rows, as far as whole
    /// buckets of offsets allow.
    fn parts(&self, records: u64) -> duckdb::Result<Vec<i64>> {
        let sql = format!(
            "SELECT (min(bucket) * {BUCKET})::VARCHAR FROM ( \
               SELECT bucket, (sum(n) OVER (ORDER BY bucket ROWS UNBOUNDED PRECEDING) - n) // {records} AS part \
               FROM (SELECT bucket, sum(n) AS n FROM ( \
                 SELECT bucket, n FROM seen WHERE topic IN ({topics}) AND bucket IS NOT NULL \
                 UNION ALL SELECT o // {BUCKET}, count(*) FROM acknowledged WHERE topic IN ({topics}) \
                   AND o >= 0 GROUP BY 1) GROUP BY 1)) \
             GROUP BY part ORDER BY part",
            topics = self.topics
        );
        let begins = self.reader.session.texts(&sql)?;
        let begins: Vec<i64> = begins.iter().filter_map(|begin| begin.parse().ok()).collect();
        Ok(if begins.is_empty() { vec![0] } else { begins })
    }

    /// Returns the number of records that the ledger has for the table, and of those that are not rows.
    fn counts(&self) -> duckdb::Result<(u64, u64)> {
        let records =
            format!("SELECT count(*)::VARCHAR FROM acknowledged WHERE topic IN ({})", self.topics);
        let absent = "SELECT ((SELECT count(*) FROM absent) + \
             (SELECT coalesce(sum(pending + before_start), 0) FROM outside))::BIGINT::VARCHAR";
        Ok((self.number(&records)?, self.number(absent)?))
    }

    fn unacknowledged(
        &self,
        sums: &mut Acknowledged,
        findings: &mut Findings,
    ) -> duckdb::Result<()> {
        let groups = self.reader.session.rows(&format!(
            "SELECT topic, \"partition\"::VARCHAR, sum(n)::BIGINT::VARCHAR, \
             array_to_string(list_slice(list_sort(flatten(list(least))), 1, {EXAMPLES}), ' ') \
             FROM unacknowledged GROUP BY ALL ORDER BY ALL"
        ))?;
        for group in groups {
            let mut values = group.into_iter().flatten();
            let (topic, partition) = (values.next().unwrap_or_default(), values.next());
            let partition = partition.and_then(|number| number.parse().ok());
            let count: u64 = values.next().and_then(|n| n.parse().ok()).unwrap_or(0);
            let offsets = values.next().unwrap_or_default();
            let offsets = offsets.split(' ').filter_map(|offset| offset.parse().ok()).collect();
            sums.unacknowledged += count;
            let table = Some(self.reader.table.to_string());
            let place = FindingPlace { table, topic: Some(topic), partition, path: None };
            let kind = FindingKind::RowsUnacknowledged;
            let detail = format!("{count} rows that the producer's ledger does not have");
            findings.add(Finding::new(kind, place, count, detail).at_offsets(offsets));
        }
        Ok(())
    }

    /// Returns the partitions with absent records.
    fn partitions(&self) -> duckdb::Result<Vec<Key>> {
        let rows = self.reader.session.rows(
            "SELECT topic, \"partition\"::VARCHAR FROM (SELECT topic, \"partition\" FROM absent \
                 UNION SELECT topic, \"partition\" FROM outside) ORDER BY ALL",
        )?;
        let key = |row: Vec<Option<String>>| {
            let mut values = row.into_iter().flatten();
            let (topic, partition) = (values.next()?, values.next()?.parse().ok()?);
            let source = self.reader.sources.iter().find(|source| source.topic == topic)?;
            Some((source.id, Partition(partition)))
        };
        Ok(rows.into_iter().filter_map(key).collect())
    }

    /// Counts a partition's absent records by reason.
    fn classify_absent(&self, key: Key, findings: &mut Findings) -> duckdb::Result<AbsentRecords> {
        let place = self.reader.view.place(key);
        let of_partition = condition(place.topic.as_deref().unwrap_or_default(), key.1.0);
        let count = |sum: &str, table: &str| {
            let sql = format!(
                "SELECT coalesce({sum}, 0)::BIGINT::VARCHAR FROM {table} WHERE {of_partition}"
            );
            self.number(&sql)
        };
        let (pending, before_start) =
            (count("sum(pending)", "outside")?, count("sum(before_start)", "outside")?);
        let absent = count("count(*)", "absent")?;
        let next = self.reader.view.chains.get(&key).map_or(Offset(0), |chain| chain.covered().to);
        let lost = self.lost(key, &of_partition)?;
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
        Ok(AbsentRecords { pending, before_start, accounted: absent - lost, lost })
    }

    /// Returns absent records beyond those that their range counts as dead letters, duplicates, tombstones
    /// or given up. Gaps do not count: Kafka acknowledged these records.
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

    fn number(&self, sql: &str) -> duckdb::Result<u64> {
        let found = self.reader.session.texts(sql)?;
        Ok(found.first().and_then(|number| number.parse().ok()).unwrap_or(0))
    }
}

fn condition(topic: &str, partition: i32) -> String {
    format!("topic = {} AND \"partition\" = {partition}", quote(topic))
}
