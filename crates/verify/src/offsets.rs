//! Comparison of the offsets of a table's rows with the ledger.
//!
//! One pass over the files, some at a time, sets one bit for each offset, so memory is bounded by the number
//! of records and not by their size: 125 MB for a billion of them, which DuckDB may spill. If the numbers of
//! a partition differ, a second pass over that partition finds the offsets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

use ducktide_lake::session::{LAKE, Session, quote};
use ducktide_protocol::ledger::{LiveRange, LiveRanges, PartitionChain};
use ducktide_protocol::position::{Offset, OffsetRange, Partition};
use ducktide_protocol::table::TableName;

use super::catalog_view::{CatalogView, Key, SourceEntry, ranges};
use super::chain::{accounted, least_rows, live_ranges};
use super::finding::EXAMPLES;

/// Number of offsets that share a bitmap of 2 KiB, which is costly only for topics where compaction leaves
/// fewer than one offset in a thousand.
pub(super) const BUCKET: i64 = 16_384;

/// Maximum number of parts in which a table is read, so that progress can be shown, and their minimum size
/// in bytes: each part is a query that plans over all files.
const PARTS: u64 = 50;
const PART_BYTES: u64 = 64 << 20;

/// Maximum number of ranges with missing rows whose absent offsets are listed.
const LISTED_RANGES: usize = 20;

/// Progress of a deep verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeepProgress {
    /// Reading a producer's ledger.
    Ledger {
        /// Size of the ledger, in bytes.
        bytes: u64,
    },
    /// Reading a table.
    Rows {
        /// Name of the table.
        table: String,
        /// Number of files read so far.
        files_done: u64,
        /// Number of files of the table.
        files: u64,
        /// Size of the files read so far, in bytes. Only the needed columns of them are read.
        bytes_done: u64,
        /// Size of the table's files, in bytes.
        bytes: u64,
    },
    /// Comparing a table with a producer's ledger.
    Comparison {
        /// Name of the table.
        table: String,
        /// Number of parts compared so far.
        parts_done: u64,
        /// Number of all parts.
        parts: u64,
    },
}

/// Result of the comparison of one table.
#[derive(Debug, Default)]
pub(super) struct OffsetsFound {
    /// Number of rows that no source of the table wrote.
    pub(super) foreign: u64,
    /// Number of all rows that were read.
    pub(super) rows: u64,
    /// Partitions that differ from the ledger.
    pub(super) apart: Vec<(Key, PartitionDifference)>,
}

/// Difference between the rows of a partition and its ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PartitionDifference {
    pub(super) missing: Occurrences,
    pub(super) duplicated: Occurrences,
    pub(super) unexpected: Occurrences,
}

/// Number of affected rows, and some of their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Occurrences {
    pub(super) count: i64,
    pub(super) offsets: Vec<i64>,
    /// The numbers as text.
    pub(super) detail: String,
}

/// Deep verification of one table, inside an open transaction: DuckLake then answers every query from one
/// state of its catalog while the compactor works.
pub(super) struct TableReader<'a> {
    pub(super) session: &'a Session,
    pub(super) view: &'a CatalogView,
    pub(super) table: TableName,
    pub(super) sources: Vec<&'a SourceEntry>,
    /// Reads the columns that are not compared too.
    pub(super) reads_all: bool,
}

/// Rows of one partition.
struct PartitionRows {
    rows: i64,
    distinct: i64,
    lowest: i64,
    highest: i64,
}

