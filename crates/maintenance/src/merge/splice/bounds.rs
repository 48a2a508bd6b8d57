//! Column statistics of merged files, combined from those that the catalog has of the sources.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use ducktide_lake::CatalogClient as _;
use ducktide_lake::rows::{ColumnRow, FileColumnStatsRow};
use ducktide_lake::session::Session;
use ducktide_protocol::error::Result;

use super::not_spliceable::NotSpliceable;
use crate::list;

/// Types whose values sort in the order of their texts in the catalog.
const ORDERED_TEXTS: [&str; 3] = ["varchar", "json", "uuid"];

/// Statistics of one column in one or several files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnStatistics {
    values: Option<i64>,
    nulls: Option<i64>,
    min: Option<String>,
    max: Option<String>,
    contains_nan: Option<bool>,
}

impl ColumnStatistics {
    fn of_row(row: &FileColumnStatsRow) -> Self {
        Self {
            values: row.value_count,
            nulls: row.null_count,
            min: row.min_value.clone(),
            max: row.max_value.clone(),
            contains_nan: row.contains_nan,
        }
    }

    /// Returns the statistics of rows without values.
    const fn of_nulls(rows: i64) -> Self {
        let (values, nulls) = (Some(0), Some(rows));
        Self { values, nulls, min: None, max: None, contains_nan: Some(false) }
    }
}

/// A source file.
#[derive(Debug)]
pub(super) struct StatisticsSource {
    pub(super) id: i64,
    pub(super) rows: i64,
    /// Columns that it lacks, so that its rows have NULL there.
    pub(super) lacking: Vec<i64>,
}

/// Statistics of the columns of files, and the types of the columns.
pub(super) struct Statistics {
    of_files: HashMap<i64, Vec<FileColumnStatsRow>>,
    types: HashMap<i64, String>,
    /// A column has statistics that are specific to its type.
    has_others: bool,
}

impl Statistics {
    pub(super) fn read(session: &Session, table_id: i64, files: &[i64]) -> Result<Self> {
        let types = types(session, table_id)?;
        let condition = format!("WHERE data_file_id IN ({})", list(files));
        let (mut of_files, mut has_others) = (HashMap::<i64, Vec<_>>::new(), false);
        for row in session.select::<FileColumnStatsRow>(&condition)? {
            has_others |= row.extra_stats.is_some();
            of_files.entry(row.data_file_id).or_default().push(row);
        }
        Ok(Self { of_files, types, has_others })
    }

    /// Checks that these are all the statistics that DuckLake has of the columns.
    pub(super) fn check(&self) -> Result<(), NotSpliceable> {
        let is_special =
            |of_type: &String| of_type.starts_with("variant") || of_type.starts_with("geometry");
        if self.has_others || self.types.values().any(is_special) {
            return Err(NotSpliceable("a column has statistics specific to its type"));
        }
        Ok(())
    }

    /// Returns the rows of a merged file, whose columns have these sizes in bytes.
    pub(super) fn rows(
        &self,
        (data_file_id, table_id): (i64, i64),
        sources: &[StatisticsSource],
        sizes: &BTreeMap<i64, i64>,
    ) -> Vec<FileColumnStatsRow> {
        let mut all: BTreeMap<i64, Vec<ColumnStatistics>> = BTreeMap::new();
        for source in sources {
            let known = self.of_files.get(&source.id).into_iter().flatten();
            let known = known.filter(|row| !source.lacking.contains(&row.column_id));
            let known = known.map(|row| (row.column_id, ColumnStatistics::of_row(row)));
            let lacking = source.lacking.iter();
            let lacking = lacking.map(|column| (*column, ColumnStatistics::of_nulls(source.rows)));
            for (column, statistics) in known.chain(lacking) {
                all.entry(column).or_default().push(statistics);
            }
        }
        // Without a row for one of the files, the statistics of a column are not known.
        let complete = all.into_iter().filter(|(_, found)| found.len() == sources.len());
        complete
            .map(|(column, found)| {
                let of_type = self.types.get(&column).map_or("", String::as_str);
                let joined = join(&found.iter().collect::<Vec<_>>(), of_type);
                FileColumnStatsRow {
                    data_file_id,
                    table_id,
                    column_id: column,
                    column_size_bytes: sizes.get(&column).copied(),
                    value_count: joined.values,
                    null_count: joined.nulls,
                    min_value: joined.min,
                    max_value: joined.max,
                    contains_nan: joined.contains_nan,
                    extra_stats: None,
                }
            })
            .collect()
    }
}

