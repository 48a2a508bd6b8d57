//! Times of dead letters.

use jiff::Timestamp;

/// Formats a time of the lake.
pub(super) fn time_text(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), |at| at.to_string())
}