impl TableReader<'_> {
    /// Reads the table and compares it with the ledger.
    pub(super) fn compare(
        &self,
        progress: &mut dyn FnMut(&DeepProgress),
    ) -> duckdb::Result<OffsetsFound> {
        self.read_all(progress)?;
        let mut found = OffsetsFound::default();
        let mut seen = BTreeMap::new();
        for (key, of_partition) in self.summary()? {
            found.rows += of_partition.rows.unsigned_abs();
            match key {
                Some(key) => drop(seen.insert(key, of_partition)),
                None => found.foreign += of_partition.rows.unsigned_abs(),
            }
        }
        let mut keys: Vec<Key> = seen.keys().copied().collect();
        for source in &self.sources {
            let of_ledger =
                self.view.partitions(source.id).map(|(partition, _)| (source.id, partition));
            keys.extend(of_ledger);
        }
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            if !self.agrees(key, seen.get(&key)) {
                found.apart.push((key, self.locate(key)?));
            }
        }
        Ok(found)
    }

    /// Returns the table at the view's snapshot, as a FROM clause.
    pub(super) fn rows_at_snapshot(&self) -> String {
        format!("{LAKE}.{} AT (VERSION => {})", self.table.sql(), self.view.snapshot)
    }

    /// Returns the rows of one partition, as a FROM clause with its condition.
    fn rows_of_partition(&self, key: Key) -> String {
        let topic = self.sources.iter().find(|source| source.id == key.0);
        let topic = topic.map_or("", |source| &source.topic);
        format!(
            "{} WHERE _kafka_topic = {} AND _kafka_partition = {}",
            self.rows_at_snapshot(),
            quote(topic),
            key.1
        )
    }

    fn chain(&self, key: Key) -> Option<&PartitionChain> {
        self.view.chains.get(&key)
    }

    fn covered(&self, key: Key) -> OffsetRange {
        let nothing = OffsetRange { from: Offset(0), to: Offset(0) };
        self.chain(key).map_or(nothing, PartitionChain::covered)
    }

    fn agrees(&self, key: Key, seen: Option<&PartitionRows>) -> bool {
        let expected = self.chain(key).map_or(0, |chain| chain.totals().rows);
        let OffsetRange { from, to } = self.covered(key);
        match seen {
            None => expected == 0,
            Some(seen) => {
                seen.rows == expected
                    && seen.distinct == expected
                    && seen.lowest >= from.0
                    && seen.highest < to.0
            }
        }
    }

    /// Marks each offset of each row in a bitmap.
    fn read_all(&self, progress: &mut dyn FnMut(&DeepProgress)) -> duckdb::Result<()> {
        self.session.execute(
            "CREATE OR REPLACE TEMP TABLE seen(topic VARCHAR, \"partition\" INTEGER, bucket BIGINT, \
             n BIGINT, bits BIT, lowest BIGINT, highest BIGINT, content UBIGINT)",
        )?;
        let files = self.files()?;
        let bytes = |files: &[(String, u64)]| files.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let mut show = |files_done: usize| {
            progress(&DeepProgress::Rows {
                table: self.table.to_string(),
                files_done: files_done as u64,
                files: files.len() as u64,
                bytes_done: bytes(&files[..files_done]),
                bytes: bytes(&files),
            });
        };
        show(0);
        for part in self.parts(&files)? {
            self.session.execute(&self.read_sql(&files, &part))?;
            show(part.end);
        }
        Ok(())
    }

    /// Lists the files of the table in the order of their names.
    fn files(&self) -> duckdb::Result<Vec<(String, u64)>> {
        let sql = format!(
            "SELECT data_file, data_file_size_bytes::VARCHAR FROM \
             ducklake_list_files('{LAKE}', {}, schema => {}, snapshot_version => {}) ORDER BY 1",
            quote(&self.table.table),
            quote(&self.table.schema),
            self.view.snapshot
        );
        let file = |row: Vec<Option<String>>| {
            let mut values = row.into_iter().map(Option::unwrap_or_default);
            let path = values.next().unwrap_or_default();
            (path, values.next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0))
        };
        Ok(self.session.rows(&sql)?.into_iter().map(file).collect())
    }

    /// Returns the consecutive files that each query reads.
    fn parts(&self, files: &[(String, u64)]) -> duckdb::Result<Vec<Range<usize>>> {
        let whole = 0..files.len();
        // A column of this name hides DuckDB's own, which identifies the file of a row.
        let hidden = self.has_column("filename")?;
        Ok(if hidden { vec![whole] } else { split(files) })
    }

    pub(super) fn has_column(&self, name: &str) -> duckdb::Result<bool> {
        let sql = format!(
            "SELECT 1::VARCHAR FROM duckdb_columns() WHERE database_name = '{LAKE}' \
             AND schema_name = {} AND table_name = {} AND lower(column_name) = {}",
            quote(&self.table.schema),
            quote(&self.table.table),
            quote(name),
        );
        Ok(!self.session.rows(&sql)?.is_empty())
    }

    fn read_sql(&self, files: &[(String, u64)], part: &Range<usize>) -> String {
        // Rows that are inlined in the catalog have a file name too; the open ends include them.
        let mut condition = "true".to_owned();
        if part.start > 0 {
            let _ = write!(condition, " AND filename >= {}", quote(&files[part.start].0));
        }
        if part.end < files.len() {
            let _ = write!(condition, " AND filename < {}", quote(&files[part.end].0));
        }
        // A hash needs every value; a count would be answered by statistics.
        let content = if self.reads_all { "bit_xor(hash(*COLUMNS(*)))" } else { "NULL::UBIGINT" };
        format!(
            "INSERT INTO seen SELECT CASE WHEN _kafka_offset IS NOT NULL THEN _kafka_topic END, \
             _kafka_partition, CASE WHEN _kafka_offset >= 0 THEN _kafka_offset // {BUCKET} END, count(*), \
             bitstring_agg((_kafka_offset % {BUCKET})::INTEGER, 0, {}) FILTER (WHERE _kafka_offset >= 0), \
             min(_kafka_offset), max(_kafka_offset), {content} FROM {} WHERE {condition} GROUP BY ALL",
            BUCKET - 1,
            self.rows_at_snapshot()
        )
    }

    /// Sums up the rows of each partition; None for rows that no source of the table wrote.
    fn summary(&self) -> duckdb::Result<Vec<(Option<Key>, PartitionRows)>> {
        let sql = "SELECT topic, COLUMNS(* EXCLUDE topic)::VARCHAR FROM ( \
             SELECT topic, \"partition\", sum(n)::BIGINT AS n, \
               coalesce(sum(bit_count(bits)), 0)::BIGINT AS distinct_offsets, min(lowest), max(highest) \
             FROM (SELECT topic, \"partition\", bucket, sum(n) AS n, bit_or(bits) AS bits, \
               min(lowest) AS lowest, max(highest) AS highest FROM seen GROUP BY ALL) \
             GROUP BY topic, \"partition\")";
        Ok(self.session.rows(sql)?.into_iter().map(|row| self.seen_of_row(row)).collect())
    }

    fn seen_of_row(&self, row: Vec<Option<String>>) -> (Option<Key>, PartitionRows) {
        let mut values = row.into_iter();
        let topic = values.next().flatten();
        let source = self.sources.iter().find(|source| Some(&source.topic) == topic.as_ref());
        let mut numbers = values.map(|value| value.and_then(|value| value.parse::<i64>().ok()));
        let mut next = || numbers.next().flatten();
        let partition = next().and_then(|partition| i32::try_from(partition).ok());
        let key = source.zip(partition).map(|(source, number)| (source.id, Partition(number)));
        let mut number = |missing| next().unwrap_or(missing);
        let (rows, distinct) = (number(0), number(0));
        (key, PartitionRows { rows, distinct, lowest: number(i64::MIN), highest: number(i64::MAX) })
    }

    /// Finds the offsets that make a partition differ.
    fn locate(&self, key: Key) -> duckdb::Result<PartitionDifference> {
        self.session.execute(&format!(
            "CREATE OR REPLACE TEMP TABLE offsets AS SELECT _kafka_offset AS o, count(*) AS times \
             FROM {} AND _kafka_offset IS NOT NULL GROUP BY 1",
            self.rows_of_partition(key)
        ))?;
        let ranges = self.load_ranges(key)?;
        let covered = self.covered(key);
        let outside = format!("o < {} OR o >= {}", covered.from, covered.to);
        let mut apart = PartitionDifference {
            duplicated: self.duplicated()?,
            unexpected: self.count_where(&outside)?,
            missing: self.missing(ranges.ranges())?,
        };
        let expected = self.chain(key).map_or(0, |chain| chain.totals().rows);
        let inside = self.count_where(&format!("NOT ({outside})"))?.count;
        // In a range that a replay cut, only the number of missing rows is known, not their range.
        apart.missing.count = apart.missing.count.max(expected - inside);
        let extra = inside - expected + apart.missing.count;
        describe(&mut apart, extra, covered, expected, inside);
        apart.unexpected.count += extra;
        Ok(apart)
    }

    /// Loads the ranges that no replay took back into a temporary table.
    pub(super) fn load_ranges(&self, key: Key) -> duckdb::Result<LiveRanges> {
        let live = live_ranges(&ranges(self.session, key, self.view.last_ledger_id)?);
        self.session.execute(
            "CREATE OR REPLACE TEMP TABLE ranges(a BIGINT, b BIGINT, least BIGINT, accounted BIGINT)",
        )?;
        for some in live.ranges().chunks(1000) {
            let value = |live: &LiveRange| {
                let OffsetRange { from, to } = live.range;
                format!("({from}, {to}, {}, {})", least_rows(live), accounted(live))
            };
            let values: Vec<_> = some.iter().map(value).collect();
            self.session.execute(&format!("INSERT INTO ranges VALUES {}", values.join(", ")))?;
        }
        Ok(live)
    }

    fn duplicated(&self) -> duckdb::Result<Occurrences> {
        let rows = "SELECT coalesce(sum(times - 1), 0)::VARCHAR FROM offsets";
        let offsets = "SELECT o::VARCHAR FROM offsets WHERE times > 1";
        self.occurrences(rows, offsets)
    }

    fn count_where(&self, condition: &str) -> duckdb::Result<Occurrences> {
        let count = format!("SELECT count(*)::VARCHAR FROM offsets WHERE {condition}");
        self.occurrences(&count, &format!("SELECT o::VARCHAR FROM offsets WHERE {condition}"))
    }

    /// Returns the rows that ranges must have and do not, with absent offsets of the first such ranges.
    fn missing(&self, ranges: &[LiveRange]) -> duckdb::Result<Occurrences> {
        self.session.execute(
            "CREATE OR REPLACE TEMP TABLE short AS SELECT a, b, least - count(o) AS n FROM ranges \
             LEFT JOIN offsets ON o >= a AND o < b GROUP BY a, b, least HAVING count(o) < least",
        )?;
        let offsets = format!(
            "SELECT o::VARCHAR FROM (SELECT unnest(range(a, b)) AS o FROM \
             (FROM short ORDER BY a LIMIT {LISTED_RANGES})) ANTI JOIN offsets USING (o)"
        );
        let count = "SELECT coalesce(sum(n), 0)::VARCHAR FROM short";
        let mut missing = self.occurrences(count, &offsets)?;
        let short = self.session.rows(&format!(
            "SELECT a::VARCHAR, b::VARCHAR, n::VARCHAR FROM short ORDER BY a LIMIT {EXAMPLES}"
        ))?;
        missing.detail = short_ranges(&short, ranges);
        Ok(missing)
    }

    /// Returns a count and the first offsets; both queries return text.
    pub(super) fn occurrences(&self, count: &str, offsets: &str) -> duckdb::Result<Occurrences> {
        let number = |text: &String| text.parse().ok();
        let count = self.session.texts(count)?.first().and_then(number).unwrap_or(0);
        if count == 0 {
            return Ok(Occurrences::default());
        }
        let sql = format!("SELECT o FROM ({offsets}) t(o) ORDER BY o::BIGINT LIMIT {EXAMPLES}");
        let offsets = self.session.texts(&sql)?.iter().filter_map(number).collect();
        Ok(Occurrences { count, offsets, detail: String::new() })
    }
}