fn types(session: &Session, table_id: i64) -> Result<HashMap<i64, String>> {
    let columns: Vec<ColumnRow> =
        session.select(&format!("WHERE table_id = {table_id} ORDER BY begin_snapshot"))?;
    Ok(columns.into_iter().map(|column| (column.column_id, column.column_type)).collect())
}

/// Combines the statistics of all files.
fn join(all: &[&ColumnStatistics], of_type: &str) -> ColumnStatistics {
    // The count excludes NULLs (DuckLake 1.5.5).
    let with_values: Vec<_> = all.iter().filter(|one| one.values != Some(0)).collect();
    let bound = |of: fn(&ColumnStatistics) -> Option<&String>, keep: Ordering| {
        let bounds: Option<Vec<_>> = with_values.iter().map(|one| of(one)).collect();
        let mut bounds = bounds?.into_iter();
        let first = bounds.next()?;
        let found = bounds.try_fold(first, |found, next| {
            Some(if compare(next, found, of_type)? == keep { next } else { found })
        });
        // A single value must be comparable too; otherwise it is not known to be a bound.
        found.filter(|found| compare(found, found, of_type).is_some()).cloned()
    };
    ColumnStatistics {
        values: all.iter().map(|one| one.values).sum(),
        nulls: all.iter().map(|one| one.nulls).sum(),
        min: bound(|one| one.min.as_ref(), Ordering::Less),
        max: bound(|one| one.max.as_ref(), Ordering::Greater),
        contains_nan: all.iter().try_fold(false, |any, one| Some(any | one.contains_nan?)),
    }
}

