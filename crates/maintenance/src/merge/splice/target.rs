//! Writer of one merged file, a row group at a time.
//!
//! | column chunks | method |
//! |---|---|
//! | one | copied unchanged |
//! | several, none with a dictionary, all with pages of a useful size | concatenated |
//! | other ones, and those of columns that some of the files lack | values and levels decoded, and encoded again |
//!
//! Values are not interpreted: pages are copied, and decoded values keep their physical type. So lists,
//! structures, and types that only other clients use need no code of their own.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ducktide_lake::parquet_encoding::{encode_column, writer_properties};
use ducktide_storage::{FileRange, FileReader, FileWriter, Storage};
use parquet::basic::{Repetition, Type as PhysicalType};
use parquet::column::reader::{ColumnReader, get_column_reader, get_typed_column_reader};
use parquet::column::writer::{ColumnCloseResult, ColumnWriter, ColumnWriterImpl};
use parquet::data_type::{DataType, Int64Type};
use parquet::errors::Result;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor, Type, TypePtr};

use super::chunk::Chunk;
use super::shape::{ROW_ID, SNAPSHOT_ID, Shape};
use super::source::SpliceSource;
use super::statistics;

/// Maximum rows of a row group: DuckDB's own size, which one thread reads.
const ROWS: i64 = 122_880;

/// Maximum compressed size of source row groups that are merged into one, in bytes.
const BYTES: i64 = 32 * 1024 * 1024;

/// Maximum number of row groups that are merged into one: as many files are open at once.
const MAX_SOURCES: usize = 256;

/// Column chunks with fewer rows, and fewer bytes before compression, are encoded again: the headers of
/// their pages, and compressing each one, would make the file larger.
const USEFUL_ROWS: i64 = 4_096;
const USEFUL_BYTES: i64 = 64 * 1024;

/// Maximum number of rows that are decoded at a time.
const DECODE_BATCH: usize = 4_096;

/// A row group of a source.
struct SourceRowGroup<'a> {
    source: &'a SpliceSource,
    row_group: &'a RowGroupMetaData,
    /// Number of rows before it in the file.
    before: i64,
}

/// Input of one column from a source row group.
enum ColumnInput<'a> {
    /// A column chunk with its number of rows; repeated columns have more values.
    Stored(&'a ColumnChunkMetaData, i64),
    Numbers(Vec<i64>),
    /// Number of rows that lack a column that was added later.
    Nulls(i64),
}

/// A merged file.
pub(super) struct WrittenFile {
    pub(super) footer: ParquetMetaData,
    /// Size of the file, in bytes.
    pub(super) bytes: u64,
    /// Size of the footer, in bytes.
    pub(super) footer_bytes: u32,
}

/// Merges the sources into a new file with the columns of `model`, the snapshots of the rows, and their row
/// IDs unless those follow from the catalog.
pub(super) fn write(
    path: &Path,
    sources: &[SpliceSource],
    model: &Shape,
    has_row_ids: bool,
) -> Result<WrittenFile> {
    let schema = SchemaDescriptor::new(schema(model, has_row_ids)?);
    let properties = Arc::new(properties(&schema, sources));
    let storage = Storage::of(path)?;
    let file = storage.create_file(path)?;
    let mut writer = SerializedFileWriter::new(file, schema.root_schema_ptr(), properties)?;
    for parts in row_groups(sources) {
        let ranges = parts.iter().map(SourceRowGroup::range).collect::<Vec<_>>();
        let files = storage.open_ranges(&ranges)?;
        let mut row_group = writer.next_row_group()?;
        for (index, column) in schema.columns().iter().enumerate() {
            let pieces: Vec<_> = parts.iter().map(|part| part.input(index)).collect();
            write_column(&mut row_group, column, &files, &pieces)?;
        }
        row_group.close()?;
    }
    let footer = writer.finish()?;
    let file = writer.inner_mut();
    file.finish()?;
    // A Parquet file ends with the size of its footer and `PAR1`.
    let [a, b, c, d, ..] = file.last_bytes();
    Ok(WrittenFile {
        footer,
        bytes: file.written(),
        footer_bytes: u32::from_le_bytes([a, b, c, d]),
    })
}

fn schema(model: &Shape, has_row_ids: bool) -> Result<TypePtr> {
    let number = |(name, id)| {
        let built = Type::primitive_type_builder(name, PhysicalType::INT64)
            .with_repetition(Repetition::OPTIONAL)
            .with_id(Some(id));
        built.build().map(Arc::new)
    };
    let mut fields = model.fields.clone();
    fields.push(number(SNAPSHOT_ID)?);
    if has_row_ids {
        fields.push(number(ROW_ID)?);
    }
    Type::group_type_builder("duckdb_schema").with_fields(fields).build().map(Arc::new)
}