/// Returns `range a..b lacks n` for the first ranges.
fn short_ranges(short: &[Vec<Option<String>>], ranges: &[LiveRange]) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let range = |row: &Vec<Option<String>>| {
        let (from, to, rows) = (text(&row[0]), text(&row[1]), text(&row[2]));
        let of_range = ranges.iter().find(|live| live.range.from.to_string() == from);
        let is_whole = of_range.is_some_and(|live| least_rows(live) == live.range.len());
        // In a range with other counts it is not known which of the absent offsets are the lost ones.
        let among = if is_whole { "" } else { " of the offsets below" };
        format!("range {from}..{to} lacks {rows}{among}")
    };
    short.iter().map(range).collect::<Vec<_>>().join(", ")
}

fn describe(
    apart: &mut PartitionDifference,
    extra: i64,
    covered: OffsetRange,
    expected: i64,
    inside: i64,
) {
    let OffsetRange { from: first, to: next } = covered;
    let counts =
        format!("the ledger counts {expected} rows in {first}..{next}, the table has {inside}");
    let short = std::mem::take(&mut apart.missing.detail);
    let separator = if short.is_empty() { "" } else { "; " };
    apart.missing.detail = format!("{counts}{separator}{short}");
    "offsets with more than one row".clone_into(&mut apart.duplicated.detail);
    apart.unexpected.detail = match (apart.unexpected.count, extra) {
        (outside, 0) => format!("{outside} offsets outside of {first}..{next}"),
        (0, extra) => format!("{extra} offsets that are counted as no rows; {counts}"),
        (outside, extra) => format!(
            "{outside} offsets outside of {first}..{next}, {extra} that are counted as no rows; {counts}"
        ),
    };
}

