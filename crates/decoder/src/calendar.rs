//! Dates and times of day: ranges that DuckDB can hold, and ISO 8601 text.

use ducktide_protocol::table::TimeUnit;

use crate::error::Problem;
use crate::text_buffer::TextBuffer;

const SECONDS_PER_DAY: i64 = 86_400;
/// Microseconds per day.
pub(super) const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * 1_000_000;

/// Days from 1970-01-01 to 0001-01-01 and to 9999-12-31.
///
/// DuckDB's range is wider, but it prints dates before year 1 with a suffix, JSON and most clients
/// only support four-digit years, and statistics are stored as text. So values outside are
/// rejected.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;
const MICROS: std::ops::Range<i64> = -719_162 * MICROS_PER_DAY..2_932_897 * MICROS_PER_DAY;

const NANOS_PER_DAY: i64 = MICROS_PER_DAY * 1_000;
const NANOS: std::ops::Range<i64> = -106_751 * NANOS_PER_DAY..106_751 * NANOS_PER_DAY;

/// Checks that a day is within the years 1 to 9999.
pub(super) fn day(days: i32) -> Result<i32, Problem> {
    if DAYS.contains(&i64::from(days)) { Ok(days) } else { Err(Problem::TimeOutOfRange) }
}

/// Checks a time of day in microseconds. 24:00:00 is rejected, because clients interpret it
/// differently.
pub(super) fn time_of_day(micros: i64) -> Result<i64, Problem> {
    if (0..MICROS_PER_DAY).contains(&micros) { Ok(micros) } else { Err(Problem::TimeOutOfRange) }
}

/// Returns microseconds since 1970-01-01, within the years 1 to 9999, from milliseconds or
/// microseconds.
#[inline]
pub fn timestamp_micros(value: i64, unit: TimeUnit) -> Result<i64, Problem> {
    let micros = match unit {
        TimeUnit::Millis => value.checked_mul(1_000),
        TimeUnit::Micros => Some(value),
        TimeUnit::Nanos => Some(value.div_euclid(1_000)),
    };
    micros.filter(|micros| MICROS.contains(micros)).ok_or(Problem::TimeOutOfRange)
}

/// Checks nanoseconds since 1970-01-01 on days completely within 64 bits: 1677-09-22 to 2262-04-10.
///
/// DuckLake rejects a file whose statistics contain a time on the first partial day, because the
/// start of that day is out of range. The largest values mean infinity.
pub(super) fn timestamp_nanos(nanos: i64) -> Result<i64, Problem> {
    if NANOS.contains(&nanos) { Ok(nanos) } else { Err(Problem::TimeOutOfRange) }
}

/// Writes `YYYY-MM-DD`.
pub(super) fn push_date(out: &mut TextBuffer, days: i64) {
    let (year, month, day) = civil(days);
    push_digits::<4>(out, year);
    out.push(b'-');
    push_digits::<2>(out, month);
    out.push(b'-');
    push_digits::<2>(out, day);
}

/// Writes `HH:MM:SS.fff…` with the number of fractional digits of the unit.
pub(super) fn push_time(out: &mut TextBuffer, since_midnight: i64, unit: TimeUnit) {
    let (seconds, fraction) =
        (since_midnight / per_second(unit), since_midnight % per_second(unit));
    push_digits::<2>(out, seconds / 3_600);
    out.push(b':');
    push_digits::<2>(out, seconds / 60 % 60);
    out.push(b':');
    push_digits::<2>(out, seconds % 60);
    out.push(b'.');
    match unit {
        TimeUnit::Millis => push_digits::<3>(out, fraction),
        TimeUnit::Micros => push_digits::<6>(out, fraction),
        TimeUnit::Nanos => push_digits::<9>(out, fraction),
    }
}

/// Writes `YYYY-MM-DDTHH:MM:SS.fff…`, without a zone.
pub(super) fn push_timestamp(out: &mut TextBuffer, value: i64, unit: TimeUnit) {
    let per_day = SECONDS_PER_DAY * per_second(unit);
    push_date(out, value.div_euclid(per_day));
    out.push(b'T');
    push_time(out, value.rem_euclid(per_day), unit);
}

const fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Millis => 1_000,
        TimeUnit::Micros => 1_000_000,
        TimeUnit::Nanos => 1_000_000_000,
    }
}

#[expect(clippy::cast_sign_loss, reason = "one decimal digit")]
fn push_digits<const N: usize>(out: &mut TextBuffer, mut value: i64) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Returns year, month and day in the proleptic Gregorian calendar.
///
/// Howard Hinnant's `civil_from_days` (<https://howardhinnant.github.io/date_algorithms.html>): years
/// start in March, so that the leap day is the last one.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Returns the text of a day as used in hive paths.
#[must_use]
pub fn date_text(days: i32) -> String {
    let mut text = TextBuffer::default();
    push_date(&mut text, i64::from(days));
    String::from_utf8(text.take()).expect("digits and hyphens are ASCII")
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, civil::Date};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn dates_have_the_text_of_jiff(days in -719_162_i32..=2_932_896) {
            let date = Date::constant(1970, 1, 1) + jiff::Span::new().days(days);
            prop_assert_eq!(date_text(days), date.to_string());
        }

        #[test]
        fn timestamps_have_the_text_of_jiff(micros in -10_000_000_000_000_000_i64..10_000_000_000_000_000) {
            let mut text = TextBuffer::default();
            push_timestamp(&mut text, micros, TimeUnit::Micros);
            text.push(b'Z');

            let text = String::from_utf8(text.take()).unwrap();
            prop_assert_eq!(text.parse::<Timestamp>().unwrap().as_microsecond(), micros);
        }
    }

    #[test]
    fn the_first_and_last_values_are_in_range_and_the_next_ones_are_not() {
        assert_eq!(date_text(-719_162), "0001-01-01");
        assert_eq!(date_text(2_932_896), "9999-12-31");
        assert!(day(-719_163).is_err() && day(2_932_897).is_err());
        for (micros, fits) in [(MICROS.start, true), (MICROS.start - 1, false), (MICROS.end, false)]
        {
            assert_eq!(timestamp_micros(micros, TimeUnit::Micros).is_ok(), fits);
        }
        assert!(timestamp_micros(i64::MAX, TimeUnit::Millis).is_err());
        assert_eq!(
            (date_text(-106_751), date_text(106_750)),
            ("1677-09-22".into(), "2262-04-10".into())
        );
        for (nanos, fits) in [(NANOS.start, true), (NANOS.start - 1, false), (NANOS.end, false)] {
            assert_eq!(timestamp_nanos(nanos).is_ok(), fits);
        }
        assert!(time_of_day(MICROS_PER_DAY).is_err());
    }
}
