//! Avro schemas of Ducktide's demonstration events.
//!
//! The files in this folder are the only definition; the crate embeds them, so that a program and
//! its tests use the same schema.

/// Schema of the demonstration events: record `ducktide.events.Event`.
pub const EVENTS: &str = include_str!("../events.avsc");

/// Encoded events for tests of code that reads or writes [`EVENTS`].
///
/// Each line is a JSON object: `name` describes the case, `event` holds the values (timestamps in
/// microseconds since 1970, `details` without a union wrapper), `datum` the Avro binary encoding in
/// hexadecimal, without a wire format header. The bytes come from an encoder that shares no code
/// with this workspace.
pub const EVENTS_GOLDEN: &str = include_str!("../golden/events.jsonl");
