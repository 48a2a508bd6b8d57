//! Formatting of values like DuckDB, for the few statements whose columns DuckDB cannot cast.

use std::fmt::Write as _;
use std::time::Duration;

use duckdb::types::{TimeUnit, Value};
use jiff::civil::{Date, Time};
use jiff::{SignedDuration, Timestamp};

/// Returns the text of a value; None for NULL.
pub(crate) fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(value) => value.to_string(),
        Value::TinyInt(value) => value.to_string(),
        Value::SmallInt(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::BigInt(value) => value.to_string(),
        Value::HugeInt(value) => value.to_string(),
        Value::UHugeInt(value) => value.to_string(),
        Value::UTinyInt(value) => value.to_string(),
        Value::USmallInt(value) => value.to_string(),
        Value::UInt(value) => value.to_string(),
        Value::UBigInt(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Decimal(value) => value.to_string(),
        Value::Text(value) | Value::Enum(value) => value.clone(),
        Value::Blob(value) | Value::Geometry(value) => bytes(value),
        Value::Timestamp(unit, value) => timestamp(*unit, *value),
        Value::Date32(days) => date(*days),
        Value::Time64(unit, value) => time(*unit, *value),
        Value::Interval { months, days, nanos } => interval(*months, *days, *nanos),
        Value::List(values) | Value::Array(values) => {
            format!("[{}]", joined(values.iter().map(or_null)))
        }
        Value::Struct(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("'{name}': {}", or_null(value)));
            format!("{{{}}}", joined(fields))
        }
        Value::Map(entries) => {
            let entries =
                entries.iter().map(|(key, value)| format!("{}={}", or_null(key), or_null(value)));
            format!("{{{}}}", joined(entries))
        }
        Value::Union(value) => return text(value),
        // A kind of value that a newer DuckDB adds is shown too.
        other => format!("{other:?}"),
    })
}

/// Returns true if the text of the value is valid JSON.
pub(crate) fn is_json_literal(value: &Value) -> bool {
    use Value::{
        BigInt, Boolean, Double, Float, HugeInt, Int, SmallInt, TinyInt, UBigInt, UHugeInt, UInt,
        USmallInt, UTinyInt,
    };
    match value {
        Float(value) => value.is_finite(),
        Double(value) => value.is_finite(),
        _ => matches!(
            value,
            Boolean(_)
                | TinyInt(_)
                | SmallInt(_)
                | Int(_)
                | BigInt(_)
                | HugeInt(_)
                | UTinyInt(_)
                | USmallInt(_)
                | UInt(_)
                | UBigInt(_)
                | UHugeInt(_)
                | Value::Decimal(_)
        ),
    }
}

fn or_null(value: &Value) -> String {
    text(value).unwrap_or_else(|| "NULL".to_owned())
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// Returns printable ASCII unchanged, anything else as `\xAB`.
fn bytes(value: &[u8]) -> String {
    value.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b' '..=b'~' if *byte != b'\\' => text.push(char::from(*byte)),
            _ => write!(text, "\\x{byte:02X}").expect("a string takes any text"),
        }
        text
    })
}

/// Returns a time in UTC. DuckDB's range is wider; values outside of this one are shown as numbers.
fn timestamp(unit: TimeUnit, value: i64) -> String {
    let nanos = i128::from(value) * i128::from(nanos_per(unit));
    match Timestamp::from_nanosecond(nanos) {
        Ok(at) => at.to_string().replace('T', " ").replace('Z', "+00"),
        Err(_) => value.to_string(),
    }
}

fn date(days: i32) -> String {
    let epoch = Date::constant(1970, 1, 1);
    let since = SignedDuration::from_hours(24 * i64::from(days));
    epoch.checked_add(since).map_or_else(|_| days.to_string(), |date| date.to_string())
}

fn time(unit: TimeUnit, value: i64) -> String {
    let nanos = u64::try_from(value).unwrap_or(0).saturating_mul(nanos_per(unit));
    let since = Duration::from_nanos(nanos);
    Time::midnight()
        .checked_add(since)
        .map_or_else(|_| "24:00:00".to_owned(), |time| time.to_string())
}

fn interval(months: i32, days: i32, nanos: i64) -> String {
    let seconds = SignedDuration::from_nanos(nanos).as_secs_f64();
    format!("{months} months {days} days {seconds} seconds")
}

const fn nanos_per(unit: TimeUnit) -> u64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &Value) -> String {
        text(value).unwrap()
    }

    #[test]
    fn times_are_formatted_like_duckdb() {
        let at = Value::Timestamp(TimeUnit::Microsecond, 1_793_491_200_500_000);

        assert_eq!(shown(&at), "2026-11-01 00:00:00.5+00");
        assert_eq!(shown(&Value::Date32(-1)), "1969-12-31");
        assert_eq!(shown(&Value::Time64(TimeUnit::Microsecond, 3_661_000_000)), "01:01:01");
    }

    #[test]
    fn a_time_outside_of_the_calendar_is_shown_as_a_number() {
        assert_eq!(shown(&Value::Timestamp(TimeUnit::Microsecond, i64::MAX)), i64::MAX.to_string());
        assert_eq!(shown(&Value::Date32(i32::MAX)), i32::MAX.to_string());
    }

    #[test]
    fn nested_values_show_their_nulls() {
        let list = Value::List(vec![Value::Int(1), Value::Null]);

        assert_eq!(shown(&list), "[1, NULL]");
        assert_eq!(shown(&Value::Blob(b"a\\\xff".to_vec())), r"a\x5C\xFF");
    }
}
