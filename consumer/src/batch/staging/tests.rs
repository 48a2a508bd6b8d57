//! Staged files as DuckDB and the reader of the Parquet library read them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use duckdb::Connection;
use ducktide_decoder::{RecordDecoder, RowBuffer};
use ducktide_protocol::table::{AvroSchema, TableShape, UnionAs};
use parquet::file::{
    metadata::ColumnChunkMetaData, reader::FileReader, serialized_reader::SerializedFileReader,
};
use tempfile::TempDir;

use super::*;

const DAY_MS: i64 = 86_400_000;

/// One nullable field of each kind.
const SCHEMA: &str = r#"{"type": "record", "name": "R", "fields": [
    {"name": "id", "type": ["null", {"type": "string", "logicalType": "uuid"}]},
    {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["LOGIN", "LOGOUT"]}},
    {"name": "details", "type": ["null", "string", "double"]},
    {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
    {"name": "note", "type": "string"},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
    {"name": "tags", "type": {"type": "map", "values": {"type": "array", "items": "long"}}},
    {"name": "place", "type": {"type": "record", "name": "P", "fields": [
        {"name": "x", "type": "double"}, {"name": "code", "type": {"type": "fixed", "name": "F", "size": 2}}]}},
    {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    {"name": "time", "type": {"type": "int", "logicalType": "time-millis"}},
    {"name": "flag", "type": "boolean"}]}"#;

struct Stage {
    folder: TempDir,
    decoder: RecordDecoder,
    rows: RowBuffer,
    writer: StagingWriter,
}

impl Stage {
    fn new(partition_by: Option<&str>, statistics: &[&str]) -> Self {
        let schema = AvroSchema::parse(SCHEMA).unwrap();
        let table = Arc::new(TableShape::from_avro(&schema, partition_by).unwrap());
        let decoder = RecordDecoder::compile(&schema, UnionAs::Json, &[], table.clone()).unwrap();
        let rows = RowBuffer::new(table, partition_by).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let hints = ColumnHints {
            enums: decoder.enum_columns().to_vec(),
            statistics: statistics.iter().map(|&name| name.to_owned()).collect(),
            ..ColumnHints::default()
        };
        let name = "events".parse().unwrap();
        let path = folder.path().join("main/events");
        let writer = StagingWriter::new(
            name,
            &path,
            rows.schema().clone(),
            &hints,
            &EncoderBudget::of_command(),
        )
        .unwrap();
        Self { folder, decoder, rows, writer }
    }

    fn push(&mut self, at_ms: Option<i64>, note: &str) {
        self.push_datum(&datum(at_ms, note, 1.5));
    }

    fn push_datum(&mut self, datum: &[u8]) {
        self.decoder.decode(datum, &mut self.rows).unwrap();
        let offset = i64::try_from(self.rows.rows()).unwrap();
        self.rows.push_kafka("topic", 1, offset, DAY_MS);
    }

    fn write(&mut self) {
        let batch = self.rows.finish_batch().unwrap();
        self.writer.write(&batch).unwrap();
    }

    fn files(&self) -> Vec<PathBuf> {
        files_below(self.folder.path())
    }
}

fn datum(at_ms: Option<i64>, note: &str, x: f64) -> Vec<u8> {
    let mut out = vec![2];
    text(&mut out, "67e55044-10b1-426f-9247-bb680e5fe0c8");
    out.push(2);
    out.push(2);
    text(&mut out, "de\"tails");
    match at_ms {
        None => out.push(0),
        Some(at_ms) => {
            out.push(2);
            long(&mut out, at_ms);
        }
    }
    text(&mut out, note);
    out.extend([4, 0x04, 0xd2]);
    out.extend([2, 2, b'k', 4, 2, 4, 0, 0]);
    out.extend(x.to_le_bytes());
    out.extend([0xca, 0xfe]);
    long(&mut out, 20_000);
    long(&mut out, 3_723_004);
    out.push(1);
    out
}

