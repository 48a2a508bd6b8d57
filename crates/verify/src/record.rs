//! Result of the last recorded verification: a row of `ducktide_meta`.
//!
//! | key | value |
//! |---|---|
//! | `verify.last` | `{"at":"2026-11-25T10:00:00Z","findings":0,"deep":true}` |
//!
//! Stored in the lake, because `ducktide verify` does not keep running: the compactor exports it as a
//! metric for alerts. Names and fields must stay stable.

use ducktide_lake::DuckLake;
use ducktide_lake::catalog::meta;
use ducktide_lake::duckdb_error;
use ducktide_protocol::error::Result;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Verification;

const KEY: &str = "verify.last";

/// Result of a recorded verification of the whole lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastVerification {
    /// Time at which it ended.
    pub at: Timestamp,
    /// Number of findings.
    pub findings: u64,
    /// The offsets of the rows were read.
    pub deep: bool,
}

#[derive(Serialize, Deserialize)]
struct VerificationRecord {
    at: String,
    findings: u64,
    deep: bool,
}

/// Records the result of a verification of the whole lake, in place of the one before.
pub fn record_verification(lake: &mut DuckLake, verification: &Verification) -> Result<()> {
    let findings = verification.findings.numbers().values().map(|found| *found as u64).sum();
    let deep = verification.rows_read.is_some();
    let value = VerificationRecord { at: Timestamp::now().to_string(), findings, deep };
    let value = serde_json::to_string(&value).expect("times and numbers always serialize");
    meta::set(lake.session()?, KEY, &value)
        .map_err(|error| duckdb_error::failed("record the verification", error))
}

/// Reads the newest record; None when there is none, or only that of a later version.
pub fn last_verification(lake: &mut DuckLake) -> Result<Option<LastVerification>> {
    let session = lake.session()?;
    Ok(meta::get(session, KEY)?.and_then(|value| read(&value)))
}

fn read(value: &str) -> Option<LastVerification> {
    let VerificationRecord { at, findings, deep } = serde_json::from_str(value).ok()?;
    Some(LastVerification { at: at.parse().ok()?, findings, deep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_time_and_number_of_findings() {
        let found = read(r#"{"at":"2026-11-25T10:00:00Z","findings":2,"deep":true,"more":1}"#);

        let at = "2026-11-25T10:00:00Z".parse().unwrap();
        assert_eq!(found, Some(LastVerification { at, findings: 2, deep: true }));
        assert_eq!(read(r#"{"at":"soon","findings":0,"deep":false}"#), None);
    }
}