/// Compares two values as the catalog writes them; None if their order is not known, so that the bound is
/// omitted and readers read the file.
fn compare(a: &str, b: &str, of_type: &str) -> Option<Ordering> {
    let integer = |text: &str| text.parse::<i128>().ok();
    match of_type {
        "int8" | "int16" | "int32" | "int64" | "uint8" | "uint16" | "uint32" | "uint64"
        | "int128" => Some(integer(a)?.cmp(&integer(b)?)),
        "float32" | "float64" => {
            let float = |text: &str| text.parse::<f64>().ok();
            float(a)?.partial_cmp(&float(b)?)
        }
        _ if of_type.starts_with("decimal") => {
            // Both have the column's scale.
            let digits = |text: &str| integer(&text.replace('.', ""));
            let scale = |text: &str| text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            (scale(a) == scale(b)).then_some(())?;
            Some(digits(a)?.cmp(&digits(b)?))
        }
        "date" | "timestamp" | "timestamptz" => {
            let is_comparable = |text: &str| has_common_form(text, of_type == "timestamptz");
            (is_comparable(a) && is_comparable(b)).then(|| a.cmp(b))
        }
        _ if ORDERED_TEXTS.contains(&of_type) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Returns whether a date or time has a year of four digits, and the zone UTC if any: then texts sort as
/// the values do, since every character that may follow the seconds sorts before digits.
fn has_common_form(text: &str, has_zone: bool) -> bool {
    let bytes = text.as_bytes();
    let has_year =
        bytes.len() >= 10 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    has_year && !text.contains('(') && text.ends_with("+00") == has_zone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(min: Option<&str>, max: Option<&str>) -> ColumnStatistics {
        let (min, max) = (min.map(str::to_owned), max.map(str::to_owned));
        ColumnStatistics { values: Some(6), nulls: Some(4), min, max, contains_nan: Some(false) }
    }

    fn joined(of_type: &str, all: &[ColumnStatistics]) -> (Option<String>, Option<String>) {
        let joined = join(&all.iter().collect::<Vec<_>>(), of_type);
        (joined.min, joined.max)
    }

    fn bounds(of_type: &str, texts: &[&str]) -> (Option<String>, Option<String>) {
        let all: Vec<_> = texts.iter().map(|text| statistics(Some(text), Some(text))).collect();
        joined(of_type, &all)
    }

    fn both(min: &str, max: &str) -> (Option<String>, Option<String>) {
        (Some(min.to_owned()), Some(max.to_owned()))
    }

    #[test]
    fn values_are_compared_in_the_order_of_their_type() {
        assert_eq!(bounds("int64", &["9", "10", "-3"]), both("-3", "10"));
        assert_eq!(
            bounds("uint64", &["18446744073709551615", "7"]),
            both("7", "18446744073709551615")
        );
        assert_eq!(bounds("float64", &["1e3", "-inf", "20.5"]), both("-inf", "1e3"));
        assert_eq!(bounds("decimal(9,2)", &["-1.50", "10.00", "9.99"]), both("-1.50", "10.00"));
        assert_eq!(bounds("date", &["2026-11-26", "0999-01-01"]), both("0999-01-01", "2026-11-26"));
        let times =
            ["2026-11-26 00:00:00+00", "2026-11-26 00:00:00.5+00", "2026-11-26 00:00:00.45+00"];
        assert_eq!(bounds("timestamptz", &times), both(times[0], times[1]));
        assert_eq!(
            bounds("timestamp", &["2026-11-26 00:00:00", "2026-11-26 00:00:00.1"]).1.unwrap().len(),
            21
        );
        assert_eq!(bounds("varchar", &["é", "z", "Z"]), both("Z", "é"));
    }

    #[test]
    fn values_without_a_known_order_have_no_bounds() {
        assert_eq!(bounds("date", &["10000-01-01", "2026-11-26"]), (None, None));
        assert_eq!(bounds("date", &["0044-03-15 (BC)", "2026-11-26"]), (None, None));
        assert_eq!(
            bounds("timestamptz", &["2026-11-26 00:00:00+01", "2026-11-26 00:00:00+00"]),
            (None, None)
        );
        assert_eq!(bounds("timestamp", &["infinity", "infinity"]), (None, None));
        assert_eq!(bounds("decimal(9,2)", &["1.5", "1.25"]), (None, None));
        assert_eq!(bounds("float64", &["nan"]), (None, None));
        assert_eq!(bounds("interval", &["1 day", "2 days"]), (None, None));
        assert_eq!(bounds("interval", &["1 day"]), (None, None));
    }

    #[test]
    fn a_file_without_bounds_removes_those_of_all_unless_it_has_only_nulls() {
        let (shown, hidden) = (statistics(Some("1"), Some("2")), statistics(None, None));
        let nulls = ColumnStatistics { values: Some(0), nulls: Some(10), ..hidden.clone() };

        assert_eq!(joined("int32", &[shown.clone(), hidden]), (None, None));
        let all = [&shown, &nulls];
        let joined = join(&all, "int32");
        assert_eq!((joined.min.as_deref(), joined.max.as_deref()), (Some("1"), Some("2")));
        assert_eq!(
            (joined.values, joined.nulls, joined.contains_nan),
            (Some(6), Some(14), Some(false))
        );
    }

    #[test]
    fn a_count_that_one_file_lacks_is_omitted() {
        let known = statistics(None, None);
        let unknown = ColumnStatistics { values: None, contains_nan: None, ..known.clone() };

        let joined = join(&[&known, &unknown], "float64");
        assert_eq!((joined.values, joined.nulls, joined.contains_nan), (None, Some(8), None));
    }
}
