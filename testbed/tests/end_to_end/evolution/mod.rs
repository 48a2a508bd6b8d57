//! Schema changes while workers run: the table is altered, no row is lost or duplicated, and
//! incompatible records are reported.

mod columns;
mod envelope;
mod formats;
mod incompatible;
mod keys;
mod subjects;
mod tables;
mod wide;

use ducktide_testbed::{
    catalog::CatalogKind,
    pipeline::{Pipeline, TABLE},
    raw_records::{publish, register_fields, register_schema},
    services::shared_kafka,
};
use serde_json::Value;

/// Pipeline with an empty topic whose subject has no schema yet.
struct SchemaFixture {
    pipeline: Pipeline,
    versions: std::cell::Cell<usize>,
}

impl SchemaFixture {
    fn new(test: &str, kind: CatalogKind, partitions: i32) -> Self {
        let pipeline = Pipeline::on_shared_services(test, kind).unwrap();
        shared_kafka().create_topic(&pipeline.topic, partitions, &[]).unwrap();
        Self::of(pipeline)
    }

    const fn of(pipeline: Pipeline) -> Self {
        Self { pipeline, versions: std::cell::Cell::new(0) }
    }

    /// Registers a version of the topic's schema and returns its ID.
    fn register(&self, fields: &[Value]) -> u32 {
        // In a new namespace: the same fields in the same namespace are one schema.
        let version = self.versions.replace(self.versions.get() + 1);
        let Pipeline { schema_registry_url, topic, .. } = &self.pipeline;
        register_fields(schema_registry_url, topic, &format!("v{version}"), fields).unwrap()
    }

    /// Registers a schema of the topic's values or keys and returns its ID.
    fn register_as(&self, part: &str, schema: &Value) -> u32 {
        let Pipeline { schema_registry_url, topic, .. } = &self.pipeline;
        register_schema(schema_registry_url, &format!("{topic}-{part}"), schema).unwrap()
    }

    fn publish(&self, partition: i32, values: impl IntoIterator<Item = Vec<u8>>) {
        let Pipeline { bootstrap_servers, topic, .. } = &self.pipeline;
        publish(bootstrap_servers, topic, partition, values).unwrap();
    }

    /// Returns the number of a query; `%` is replaced with the name of the table.
    fn number(&self, sql: &str) -> i64 {
        let sql = sql.replace('%', TABLE);
        self.pipeline.lake().unwrap().scalar(&sql).unwrap().as_i64().unwrap()
    }

    /// Returns the text of a query; `%` is replaced with the name of the table.
    fn text(&self, sql: &str) -> String {
        let sql = sql.replace('%', TABLE);
        let found = self.pipeline.lake().unwrap().scalar(&sql).unwrap();
        found.as_str().unwrap_or_default().to_owned()
    }

    /// Returns the number of rows, and of distinct partitions and offsets.
    fn rows(&self) -> (i64, i64) {
        let distinct = "SELECT count(DISTINCT (_kafka_partition, _kafka_offset)) FROM %";
        (self.number("SELECT count(*) FROM %"), self.number(distinct))
    }
}