/// Returns the encodings that workers choose. A column has bounds if all sources have them.
fn properties(schema: &SchemaDescriptor, sources: &[SpliceSource]) -> WriterProperties {
    let mut builder = writer_properties("ducktide-compactor");
    for (index, column) in schema.columns().iter().enumerate() {
        builder = encode_column(builder, column);
        let mut chunks = sources.iter().flat_map(|source| {
            let place = source.column_indexes[index];
            place.into_iter().flat_map(|place| {
                source.metadata.row_groups().iter().map(move |group| group.column(place))
            })
        });
        if !chunks.all(statistics::has_bounds) {
            let path = column.path().clone();
            builder = builder.set_column_statistics_enabled(path, EnabledStatistics::None);
        }
    }
    builder.build()
}

/// Groups the row groups of the sources that are merged into one, in their order.
fn row_groups(sources: &[SpliceSource]) -> Vec<Vec<SourceRowGroup<'_>>> {
    let mut targets: Vec<Vec<SourceRowGroup<'_>>> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for source in sources {
        let mut before = 0;
        for row_group in source.metadata.row_groups() {
            rows += row_group.num_rows();
            bytes += row_group.compressed_size();
            let part = SourceRowGroup { source, row_group, before };
            before += row_group.num_rows();
            match targets.last_mut() {
                Some(parts) if rows <= ROWS && bytes <= BYTES && parts.len() < MAX_SOURCES => {
                    parts.push(part);
                }
                _ => {
                    (rows, bytes) = (row_group.num_rows(), row_group.compressed_size());
                    targets.push(vec![part]);
                }
            }
        }
    }
    targets
}

impl<'a> SourceRowGroup<'a> {
    /// Returns the part of the file with its column chunks.
    fn range(&self) -> FileRange {
        let chunks = self.row_group.columns().iter().map(ColumnChunkMetaData::byte_range);
        let bytes: Option<Range<u64>> = chunks.fold(None, |range, (start, length)| {
            let range = range.unwrap_or(start..start);
            Some(range.start.min(start)..range.end.max(start + length))
        });
        FileRange { path: self.source.path.clone(), bytes: bytes.unwrap_or(0..0) }
    }

    fn input(&self, index: usize) -> ColumnInput<'a> {
        let rows = self.row_group.num_rows();
        match self.source.column_indexes[index] {
            Some(place) => ColumnInput::Stored(self.row_group.column(place), rows),
            // Snapshot IDs and row IDs are the last columns.
            None if index + 2 < self.source.column_indexes.len() => ColumnInput::Nulls(rows),
            None if index + 1 == self.source.column_indexes.len() => {
                let first = self.source.first_row_id.expect("checked when the file was read");
                ColumnInput::Numbers((first + self.before..first + self.before + rows).collect())
            }
            None => ColumnInput::Numbers((0..rows).map(|_| self.source.snapshot.0).collect()),
        }
    }
}

impl ColumnInput<'_> {
    fn rows(&self) -> i64 {
        match self {
            Self::Stored(_, rows) | Self::Nulls(rows) => *rows,
            Self::Numbers(numbers) => i64::try_from(numbers.len()).expect("numbers in memory"),
        }
    }
}

fn write_column(
    row_group: &mut SerializedRowGroupWriter<'_, FileWriter>,
    column: &ColumnDescPtr,
    files: &[FileReader],
    pieces: &[ColumnInput<'_>],
) -> Result<()> {
    let stored: Vec<_> = pieces.iter().zip(files).filter_map(stored).collect();
    let rows = pieces.iter().map(ColumnInput::rows).sum();
    let can_stay = match stored.as_slice() {
        [_] => pieces.len() == 1,
        chunks => chunks.len() == pieces.len() && chunks.iter().all(|(_, chunk)| is_useful(chunk)),
    };
    if can_stay {
        let bytes = Chunk::splice(stored.iter().copied())?;
        let chunks: Vec<_> = stored.into_iter().map(|(_, chunk)| chunk).collect();
        return row_group.append_column(&bytes, splice(column, &chunks, rows)?);
    }
    let mut writer = row_group.next_column()?.expect("a writer for each column of the schema");
    for (input, file) in pieces.iter().zip(files) {
        match input {
            ColumnInput::Stored(chunk, rows) => {
                let pages = SerializedPageReader::new(
                    Arc::new(Chunk::load(file, chunk)?),
                    chunk,
                    usize::try_from(*rows)?,
                    None,
                )?;
                let reader = get_column_reader(chunk.column_descr_ptr(), Box::new(pages));
                encode(writer.untyped(), reader)?;
            }
            ColumnInput::Numbers(numbers) => {
                let levels = vec![1; numbers.len()];
                writer.typed::<Int64Type>().write_batch(numbers, Some(&levels), None)?;
            }
            ColumnInput::Nulls(rows) => write_nulls(writer.untyped(), usize::try_from(*rows)?)?,
        }
    }
    writer.close()
}

fn stored<'a>(
    (input, file): (&ColumnInput<'a>, &'a FileReader),
) -> Option<(&'a FileReader, &'a ColumnChunkMetaData)> {
    match input {
        ColumnInput::Stored(chunk, _) => Some((file, chunk)),
        ColumnInput::Numbers(_) | ColumnInput::Nulls(_) => None,
    }
}