fn long(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = (value << 1 ^ value >> 63).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(u8::try_from(zigzag & 0x7f).unwrap() | 0x80);
        zigzag >>= 7;
    }
    out.push(u8::try_from(zigzag).unwrap());
}

fn text(out: &mut Vec<u8>, text: &str) {
    long(out, i64::try_from(text.len()).unwrap());
    out.extend(text.as_bytes());
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

/// Returns the rows of a query, each value as text.
fn query(sql: &str) -> Vec<Vec<String>> {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch("SET TimeZone = 'UTC'").ok();
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut result = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let columns = row.as_ref().column_count();
        result.push((0..columns).map(|column| row.get(column).unwrap()).collect());
    }
    result
}

fn chunk(file: &Path, column: &str) -> ColumnChunkMetaData {
    let reader = SerializedFileReader::new(File::open(file).unwrap()).unwrap();
    let chunks = reader.metadata().row_group(0).columns();
    chunks.iter().find(|chunk| chunk.column_path().string() == column).unwrap().clone()
}

#[test]
fn duckdb_reads_every_column_with_the_type_of_the_table() {
    let mut stage = Stage::new(Some("at"), &[]);
    stage.push(Some(DAY_MS), "note");
    stage.write();
    let file = stage.writer.finish().unwrap().remove(0);
    let path = file.path.display();

    let described = query(&format!(
        "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet('{path}', hive_partitioning = false))"
    ));
    let shape = TableShape::from_described(described.iter().map(|row| (&row[0], &row[1]))).unwrap();
    assert_eq!(shape, **stage.decoder.table());

    let row = query(&format!(
        "SELECT id::VARCHAR, kind, details::VARCHAR, (details->>'$'), epoch_ms(\"at\")::VARCHAR, price::VARCHAR, \
         tags::VARCHAR, place.x::VARCHAR, hex(place.code), \"day\"::VARCHAR, \"time\"::VARCHAR, flag::VARCHAR, \
         _kafka_topic, _kafka_partition::VARCHAR, _kafka_offset::VARCHAR, \
         epoch_ms(_kafka_timestamp)::VARCHAR, event_date::VARCHAR FROM read_parquet('{path}')"
    ));
    let expected = [
        "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "LOGOUT",
        r#""de\"tails""#,
        "de\"tails",
        "86400000",
        "12.34",
        "{k=[1, 2]}",
        "1.5",
        "CAFE",
        "2024-10-04",
        "01:02:03.004",
        "true",
        "topic",
        "1",
        "0",
        "86400000",
        "1970-01-02",
    ];
    assert_eq!(row, [expected]);
}

#[test]
fn each_date_has_a_file_and_rows_without_a_date_are_in_the_default_partition() {
    let mut stage = Stage::new(Some("at"), &[]);
    for at_ms in [Some(0), Some(DAY_MS), None, Some(1), Some(i64::from(i32::MAX) * 10_000)] {
        stage.push(at_ms, "");
    }
    stage.write();
    stage.push(Some(DAY_MS), "");
    stage.write();
    assert_eq!(stage.writer.rows(), 6);
    assert!(!stage.writer.is_scattered());

    let staged = stage.writer.finish().unwrap();

    let table = stage.folder.path().join("main/events");
    let folders = staged.iter().map(|file| {
        let folder = file.path.parent().unwrap().strip_prefix(&table).unwrap();
        (folder.to_str().unwrap().to_owned(), file.rows)
    });
    let expected = [
        ("event_date=1970-01-01", 2),
        ("event_date=1970-01-02", 2),
        ("event_date=__HIVE_DEFAULT_PARTITION__", 2),
    ];
    let expected = expected.map(|(folder, rows)| (folder.to_owned(), rows));
    assert_eq!(folders.collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));
    let counted = query(&format!(
        "SELECT coalesce(event_date::VARCHAR, 'none'), count(*)::VARCHAR \
         FROM read_parquet('{}/*/*.parquet', hive_partitioning = false) GROUP BY ALL ORDER BY 1",
        table.display()
    ));
    assert_eq!(counted, [["1970-01-01", "2"], ["1970-01-02", "2"], ["none", "2"]]);
}

