//! Records that cannot be decoded, with the real programs: they are kept in the commit of their batch,
//! nothing else is, and what becomes of them later happens once.

mod resolving;
mod writing;

use ducktide_testbed::{
    catalog::CatalogKind,
    pipeline::{PARTITIONS, Pipeline, TABLE},
    raw_records::{NumberRecord, register},
    services::shared_kafka,
};

/// The table of the letters.
const DEAD_LETTERS: &str = "events_dead_letters";

/// A pipeline whose topic has the schema of records and is empty; and the schema's id.
fn with_registered_schema(test: &str, kind: CatalogKind) -> (Pipeline, u32) {
    let pipeline = Pipeline::on_shared_services(test, kind).unwrap();
    shared_kafka().create_topic(&pipeline.topic, PARTITIONS, &[]).unwrap();
    let id = register(&pipeline.schema_registry_url, &pipeline.topic, test).unwrap();
    (pipeline, id)
}

fn records(count: i64, schema_id: u32) -> Vec<Vec<u8>> {
    let record = |number| NumberRecord { number, at_micros: number }.encode(schema_id);
    (0..count).map(record).collect()
}

/// The number that a query of the lake gives.
fn number(pipeline: &Pipeline, sql: &str) -> i64 {
    pipeline.lake().unwrap().scalar(sql).unwrap().as_i64().unwrap()
}

fn rows(pipeline: &Pipeline) -> i64 {
    number(pipeline, &format!("SELECT count(*) FROM {TABLE}"))
}

/// The classes of all letters and how many there are of each, as text.
fn classes(pipeline: &Pipeline) -> String {
    let sql = format!(
        "SELECT string_agg(error_class || ' ' || n, ', ' ORDER BY error_class) FROM \
         (SELECT error_class, count(*) AS n FROM {DEAD_LETTERS} WHERE resolution IS NULL GROUP BY ALL)"
    );
    let found = pipeline.lake().unwrap().scalar(&sql).unwrap();
    found.as_str().unwrap_or_default().to_owned()
}