/// Returns whether the pages of a chunk may be appended to those of another one.
fn is_useful(chunk: &ColumnChunkMetaData) -> bool {
    use parquet::basic::Encoding::{PLAIN_DICTIONARY, RLE_DICTIONARY};
    let is_dictionary = |encoding| [PLAIN_DICTIONARY, RLE_DICTIONARY].contains(&encoding);
    let has_dictionary =
        chunk.dictionary_page_offset().is_some() || chunk.encodings().any(is_dictionary);
    let is_large = chunk.num_values() >= USEFUL_ROWS || chunk.uncompressed_size() >= USEFUL_BYTES;
    !has_dictionary && is_large
}

/// Returns the footer entry of concatenated chunks, from position 0.
fn splice(
    column: &ColumnDescPtr,
    chunks: &[&ColumnChunkMetaData],
    rows: i64,
) -> Result<ColumnCloseResult> {
    let sum =
        |of: fn(&ColumnChunkMetaData) -> i64| chunks.iter().map(|chunk| of(chunk)).sum::<i64>();
    let first = chunks[0];
    let dictionary = first.dictionary_page_offset();
    let mut builder = ColumnChunkMetaData::builder(Arc::clone(column))
        .set_compression(first.compression())
        .set_encodings(chunks.iter().flat_map(|chunk| chunk.encodings()).collect())
        .set_total_compressed_size(sum(ColumnChunkMetaData::compressed_size))
        .set_total_uncompressed_size(sum(ColumnChunkMetaData::uncompressed_size))
        .set_num_values(sum(ColumnChunkMetaData::num_values))
        .set_dictionary_page_offset(dictionary.map(|_| 0))
        .set_data_page_offset(dictionary.map_or(0, |start| first.data_page_offset() - start));
    if let Some(statistics) = statistics::merge(column, chunks) {
        builder = builder.set_statistics(statistics);
    }
    let metadata = builder.build()?;
    Ok(ColumnCloseResult {
        bytes_written: metadata.compressed_size().try_into()?,
        rows_written: rows.try_into()?,
        metadata,
        bloom_filter: None,
        column_index: None,
        offset_index: None,
    })
}

/// Calls a function with the writer of the column's type.
macro_rules! with_typed {
    ($writer:expr, $call:ident, $argument:expr) => {
        match $writer {
            ColumnWriter::BoolColumnWriter(writer) => $call(writer, $argument),
            ColumnWriter::Int32ColumnWriter(writer) => $call(writer, $argument),
            ColumnWriter::Int64ColumnWriter(writer) => $call(writer, $argument),
            ColumnWriter::Int96ColumnWriter(writer) => $call(writer, $argument),
            ColumnWriter::FloatColumnWriter(writer) => $call(writer, $argument),
            ColumnWriter::DoubleColumnWriter(writer) => $call(writer, $argument),
            ColumnWriter::ByteArrayColumnWriter(writer) => $call(writer, $argument),
            ColumnWriter::FixedLenByteArrayColumnWriter(writer) => $call(writer, $argument),
        }
    };
}

/// Decodes a column chunk and encodes it again.
fn encode(writer: &mut ColumnWriter<'_>, reader: ColumnReader) -> Result<()> {
    with_typed!(writer, copy, reader)
}

fn write_nulls(writer: &mut ColumnWriter<'_>, rows: usize) -> Result<()> {
    with_typed!(writer, write_nulls_of, rows)
}

fn write_nulls_of<T: DataType>(writer: &mut ColumnWriterImpl<'_, T>, rows: usize) -> Result<()> {
    let levels = vec![0; rows];
    let is_repeated = writer.get_descriptor().max_rep_level() > 0;
    writer.write_batch(&[], Some(&levels), is_repeated.then_some(levels.as_slice()))?;
    Ok(())
}

fn copy<T: DataType>(writer: &mut ColumnWriterImpl<'_, T>, reader: ColumnReader) -> Result<()> {
    let mut reader = get_typed_column_reader::<T>(reader);
    let is_repeated = writer.get_descriptor().max_rep_level() > 0;
    let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        definitions.clear();
        repetitions.clear();
        values.clear();
        let (rows, _, _) = reader.read_records(
            DECODE_BATCH,
            Some(&mut definitions),
            Some(&mut repetitions),
            &mut values,
        )?;
        if rows == 0 {
            return Ok(());
        }
        let repetitions = is_repeated.then_some(repetitions.as_slice());
        writer.write_batch(&values, Some(&definitions), repetitions)?;
    }
}
