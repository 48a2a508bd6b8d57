//! Content of a worker's Parquet footer that the catalog stores, as DuckLake would read it from the file.
//!
//! | Parquet type | text of a bound |
//! |---|---|
//! | booleans | `false`, `true` |
//! | integers, decimals, doubles | `-7`, `1.50`, `1.5`, `1e+20`; none for an infinite one |
//! | date, time | `2026-11-01`, `10:00:00.5` |
//! | timestamp, with time zone | `2026-11-01 10:00:00.5`, `2026-11-01 10:00:00.5+00` |
//! | UUID, text and JSON, bytes | lower case, as it is, `\xAA` for each byte that is not plain |

use std::cmp::Ordering;
use std::fmt::Write as _;

use ducktide_protocol::{FileFooter, StagedColumn};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

/// Size of the footer's length and the magic number at the end of a file.
const TAIL_BYTES: u64 = 8;

/// Returns the footer of a file that a worker has just written: without page indexes and Bloom filters,
/// and without bounds for chunks that contain a NaN.
#[must_use]
pub fn file_footer(metadata: &ParquetMetaData, file_bytes: u64) -> FileFooter {
    let groups = metadata.row_groups();
    let ends = groups.iter().flat_map(RowGroupMetaData::columns).map(|chunk| {
        let (start, length) = chunk.byte_range();
        start + length
    });
    let bytes = file_bytes - TAIL_BYTES - ends.max().unwrap_or(4);
    let leaves = metadata.file_metadata().schema_descr().columns().iter().enumerate();
    let columns = leaves.filter_map(|(index, leaf)| {
        let info = leaf.self_type().get_basic_info();
        let chunks = groups.iter().map(|group| group.column(index));
        info.has_id().then(|| column_statistics(info.id(), leaf, chunks))
    });
    FileFooter { bytes, columns: columns.collect() }
}

fn column_statistics<'a>(
    id: i32,
    leaf: &ColumnDescriptor,
    chunks: impl Iterator<Item = &'a ColumnChunkMetaData>,
) -> StagedColumn {
    let mut found = StagedColumn { id, ..StagedColumn::default() };
    let (mut all, mut nulls) = (0, Some(0));
    let mut bounds: Option<(Bound, Bound)> = None;
    let (mut are_known, mut has_nan) = (true, false);
    for chunk in chunks {
        let in_chunk = u64::try_from(chunk.num_values()).unwrap_or(0);
        let nulls_in_chunk = chunk.statistics().and_then(Statistics::null_count_opt);
        found.bytes += chunk.compressed_size();
        all += in_chunk;
        nulls = nulls.zip(nulls_in_chunk).map(|(before, more)| before + more);
        if nulls_in_chunk == Some(in_chunk) {
            continue;
        }
        let of_chunk = chunk.statistics().and_then(|statistics| chunk_bounds(leaf, statistics));
        (are_known, has_nan) = (are_known && of_chunk.is_some(), has_nan || of_chunk.is_none());
        bounds = of_chunk.map(|of_chunk| widest(bounds.take(), of_chunk));
    }
    let (min, max) = bounds.filter(|_| are_known).unzip();
    found.min = min.and_then(|min| text(leaf, &min));
    found.max = max.and_then(|max| text(leaf, &max));
    found.nulls = nulls;
    found.values = nulls.map(|nulls| all - nulls);
    let is_float =
        matches!(leaf.physical_type(), parquet::basic::Type::DOUBLE | parquet::basic::Type::FLOAT);
    found.contains_nan = nulls.filter(|_| is_float).map(|_| has_nan);
    found
}

/// Value of a bound, in the order of its type.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Bound {
    Integer(i128),
    Float(f64),
    Bytes(Vec<u8>),
}

fn widest(known: Option<(Bound, Bound)>, (min, max): (Bound, Bound)) -> (Bound, Bound) {
    let Some((known_min, known_max)) = known else { return (min, max) };
    let smaller = if min.partial_cmp(&known_min) == Some(Ordering::Less) { min } else { known_min };
    let greater =
        if max.partial_cmp(&known_max) == Some(Ordering::Greater) { max } else { known_max };
    (smaller, greater)
}

fn chunk_bounds(leaf: &ColumnDescriptor, statistics: &Statistics) -> Option<(Bound, Bound)> {
    let integers = |min: Option<i128>, max| min.zip(max);
    let pair = match statistics {
        Statistics::Boolean(of) => integers(
            of.min_opt().map(|min| i128::from(*min)),
            of.max_opt().map(|max| i128::from(*max)),
        ),
        Statistics::Int32(of) => integers(
            of.min_opt().map(|min| i128::from(*min)),
            of.max_opt().map(|max| i128::from(*max)),
        ),
        Statistics::Int64(of) => integers(
            of.min_opt().map(|min| i128::from(*min)),
            of.max_opt().map(|max| i128::from(*max)),
        ),
        Statistics::Double(of) => {
            let bounds = of.min_opt().zip(of.max_opt());
            return bounds.map(|(min, max)| (Bound::Float(*min), Bound::Float(*max)));
        }
        _ => {
            let bounds = statistics.min_bytes_opt().zip(statistics.max_bytes_opt())?;
            if decimal_scale(leaf).is_none() {
                return Some((Bound::Bytes(bounds.0.to_vec()), Bound::Bytes(bounds.1.to_vec())));
            }
            signed(bounds.0).zip(signed(bounds.1))
        }
    };
    pair.map(|(min, max)| (Bound::Integer(min), Bound::Integer(max)))
}

