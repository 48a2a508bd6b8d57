//! The Avro schemas of Ducktide's demonstration events.
//!
//! The files beside this crate are the source of truth; the crate only embeds them, so that a
//! program and its tests cannot disagree about them.

/// The schema of the demonstration's events: record `ducktide.events.Event`.
pub const EVENTS: &str = include_str!("../events.avsc");

/// Encoded events for the tests of anything that reads or writes [`EVENTS`].
///
/// Each line is a JSON object: `name` says what the case is about, `event` holds the values
/// (timestamps in microseconds since 1970, `details` without a union wrapper), `datum` the Avro
/// binary encoding in hexadecimal, without a wire format header. The bytes come from an encoder
/// that shares no code with this workspace.
pub const EVENTS_GOLDEN: &str = include_str!("../golden/events.jsonl");
