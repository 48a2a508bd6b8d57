//! Moves Avro records from Kafka into DuckLake tables, exactly once.

pub mod decoder;
pub mod staging;
