//! What `verify` finds, each planted into a lake with a SQLite catalog, and what it must not find. That the
//! remedies of the findings work is tested on both catalogs, in `testbed/tests/end_to_end/hazards/remedies.rs`.

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
