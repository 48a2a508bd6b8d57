//! A lake with one table, without Kafka.

use std::path::PathBuf;

use ducktide_lake::config::LakeConfig;
use ducktide_lake::conformance::{copy_option, described};
use ducktide_lake::{Access, DuckLake};
use ducktide_protocol::commit::{Commit, CommitOutcome, Counts, ProgressDelta};
use ducktide_protocol::position::{Epoch, Offset, OffsetRange, Partition};
use ducktide_protocol::table::{TableName, TableShape};
use ducktide_protocol::{Lake as _, SourceSpec, Table};

/// Name of the only data file.
pub(crate) const FILE: &str = "ducktide-00000000-0000-4000-8000-000000000000.parquet";

/// Creates a lake whose table `events` has the offsets 0 to 9 of partition 0.
///
/// `columns` are the names and types of the table's own columns, `values` their SQL expressions over the
/// offset `o`, with names.
pub(crate) fn create(config: &LakeConfig, columns: &[(&str, &str)], values: &str) {
    DuckLake::init(config).unwrap();
    let mut lake = DuckLake::open(config, Access::Commit).unwrap();
    let kafka_columns = [
        ("_kafka_topic", "VARCHAR"),
        ("_kafka_partition", "INTEGER"),
        ("_kafka_offset", "BIGINT"),
        ("_kafka_timestamp", "TIMESTAMP WITH TIME ZONE"),
    ];
    let columns = columns.iter().copied().chain(kafka_columns);
    let shape = TableShape::from_described(columns).unwrap();
    let name: TableName = "events".parse().unwrap();
    let table = lake.ensure_table(&name, &shape).unwrap();
    let spec = SourceSpec::without_ids(name.clone(), "events", "demo");
    let source = lake.register_source(&spec, &[(Partition(0), Offset(0))]).unwrap();
    let path = stage(&mut lake, &table, values);
    let delta = ProgressDelta {
        source: source.id,
        partition: Partition(0),
        epoch: Epoch(0),
        range: OffsetRange { from: Offset(0), to: Offset(10) },
        counts: Counts { rows: 10, ..Counts::default() },
    };
    let staged = described(path, &name).unwrap();
    let commit = Commit::ingest(vec![delta], vec![staged], vec![table.version]);
    assert!(matches!(lake.commit(&commit).unwrap(), CommitOutcome::Committed(Some(_))));
}

fn stage(lake: &mut DuckLake, table: &Table, values: &str) -> PathBuf {
    std::fs::create_dir_all(&table.directory).unwrap();
    let file = table.directory.join(FILE);
    let copy = format!(
        "COPY (SELECT {values}, 'events' AS _kafka_topic, 0 AS _kafka_partition, o AS _kafka_offset, \
         TIMESTAMPTZ '2026-11-01 00:00:00+00' AS _kafka_timestamp FROM range(10) t(o)) \
         TO '{}' (FORMAT parquet, FIELD_IDS {})",
        file.display(),
        copy_option(&table.field_ids)
    );
    lake.connection().unwrap().execute_batch(&copy).unwrap();
    file
}