/// Returns the value of a decimal in bytes: big-endian, in two's complement.
fn signed(bytes: &[u8]) -> Option<i128> {
    let first = i128::from(bytes.first()?.cast_signed());
    let rest = bytes.get(1..)?.iter();
    (bytes.len() <= 16).then(|| rest.fold(first, |value, byte| value << 8 | i128::from(*byte)))
}

fn decimal_scale(leaf: &ColumnDescriptor) -> Option<usize> {
    let scale = match (leaf.logical_type_ref(), leaf.converted_type()) {
        (Some(LogicalType::Decimal { scale, .. }), _) => *scale,
        (None, ConvertedType::DECIMAL) => leaf.type_scale(),
        _ => return None,
    };
    usize::try_from(scale).ok()
}

/// Returns a bound as text; None for a value that has none in DuckLake.
fn text(leaf: &ColumnDescriptor, bound: &Bound) -> Option<String> {
    let logical = leaf.logical_type_ref().or(match leaf.converted_type() {
        ConvertedType::UTF8 => Some(&LogicalType::String),
        ConvertedType::JSON => Some(&LogicalType::Json),
        ConvertedType::DATE => Some(&LogicalType::Date),
        _ => None,
    });
    match (bound, logical) {
        (Bound::Float(value), _) => value.is_finite().then(|| float_text(*value)),
        (Bound::Bytes(bytes), Some(LogicalType::Uuid)) => {
            uuid::Uuid::from_slice(bytes).ok().map(|uuid| uuid.to_string())
        }
        (Bound::Bytes(bytes), Some(LogicalType::String | LogicalType::Json)) => {
            String::from_utf8(bytes.clone()).ok()
        }
        (Bound::Bytes(bytes), _) => Some(blob_text(bytes)),
        (Bound::Integer(value), Some(LogicalType::Date)) => date_text(i64::try_from(*value).ok()?),
        (Bound::Integer(value), Some(LogicalType::Time { unit, .. })) => {
            time_text(i64::try_from(*value).ok()?, per_second(*unit))
        }
        (Bound::Integer(value), Some(LogicalType::Timestamp { unit, is_adjusted_to_u_t_c })) => {
            let (value, per_second) = (i64::try_from(*value).ok()?, per_second(*unit));
            let per_day = per_second * 86_400;
            let date = date_text(value.div_euclid(per_day))?;
            let time = time_text(value.rem_euclid(per_day), per_second)?;
            let zone = if *is_adjusted_to_u_t_c { "+00" } else { "" };
            Some(format!("{date} {time}{zone}"))
        }
        (Bound::Integer(value), _) if leaf.physical_type() == parquet::basic::Type::BOOLEAN => {
            Some((*value != 0).to_string())
        }
        (Bound::Integer(value), _) => Some(match decimal_scale(leaf) {
            Some(scale) if scale > 0 => decimal_text(*value, scale),
            _ => value.to_string(),
        }),
    }
}

const fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::MILLIS => 1_000,
        TimeUnit::MICROS => 1_000_000,
        TimeUnit::NANOS => 1_000_000_000,
    }
}

fn decimal_text(value: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{whole}.{fraction}")
}

/// Returns the shortest text of a number, with an exponent below 0.0001 and from 1e16 on.
fn float_text(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        return format!("{value:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn blob_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' '..=b'~' if !b"\\'\"".contains(byte) => text.push(char::from(*byte)),
            _ => write!(text, "\\x{byte:02X}").expect("a text can grow"),
        }
    }
    text
}

/// Returns the date of a day, counted from 1970-01-01; None for a year before 1. Texts of years with more
/// than four digits are as long as they need to be.
fn date_text(day: i64) -> Option<String> {
    // Days from 0000-03-01, in eras of 400 years; a year begins in March, so that the leap day is its last.
    let day = day + 719_468;
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next_year;
    (year >= 1).then(|| format!("{year:04}-{month:02}-{day_of_month:02}"))
}

fn time_text(value: i64, per_second: i64) -> Option<String> {
    let (seconds, fraction) = (value / per_second, value % per_second);
    if !(0..=86_400).contains(&seconds) {
        return None;
    }
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let time = format!("{hour:02}:{minute:02}:{second:02}");
    if fraction == 0 {
        return Some(time);
    }
    let width = per_second.ilog10() as usize;
    let fraction = format!("{fraction:0width$}");
    Some(format!("{time}.{}", fraction.trim_end_matches('0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_texts_of_duckdb() {
        let floats = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.5, "1.5"),
            (100.0, "100.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
        ];
        for (value, expected) in floats {
            assert_eq!(float_text(value), expected);
        }
        assert_eq!(decimal_text(-5, 2), "-0.05");
        assert_eq!(decimal_text(150, 2), "1.50");
        assert_eq!(signed(&[0xff, 0xfb]), Some(-5));
        assert_eq!(signed(&[0x7f; 16]), Some(i128::from_be_bytes([0x7f; 16])));
    }

    #[test]
    fn times_have_the_texts_of_duckdb() {
        let dates = [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (20_758, "2026-11-01"),
            (2_932_897, "10000-01-01"),
            (-719_162, "0001-01-01"),
        ];
        for (day, expected) in dates {
            assert_eq!(date_text(day).as_deref(), Some(expected));
        }
        assert_eq!(date_text(-719_163), None);
        assert_eq!(time_text(36_000_500_000, 1_000_000).as_deref(), Some("10:00:00.5"));
        assert_eq!(time_text(1, 1_000_000_000).as_deref(), Some("00:00:00.000000001"));
        assert_eq!(time_text(86_399_000, 1_000).as_deref(), Some("23:59:59"));
    }

    #[test]
    fn bytes_are_escaped() {
        assert_eq!(blob_text(b"a'b\\\xAA"), r"a\x27b\x5C\xAA");
    }
}
