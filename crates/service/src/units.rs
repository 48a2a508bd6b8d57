//! Text forms of numbers, sizes and durations, in settings and in output.

use std::time::Duration;

/// Formats an integer with thousands separators: `1,234,567`.
#[must_use]
pub fn number(value: impl Into<i128>) -> String {
    let value = value.into();
    let digits = value.unsigned_abs().to_string();
    let mut text = String::from(if value < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number with its noun: `1 row`, `2 rows`.
#[must_use]
pub fn count(value: impl Into<i128>, noun: &str) -> String {
    let value = value.into();
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", number(value))
}

/// Formats a size in bytes with a binary unit: `1.5 KiB`.
#[expect(clippy::cast_precision_loss, reason = "one decimal place is shown")]
#[must_use]
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut size = value as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Formats a duration in its two largest units: `3m 12s`.
#[must_use]
pub fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0 if value.as_millis() < 1000 => format!("{}ms", value.as_millis()),
        0..10 => format!("{:.1}s", value.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {}s", seconds % 60),
        3600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Returns the milliseconds of a duration, for the log field `elapsed_ms`.
#[must_use]
pub fn milliseconds(value: Duration) -> u64 {
    u64::try_from(value.as_millis()).unwrap_or(u64::MAX)
}

/// Formats a number of seconds as a duration; a negative one as zero.
#[must_use]
pub fn seconds(value: f64) -> String {
    duration(Duration::try_from_secs_f64(value).unwrap_or_default())
}

/// Parses a duration setting: a bare number is seconds; `500ms`, `2m` and `7d` have a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected =
        || "expected seconds, or a number with its unit such as 500ms, 2m, 1h, 7d".to_owned();
    let days = text.strip_suffix('d').and_then(|days| days.trim().parse::<u32>().ok());
    if let Some(days) = days {
        return Ok(Duration::from_hours(24) * days);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| expected());
    }
    let duration = text.parse::<jiff::SignedDuration>().map_err(|_| expected())?;
    Duration::try_from(duration).map_err(|_| "a duration cannot be negative".to_owned())
}

/// Parses a size setting: a bare number is bytes; `512MiB` and `2GB` have a unit.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "kib" | "k" => Some(1 << 10),
        "mib" | "m" => Some(1 << 20),
        "gib" | "g" => Some(1 << 30),
        "kb" => Some(1_000),
        "mb" => Some(1_000_000),
        "gb" => Some(1_000_000_000),
        _ => None,
    };
    let bytes = number.parse::<u64>().ok().zip(factor);
    let bytes = bytes.and_then(|(number, factor)| number.checked_mul(factor));
    bytes.ok_or_else(|| format!("expected bytes, as in 512MiB: `{text}`"))
}

/// Parses a ratio setting, from 0 to 1.
pub fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| format!("expected a number from 0 to 1: `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(parse_bytes("1GiB"), Ok(1 << 30));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert!(parse_bytes("much").is_err());
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1000), "1,000");
        assert_eq!(number(-1_234_567), "-1,234,567");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(count(1, "row"), "1 row");
        assert_eq!(count(0, "row"), "0 rows");
    }

    #[test]
    fn sizes_have_the_unit_that_fits() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 40), "3.0 TiB");
    }

    #[test]
    fn durations_have_two_units() {
        assert_eq!(duration(Duration::from_millis(12)), "12ms");
        assert_eq!(duration(Duration::from_millis(1200)), "1.2s");
        assert_eq!(duration(Duration::from_secs(59)), "59s");
        assert_eq!(duration(Duration::from_secs(192)), "3m 12s");
        assert_eq!(duration(Duration::from_mins(122)), "2h 2m");
        assert_eq!(duration(Duration::from_hours(25)), "1d 1h");
    }

    #[test]
    fn a_bare_number_is_seconds() {
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_hours(168)));
        assert!(parse_duration("-1").is_err());
    }

    #[test]
    fn a_ratio_is_a_part_of_one() {
        assert_eq!(parse_ratio("0.25"), Ok(0.25));
        for text in ["-0.1", "1.5", "NaN", "some"] {
            assert!(parse_ratio(text).is_err(), "{text}");
        }
    }
}
