//! How the last recorded verification ended: a row of `ducktide_meta`.
//!
//! | key | value |
//! |---|---|
//! | `verify.last` | `{"at":"2026-11-25T10:00:00Z","findings":0,"deep":true}` |
//!
//! Kept by the lake, because `ducktide verify` runs and is gone: the compactor exports it, so that an
//! alert can wait for it. Names and fields must stay stable.

use ducktide_lake::DuckLake;
use ducktide_lake::catalog::meta;
use ducktide_lake::duckdb_error;
use ducktide_protocol::error::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Verification;

const KEY: &str = "verify.last";

/// A verification of the whole lake that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastVerification {
    /// When it ended.
    pub at: Timestamp,
    /// How many things it found to be wrong; none is what one hopes for.
    pub findings: u64,
    /// Whether the offsets of the rows themselves were read.
    pub deep: bool,
}

#[derive(Serialize, Deserialize)]
struct Value {
    at: String,
    findings: u64,
    deep: bool,
}

/// Records how a verification of the whole lake ended, over the one before.
pub fn record_verification(lake: &mut DuckLake, verification: &Verification) -> Result<()> {
    let findings = verification.findings.numbers().values().map(|found| *found as u64).sum();
    let deep = verification.rows_read.is_some();
    let value = Value { at: Timestamp::now().to_string(), findings, deep };
    let value = serde_json::to_string(&value).expect("times and numbers always serialize");
    meta::set(lake.session()?, KEY, &value)
        .map_err(|error| duckdb_error::failed("record the verification", error))
}

/// The newest record; None when nothing was ever recorded, or only by a later version.
pub fn last_verification(lake: &mut DuckLake) -> Result<Option<LastVerification>> {
    let session = lake.session()?;
    Ok(meta::get(session, KEY)?.and_then(|value| read(&value)))
}

fn read(value: &str) -> Option<LastVerification> {
    let Value { at, findings, deep } = serde_json::from_str(value).ok()?;
    Some(LastVerification { at: at.parse().ok()?, findings, deep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_when_and_how_it_ended() {
        let found = read(r#"{"at":"2026-11-25T10:00:00Z","findings":2,"deep":true,"more":1}"#);

        let at = "2026-11-25T10:00:00Z".parse().unwrap();
        assert_eq!(found, Some(LastVerification { at, findings: 2, deep: true }));
        assert_eq!(read(r#"{"at":"soon","findings":0,"deep":false}"#), None);
    }
}
