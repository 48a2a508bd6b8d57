//! Cost of schema changes: a topic with twenty schema versions, each with one field more than the
//! previous one, compared with a topic of the same size and only the last version.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ducktide_testbed::{
    catalog::CatalogKind,
    pipeline::{Pipeline, TABLE},
    raw_records::{EncodedValue, publish, register_fields},
    services::shared_kafka,
};
use serde_json::{Value, json};

use super::{measurement::median, progress::log_progress};

/// Number of versions of the topic's schema.
const VERSIONS: i64 = 20;

const PARTITIONS: i32 = 8;

/// Number of records of one version in one partition.
const RECORDS: i64 = 10_000;

const CONSUMERS: [&str; 4] = ["first", "second", "third", "fourth"];

const FLUSH: &[&str] = &["--flush-interval", "500ms"];

/// Number of runs of each.
const RUNS: usize = 3;

/// Cost of draining a backlog.
struct EvolutionCost {
    /// Time from the start of the consumers to the last commit.
    took: Duration,
    /// Number of batches that were read again because the table was altered.
    read_again: f64,
}

/// Measures both topics, and prints a table.
#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(super) fn run() -> Result<()> {
    let records = VERSIONS * i64::from(PARTITIONS) * RECORDS;
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for run in 1..=RUNS {
        one.push(cost(&[VERSIONS])?);
        many.push(cost(&(1..=VERSIONS).collect::<Vec<_>>())?);
        let took =
            |costs: &[EvolutionCost]| costs.last().map_or(0.0, |cost| cost.took.as_secs_f64());
        log_progress(&format!(
            "run {run}: one version {:.1} s, {VERSIONS} versions {:.1} s",
            took(&one),
            took(&many)
        ));
    }
    let seconds = |costs: &[EvolutionCost]| {
        median(costs.iter().map(|cost| cost.took.as_secs_f64()).collect()).context("no runs")
    };
    let again = |costs: &[EvolutionCost]| {
        median(costs.iter().map(|cost| cost.read_again).collect()).context("no runs")
    };
    println!(
        "\n| {records} records, {PARTITIONS} partitions, {} consumers | s | batches read again |\n\
         |:--|--:|--:|\n| one version | {:.1} | {} |\n| {VERSIONS} versions | {:.1} | {} |\n",
        CONSUMERS.len(),
        seconds(&one)?,
        again(&one)?,
        seconds(&many)?,
        again(&many)?,
    );
    println!("{:.2} times as long", seconds(&many)? / seconds(&one)?);
    Ok(())
}

/// Drains a backlog with the same number of records of each version.
fn cost(versions: &[i64]) -> Result<EvolutionCost> {
    let pipeline = Pipeline::on_shared_services("evolution", CatalogKind::Postgres)?;
    shared_kafka().create_topic(&pipeline.topic, PARTITIONS, &[])?;
    let each = VERSIONS * RECORDS / i64::try_from(versions.len())?;
    for &version in versions {
        let Pipeline { bootstrap_servers, schema_registry_url, topic, .. } = &pipeline;
        let id =
            register_fields(schema_registry_url, topic, &format!("v{version}"), &fields(version))?;
        for partition in 0..PARTITIONS {
            let records = (0..each).map(|number| record(id, number, version));
            publish(bootstrap_servers, topic, partition, records)?;
        }
    }
    // The table is created from the newest schema: one like the first, so that all columns are
    // added later.
    let Pipeline { schema_registry_url, topic, .. } = &pipeline;
    register_fields(schema_registry_url, topic, "newest", &fields(versions[0]))?;
    let records = VERSIONS * i64::from(PARTITIONS) * RECORDS;

    let started = Instant::now();
    let workers = CONSUMERS.map(|name| pipeline.start_consumer(name, FLUSH));
    let workers = workers.into_iter().collect::<Result<Vec<_>>>()?;
    pipeline.await_committed(records.unsigned_abs())?;
    let took = started.elapsed();

    let duplicates = format!(
        "SELECT count(*) - count(DISTINCT (_kafka_partition, _kafka_offset)) * 2 FROM {TABLE}"
    );
    let found = pipeline.lake()?.scalar(&duplicates)?.as_i64();
    ensure!(found == Some(-records), "each record is a row once: {found:?}");
    let dropped = |metrics: String| {
        let is_it = |line: &&str| line.contains("batches_total{outcome=\"table_changed\"}");
        let value =
            metrics.lines().find(is_it).and_then(|line| line.rsplit_once(' ')?.1.parse().ok());
        value.unwrap_or(0.0)
    };
    let read_again = workers.iter().map(|worker| worker.metrics().map(dropped));
    Ok(EvolutionCost { took, read_again: read_again.sum::<Result<f64>>()? })
}

/// Returns the fields of a version: a number, and a text for each earlier version.
fn fields(version: i64) -> Vec<Value> {
    let number = json!({"name": "number", "type": "long"});
    let more = (1..version)
        .map(|n| json!({"name": format!("text_{n}"), "type": ["null", "string"], "default": null}));
    std::iter::once(number).chain(more).collect()
}

fn record(id: u32, number: i64, version: i64) -> Vec<u8> {
    let number = EncodedValue::with_schema(id).long(number);
    (1..version).fold(number, |record, _| record.long(1).text("text")).bytes()
}
