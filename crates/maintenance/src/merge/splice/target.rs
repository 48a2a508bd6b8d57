//! Writes one merged file, a row group at a time.
//!
//! | column chunks that become one | how |
//! |---|---|
//! | one | copied as it is |
//! | several, none with a dictionary, all with pages of a useful size | copied one behind the other |
//! | other ones, and those of columns that some of the files lack | values and levels decoded, and encoded again |
//!
//! Nothing here knows what values mean: a page is a page, and a decoded value has the physical type that
//! it had. So lists, structures, and types that only other clients use need no care of their own.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ducktide_lake::parquet_encoding::{encode_column, writer_properties};
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
use super::source::Source;
use super::statistics;

/// DuckDB's own row group size: what it reads with one thread.
const ROWS: i64 = 122_880;

/// The compressed bytes of the row groups that become one.
const BYTES: i64 = 32 * 1024 * 1024;

/// How many row groups become one at most: so many files are open at once.
const PARTS: usize = 256;

/// The pages of a column chunk with fewer rows, and fewer bytes before compression, are not kept: their
/// headers and their compression one by one would make the file larger.
const USEFUL_ROWS: i64 = 4_096;
const USEFUL_BYTES: i64 = 64 * 1024;

/// Rows that are decoded at a time.
const ROWS_AT_A_TIME: usize = 4_096;

/// A row group of a source.
struct Part<'a> {
    source: &'a Source,
    row_group: &'a RowGroupMetaData,
    /// The rows of the file before it.
    before: i64,
}

/// What a part contributes to a column.
enum Piece<'a> {
    /// A column chunk, and its rows: it has more values where they are repeated.
    Stored(&'a ColumnChunkMetaData, i64),
    Numbers(Vec<i64>),
    /// So many rows of a column that was added later.
    Nulls(i64),
}

/// Merges the sources into a new file with the columns of `model`, the rows' snapshots, and their row ids
/// unless the catalog is to tell them.
pub(super) fn write(
    path: &Path,
    sources: &[Source],
    model: &Shape,
    has_row_ids: bool,
) -> Result<ParquetMetaData> {
    let schema = SchemaDescriptor::new(schema(model, has_row_ids)?);
    let properties = Arc::new(properties(&schema, sources));
    let file = File::create_new(path)?;
    let mut writer = SerializedFileWriter::new(file, schema.root_schema_ptr(), properties)?;
    for parts in row_groups(sources) {
        let files = parts.iter().map(|part| File::open(&part.source.path));
        let files = files.collect::<std::io::Result<Vec<_>>>()?;
        let mut row_group = writer.next_row_group()?;
        for (index, column) in schema.columns().iter().enumerate() {
            let pieces: Vec<_> = parts.iter().map(|part| part.piece(index)).collect();
            write_column(&mut row_group, column, &files, &pieces)?;
        }
        row_group.close()?;
    }
    writer.close()
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

/// Encodings as workers choose them. A column has bounds if all the sources show them for it.
fn properties(schema: &SchemaDescriptor, sources: &[Source]) -> WriterProperties {
    let mut builder = writer_properties("ducktide-compactor");
    for (index, column) in schema.columns().iter().enumerate() {
        builder = encode_column(builder, column);
        let mut chunks = sources.iter().flat_map(|source| {
            let place = source.places[index];
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

/// Which row groups of the sources become one, in their order.
fn row_groups(sources: &[Source]) -> Vec<Vec<Part<'_>>> {
    let mut targets: Vec<Vec<Part<'_>>> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for source in sources {
        let mut before = 0;
        for row_group in source.metadata.row_groups() {
            rows += row_group.num_rows();
            bytes += row_group.compressed_size();
            let part = Part { source, row_group, before };
            before += row_group.num_rows();
            match targets.last_mut() {
                Some(parts) if rows <= ROWS && bytes <= BYTES && parts.len() < PARTS => {
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

impl<'a> Part<'a> {
    fn piece(&self, index: usize) -> Piece<'a> {
        let rows = self.row_group.num_rows();
        match self.source.places[index] {
            Some(place) => Piece::Stored(self.row_group.column(place), rows),
            // Snapshot ids and row ids come last.
            None if index + 2 < self.source.places.len() => Piece::Nulls(rows),
            None if index + 1 == self.source.places.len() => {
                let first = self.source.first_row_id.expect("checked when the file was read");
                Piece::Numbers((first + self.before..first + self.before + rows).collect())
            }
            None => Piece::Numbers((0..rows).map(|_| self.source.snapshot.0).collect()),
        }
    }
}

impl Piece<'_> {
    fn rows(&self) -> i64 {
        match self {
            Self::Stored(_, rows) | Self::Nulls(rows) => *rows,
            Self::Numbers(numbers) => i64::try_from(numbers.len()).expect("numbers in memory"),
        }
    }
}

fn write_column(
    row_group: &mut SerializedRowGroupWriter<'_, File>,
    column: &ColumnDescPtr,
    files: &[File],
    pieces: &[Piece<'_>],
) -> Result<()> {
    let stored: Vec<_> = pieces.iter().zip(files).filter_map(stored).collect();
    let rows = pieces.iter().map(Piece::rows).sum();
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
    for (piece, file) in pieces.iter().zip(files) {
        match piece {
            Piece::Stored(chunk, rows) => {
                let pages = SerializedPageReader::new(
                    Arc::new(Chunk::load(file, chunk)?),
                    chunk,
                    usize::try_from(*rows)?,
                    None,
                )?;
                let reader = get_column_reader(chunk.column_descr_ptr(), Box::new(pages));
                encode(writer.untyped(), reader)?;
            }
            Piece::Numbers(numbers) => {
                let levels = vec![1; numbers.len()];
                writer.typed::<Int64Type>().write_batch(numbers, Some(&levels), None)?;
            }
            Piece::Nulls(rows) => write_nulls(writer.untyped(), usize::try_from(*rows)?)?,
        }
    }
    writer.close()
}

fn stored<'a>(
    (piece, file): (&Piece<'a>, &'a File),
) -> Option<(&'a File, &'a ColumnChunkMetaData)> {
    match piece {
        Piece::Stored(chunk, _) => Some((file, chunk)),
        Piece::Numbers(_) | Piece::Nulls(_) => None,
    }
}

/// Whether the pages of a chunk may stand behind those of another one.
fn is_useful(chunk: &ColumnChunkMetaData) -> bool {
    use parquet::basic::Encoding::{PLAIN_DICTIONARY, RLE_DICTIONARY};
    let is_dictionary = |encoding| [PLAIN_DICTIONARY, RLE_DICTIONARY].contains(&encoding);
    let has_dictionary =
        chunk.dictionary_page_offset().is_some() || chunk.encodings().any(is_dictionary);
    let is_large = chunk.num_values() >= USEFUL_ROWS || chunk.uncompressed_size() >= USEFUL_BYTES;
    !has_dictionary && is_large
}

/// How the footer describes chunks that stand one behind the other, from zero on.
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
            ROWS_AT_A_TIME,
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