fn split(files: &[(String, u64)]) -> Vec<Range<usize>> {
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let size = (bytes / PARTS).max(PART_BYTES);
    let mut parts = Vec::new();
    let (mut start, mut filled) = (0, 0);
    for (index, (_, bytes)) in files.iter().enumerate() {
        filled += bytes;
        if filled >= size {
            parts.push(start..index + 1);
            (start, filled) = (index + 1, 0);
        }
    }
    // An empty table is read too: another client's rows may be inlined in the catalog.
    if start < files.len() || parts.is_empty() {
        parts.push(start..files.len());
    }
    parts
}

/// Returns values as a list of SQL texts.
pub(super) fn list<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let values: Vec<_> = values.map(quote).collect();
    if values.is_empty() { "NULL".to_owned() } else { values.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sizes: &[u64]) -> Vec<(String, u64)> {
        sizes.iter().enumerate().map(|(at, size)| (format!("f{at:03}"), *size)).collect()
    }

    #[test]
    fn parts_are_whole_files_and_miss_none() {
        let parts = split(&files(&[40 << 20, 40 << 20, 1, 200 << 20, 5]));

        assert_eq!(parts, [0..2, 2..4, 4..5]);
    }

    #[test]
    fn a_table_without_files_is_read_once() {
        assert_eq!(split(&[]), vec![Range { start: 0, end: 0 }]);
    }

    #[test]
    fn a_large_table_has_a_bounded_number_of_parts() {
        assert!(split(&files(&vec![1 << 30; 1000])).len() <= 50);
    }
}
