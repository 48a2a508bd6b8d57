//! Dead letters as DuckDB reads them, and the footers of their files.

use std::fs::File;
use std::path::Path;

use duckdb::Connection;
use ducktide_protocol::FieldIds;
use ducktide_protocol::dead_letter::{Header, RecordLocation, dead_letter_shape};
use ducktide_protocol::position::{Offset, Partition, SnapshotId};
use ducktide_protocol::table::{Column, ColumnType, Partitioning, TableShape};
use parquet::file::{reader::FileReader, serialized_reader::SerializedFileReader};

use super::*;
use crate::batch::staging_area::ParquetArea;

const SECRET: &[u8] = b"unique conflict";

fn place(offset: i64) -> RecordLocation {
    RecordLocation { topic: "events".to_owned(), partition: Partition(3), offset: Offset(offset) }
}

fn dead_letter(offset: i64) -> DeadLetter {
    let header =
        |value: Option<&[u8]>| Header { key: "trace".to_owned(), value: value.map(<[u8]>::to_vec) };
    DeadLetter {
        place: place(offset),
        timestamp_micros: Some(1_700_000_000_000_000),
        key: Some(b"k".to_vec()),
        value: Some(SECRET.to_vec()),
        headers: vec![header(Some(b"1")), header(None)],
        schema_id: Some(u32::MAX),
        error_class: Some("truncated".to_owned()),
        error: Some("record ends too early".to_owned()),
        failed_at_micros: Some(1_700_000_001_000_000),
        resolution: None,
        resolved_at_micros: None,
    }
}

fn table(directory: &Path, shape: TableShape) -> Table {
    let name = "events_dead_letters".parse().unwrap();
    let version = TableVersion { table: name, changed_at: SnapshotId(1) };
    let (directory, partitioning) = (directory.to_owned(), Partitioning::default());
    let field_ids = FieldIds::default();
    Table { version, shape, field_ids, directory, partitioning, claim: None }
}

fn written(directory: &Path, shape: TableShape, dead_letters: Vec<DeadLetter>) -> StagedFile {
    let mut writer = DeadLetterWriter::new(
        &table(directory, shape),
        BYTES_PER_BATCH,
        &ParquetArea::of_command(),
    )
    .unwrap();
    for dead_letter in dead_letters {
        writer.push(dead_letter).unwrap();
    }
    let mut files = writer.finish().unwrap();
    assert_eq!(files.len(), 1);
    files.remove(0)
}

fn text(file: &StagedFile, query: &str) -> String {
    let query = query.replace("dead_letters", &format!("'{}'", file.path.display()));
    Connection::open_in_memory().unwrap().query_row(&query, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_dead_letter_keeps_the_complete_record() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), dead_letter_shape(), vec![dead_letter(7)]);

    let columns = "SELECT concat_ws('|', topic, partition, \"offset\", epoch_ms(timestamp), \
                   decode(key), decode(value), schema_id, error_class, error) FROM dead_letters";
    assert_eq!(
        text(&file, columns),
        "events|3|7|1700000000000|k|unique conflict|4294967295|truncated|record ends too early"
    );
    let headers = text(&file, "SELECT headers::VARCHAR FROM dead_letters");
    assert_eq!(headers, "[{'key': trace, 'value': 1}, {'key': trace, 'value': NULL}]");
}

#[test]
fn the_row_of_a_resolution_has_only_the_place_and_the_resolution() {
    let folder = tempfile::tempdir().unwrap();
    let resolved = DeadLetter::resolved(place(7), Resolution::Discarded, 1_700_000_002_000_000);
    let file = written(folder.path(), dead_letter_shape(), vec![dead_letter(7), resolved]);

    let columns = "SELECT concat_ws('|', topic, partition, \"offset\", key IS NULL, headers IS NULL, \
                   error_class IS NULL, epoch_ms(resolved_at)) FROM dead_letters \
                   WHERE resolution = 'discarded'";
    assert_eq!(text(&file, columns), "events|3|7|true|true|true|1700000002000");
}

#[test]
fn statistics_contain_no_bytes_of_a_payload() {
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), dead_letter_shape(), vec![dead_letter(7), dead_letter(8)]);

    let reader = SerializedFileReader::new(File::open(&file.path).unwrap()).unwrap();
    let group = reader.metadata().row_group(0);
    let with_statistics = group.columns().iter().filter(|column| column.statistics().is_some());
    let names: Vec<_> = with_statistics.map(|column| column.column_path().string()).collect();

    assert_eq!(names, ["partition", "offset", "timestamp", "failed_at", "resolved_at"]);
}

#[test]
fn a_column_that_an_operator_added_is_null() {
    let folder = tempfile::tempdir().unwrap();
    let mut shape = dead_letter_shape();
    shape.columns.insert(0, Column::new("note", ColumnType::Varchar));

    let file = written(folder.path(), shape, vec![dead_letter(7)]);

    assert_eq!(text(&file, "SELECT concat(note IS NULL, \"offset\") FROM dead_letters"), "true7");
}
