//! Findings of `verify` on lakes with a SQLite catalog and a planted error, and lakes without findings. The
//! remedies of the findings are tested on both catalogs, in `testbed/tests/end_to_end/hazards/remedies.rs`.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "verify/acknowledged.rs"]
mod acknowledged;
#[path = "verify/files.rs"]
mod files;
#[path = "verify/fixture.rs"]
mod fixture;
#[path = "verify/ledger.rs"]
mod ledger;
#[path = "verify/rows.rs"]
mod rows;
