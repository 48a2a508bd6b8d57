//! Moves Avro records from Kafka into DuckLake tables, exactly once.