#[test]
fn a_staged_file_has_its_size_and_rows_and_the_prefix_of_its_name() {
    let mut stage = Stage::new(None, &[]);
    (0..1_000).for_each(|row| stage.push(None, &row.to_string()));
    stage.write();

    let file = stage.writer.finish().unwrap().remove(0);

    assert_eq!(file.bytes, fs::metadata(&file.path).unwrap().len());
    assert_eq!((file.rows, file.table.to_string()), (1_000, "main.events".to_owned()));
    let name = file.path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("ducktide-") && name.ends_with(".parquet"), "{name}");
    assert_eq!((stage.writer.rows(), stage.writer.memory(), stage.writer.bytes()), (0, 0, 0));
}

#[test]
fn hazard_15_an_empty_file_is_never_staged() {
    let mut stage = Stage::new(Some("at"), &[]);
    stage.write();

    assert_eq!(stage.writer.finish().unwrap(), []);
    assert_eq!(stage.files(), [] as [PathBuf; 0]);
}

#[test]
fn hazard_22_broken_timestamps_do_not_open_unlimited_files() {
    const DAY_MS: i64 = 86_400_000;
    let mut stage = Stage::new(Some("at"), &[]);
    (0..200).for_each(|day| stage.push(Some(day * DAY_MS), ""));
    stage.write();

    assert!(stage.writer.is_scattered());
    assert_eq!((stage.writer.open.len(), stage.writer.closed.len()), (64, 136));
    assert_eq!(stage.writer.rows(), 200);

    stage.writer.abandon();
    assert_eq!(stage.files(), [] as [PathBuf; 0]);

    (0..200).for_each(|day| stage.push(Some(day * DAY_MS), ""));
    stage.write();
    let staged = stage.writer.finish().unwrap();
    assert_eq!(staged.iter().map(|file| file.rows).sum::<u64>(), 200);
}

#[test]
fn abandoned_files_are_removed_and_the_writer_can_be_used_again() {
    let mut stage = Stage::new(Some("at"), &[]);
    stage.push(Some(0), "");
    stage.push(None, "");
    stage.write();
    assert_eq!(stage.files().len(), 2);

    stage.writer.abandon();

    assert_eq!(stage.files(), [] as [PathBuf; 0]);
    stage.push(Some(0), "");
    stage.write();
    assert_eq!(stage.writer.finish().unwrap().len(), 1);
}

#[test]
fn hazard_13_text_has_no_statistics_unless_requested() {
    let mut stage = Stage::new(Some("at"), &[]);
    stage.push(Some(0), "conflict");
    stage.write();
    let file = stage.writer.finish().unwrap().remove(0).path;

    let texts = ["note", "details", "_kafka_topic", "place.code", "tags.key_value.key"];
    for column in texts {
        assert_eq!(chunk(&file, column).statistics(), None, "{column}");
    }
    let others = [
        "id",
        "kind",
        "at",
        "price",
        "place.x",
        "day",
        "time",
        "flag",
        "_kafka_partition",
        "_kafka_offset",
        "_kafka_timestamp",
        "event_date",
        "tags.key_value.value.list.element",
    ];
    for column in others {
        let chunk = chunk(&file, column);
        assert!(chunk.statistics().unwrap().min_bytes_opt().is_some(), "{column}");
        assert_eq!(chunk.statistics().unwrap().null_count_opt(), Some(0), "{column}");
    }
}

#[test]
fn requested_statistics_contain_untruncated_values() {
    let mut stage = Stage::new(None, &["NOTE"]);
    let note = "x".repeat(500);
    stage.push(None, &note);
    stage.write();
    let file = stage.writer.finish().unwrap().remove(0).path;

    let chunk = chunk(&file, "note");
    let statistics = chunk.statistics().unwrap();
    assert_eq!(statistics.max_bytes_opt(), Some(note.as_bytes()));
    assert!(statistics.min_is_exact() && statistics.max_is_exact());
}

