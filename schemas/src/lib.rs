//! The Avro schemas of Ducktide's demonstration events.
