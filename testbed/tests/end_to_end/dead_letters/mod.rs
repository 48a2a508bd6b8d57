//! Dead letters with the real programs: records that cannot be decoded are stored in the commit of
//! their batch, and resolved once.

mod resolving;
mod writing;

use ducktide_testbed::{
    catalog::CatalogKind,
    pipeline::{PARTITIONS, Pipeline, TABLE},
    raw_records::{NumberRecord, register},
    services::shared_kafka,
};

/// Table of the dead letters.
const DEAD_LETTERS: &str = "events_dead_letters";

/// Returns a pipeline with an empty topic, and the ID of its registered schema.
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

/// Returns the number of a query with one row and one column.
fn number(pipeline: &Pipeline, sql: &str) -> i64 {
    pipeline.lake().unwrap().scalar(sql).unwrap().as_i64().unwrap()
}

fn rows(pipeline: &Pipeline) -> i64 {
    number(pipeline, &format!("SELECT count(*) FROM {TABLE}"))
}

/// Returns the classes of the open dead letters with their counts, as text.
fn classes(pipeline: &Pipeline) -> String {
    let sql = format!(
        "SELECT string_agg(error_class || ' ' || n, ', ' ORDER BY error_class) FROM \
         (SELECT error_class, count(*) AS n FROM {DEAD_LETTERS} WHERE resolution IS NULL GROUP BY ALL)"
    );
    let found = pipeline.lake().unwrap().scalar(&sql).unwrap();
    found.as_str().unwrap_or_default().to_owned()
}