#[test]
fn a_column_with_a_nan_has_no_bounds() {
    let mut stage = Stage::new(None, &[]);
    stage.push_datum(&datum(None, "", 1.5));
    stage.push_datum(&datum(None, "", f64::NAN));
    stage.write();
    let file = stage.writer.finish().unwrap().remove(0).path;

    let chunk = chunk(&file, "place.x");
    let statistics = chunk.statistics().unwrap();
    assert_eq!((statistics.min_bytes_opt(), statistics.max_bytes_opt()), (None, None));
    assert_eq!(statistics.null_count_opt(), Some(0));
}

#[test]
fn bounds_with_a_zero_character_are_removed() {
    let mut stage = Stage::new(None, &["note"]);
    stage.push(None, "a\0b");
    stage.write();
    let file = stage.writer.finish().unwrap().remove(0).path;

    let chunk = chunk(&file, "note");
    let statistics = chunk.statistics().unwrap();
    assert_eq!((statistics.min_bytes_opt(), statistics.max_bytes_opt()), (None, None));
    assert_eq!(statistics.null_count_opt(), Some(0));
}

#[test]
fn memory_is_bounded_by_row_groups_and_not_by_the_file() {
    let mut stage = Stage::new(None, &[]);
    let mut most = 0;
    for batch in 0..60 {
        (0..5_000).for_each(|row| stage.push(Some(row), &format!("{batch} {row}")));
        stage.write();
        most = most.max(stage.writer.memory());
    }
    let rows = stage.writer.rows();
    let file = stage.writer.finish().unwrap().remove(0);

    let reader = SerializedFileReader::new(File::open(&file.path).unwrap()).unwrap();
    assert_eq!((rows, reader.metadata().num_row_groups()), (300_000, 3));
    assert!(most < 16 << 20, "memory=`{most}`");
}

#[test]
fn the_error_names_a_folder_that_cannot_be_created() {
    let mut stage = Stage::new(None, &[]);
    fs::write(stage.folder.path().join("main"), "a file").unwrap();
    stage.push(None, "");
    let batch = stage.rows.finish_batch().unwrap();

    let error = stage.writer.write(&batch).unwrap_err();

    assert!(matches!(error, StagingError::Create { .. }));
    assert!(error.to_string().contains("main/events"));
}

/// Writes three record batches of rows with two alternating dates.
#[test]
fn the_rows_of_each_file_are_sorted_on_request() {
    let mut stage = Stage::new(Some("at"), &[]);
    let hints = ColumnHints { sort_by: vec!["NOTE".to_owned()], ..ColumnHints::default() };
    let (name, path) = ("events".parse().unwrap(), stage.folder.path().join("main/events"));
    stage.writer = StagingWriter::new(
        name,
        &path,
        stage.rows.schema().clone(),
        &hints,
        &EncoderBudget::of_command(),
    )
    .unwrap();
    for row in 0..24_000_i64 {
        stage.push(Some(row % 2 * DAY_MS), &format!("{:05}", row * 7_919 % 24_000));
        if row % 5_000 == 4_999 {
            stage.write();
        }
    }
    stage.write();
    assert_eq!((stage.writer.rows(), stage.files().len()), (24_000, 0));
    assert!(stage.writer.memory() > 0 && stage.writer.bytes() > 0);

    let files = stage.writer.finish().unwrap();

    assert_eq!(files.iter().map(|file| file.rows).collect::<Vec<_>>(), [12_000, 12_000]);
    for file in files {
        let sql = format!(
            "SELECT count(*)::VARCHAR FROM (SELECT note, lag(note) OVER (ORDER BY file_row_number) AS \
             before FROM read_parquet('{}', file_row_number = true)) WHERE note < before",
            file.path.display()
        );
        assert_eq!(query(&sql), [["0"]]);
    }
}

