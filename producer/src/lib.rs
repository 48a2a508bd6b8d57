//! Publishes Avro events to Kafka through a schema registry, and records what was acknowledged.