/// Writes rows of some dates, each with every kind of value, with this budget for encoders.
fn staged_with(encoders: &EncoderBudget, dates: i64) -> (Stage, Vec<StagedFile>, usize) {
    let mut stage = Stage::new(Some("at"), &["note"]);
    let hints = ColumnHints { statistics: vec!["note".to_owned()], ..ColumnHints::default() };
    let (name, path) = ("events".parse().unwrap(), stage.folder.path().join("main/events"));
    let schema = stage.rows.schema().clone();
    stage.writer = StagingWriter::new(name, &path, schema, &hints, encoders).unwrap();
    for row in 0..3_000_i64 {
        let x = if row % 1_000 == 999 { f64::NAN } else { 1.5 };
        stage.push_datum(&datum(Some(row % dates * DAY_MS), &format!("{row:05}"), x));
        if row % 500 == 499 {
            stage.write();
        }
    }
    let memory = stage.writer.memory();
    let files = stage.writer.finish().unwrap();
    (stage, files, memory)
}

#[test]
fn held_rows_become_the_same_files() {
    let (_with_room, expected, _) = staged_with(&EncoderBudget::of_command(), 3);
    let (_held, files, memory) = staged_with(&EncoderBudget::new(0), 3);

    assert!((1..8 << 20).contains(&memory), "memory=`{memory}`");
    assert_eq!(files.len(), expected.len());
    for (file, expected) in files.iter().zip(&expected) {
        assert_eq!(file.rows, expected.rows);
        let (file, expected) = (file.path.display(), expected.path.display());
        let [left, right] = [(&file, &expected), (&expected, &file)].map(|(some, others)| {
            query(&format!(
                "SELECT count(*)::VARCHAR FROM (SELECT * FROM read_parquet('{some}') EXCEPT ALL SELECT * \
                 FROM read_parquet('{others}'))"
            ))
        });
        assert_eq!((left, right), (vec![vec!["0".to_owned()]], vec![vec!["0".to_owned()]]));
        // Encodings, order of columns, and bounds: none for x, whose values have a NaN.
        let columns = |file: &dyn std::fmt::Display| {
            query(&format!(
                "SELECT path_in_schema, encodings, compression, coalesce(stats_null_count::VARCHAR, '-'), \
                 coalesce(stats_min_value, '-'), coalesce(stats_max_value, '-') \
                 FROM parquet_metadata('{file}') ORDER BY column_id"
            ))
        };
        assert_eq!(columns(&file), columns(&expected));
    }
}

#[test]
fn files_are_opened_within_the_budget_and_closed_to_release_it() {
    let schema = Stage::new(Some("at"), &[]).rows.schema().clone();
    let one = ParquetLayout::new(schema, &ColumnHints::default(), &FieldIds::default())
        .unwrap()
        .encoder_bytes();
    let budget = EncoderBudget::new(2 * one);
    let mut stages = [(); 2].map(|()| Stage::new(Some("at"), &[]));
    for stage in &mut stages {
        let (name, path) = ("events".parse().unwrap(), stage.folder.path().join("main/events"));
        let (schema, hints) = (stage.rows.schema().clone(), ColumnHints::default());
        stage.writer = StagingWriter::new(name, &path, schema, &hints, &budget).unwrap();
        (0..2_i64).for_each(|row| stage.push(Some(row * DAY_MS), ""));
    }
    let [first, second] = &mut stages;

    // Two tables share the budget: the rows of the second are held.
    first.write();
    second.write();
    assert_eq!((first.files().len(), second.files().len()), (2, 0));
    assert!(first.writer.memory() >= 2 * one && second.writer.memory() < one);
    // Further rows of a held file are held, to keep their order.
    assert_eq!(first.writer.finish().unwrap().len(), 2);
    second.push(Some(0), "");
    second.push(Some(2 * DAY_MS), "");
    second.write();
    assert_eq!((second.writer.open.len(), second.writer.held.files()), (1, 2));
    assert_eq!(second.writer.rows(), 4);

    let files = second.writer.finish().unwrap();
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 4);
    assert!(budget.reserve(2 * one).is_some());
}
