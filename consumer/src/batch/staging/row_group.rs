//! The row group that is being encoded, a column writer for each leaf column.

use std::fs::File;

use arrow_array::{ArrayRef, RecordBatch, cast::AsArray, types::Float64Type};
use arrow_schema::{DataType, Fields};
use parquet::{
    arrow::arrow_writer::{
        ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
    },
    errors::ParquetError,
    file::{
        statistics::Statistics,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
};

/// DuckDB's own row group size: what it reads with one thread.
pub(super) const ROWS: usize = 122_880;

/// The encoded bytes of a row group, which stay in memory until it is written.
const BYTES: usize = 16 * 1024 * 1024;

/// A row group in memory, or some of its columns.
///
/// Like the Parquet library's own `ArrowWriter`, except that two kinds of column chunks have no minimum
/// and maximum. Parquet's leave NaN out, but to DuckDB it is greater than all numbers, so that DuckLake
/// would prune files that have the rows a query asks for (measured: `x > 100` and `x = 'NaN'` found
/// nothing). And PostgreSQL has no text with a zero character, so that a file with such a bound could
/// never be registered.
pub(super) struct RowGroup {
    columns: Vec<ArrowColumnWriter>,
    /// Whether each leaf column has had a NaN.
    has_nan: Vec<bool>,
    rows: usize,
}

impl RowGroup {
    pub(super) fn new(
        factory: &ArrowRowGroupWriterFactory,
        index: usize,
    ) -> Result<Self, ParquetError> {
        let columns = factory.create_column_writers(index)?;
        Ok(Self { has_nan: vec![false; columns.len()], columns, rows: 0 })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ParquetError> {
        self.write_columns(batch.schema().fields(), batch.columns())?;
        self.rows += batch.num_rows();
        Ok(())
    }

    /// Writes values of the columns alone, without counting rows.
    pub(super) fn write_columns(
        &mut self,
        fields: &Fields,
        arrays: &[ArrayRef],
    ) -> Result<(), ParquetError> {
        let leaves = fields.iter().zip(arrays);
        let leaves = leaves.map(|(field, array)| compute_leaves(field, array));
        let mut columns = self.columns.iter_mut();
        for leaf in leaves.collect::<Result<Vec<_>, _>>()?.iter().flatten() {
            columns.next().expect("a schema has as many leaves as its batches").write(leaf)?;
        }
        let mut has_nan = self.has_nan.iter_mut();
        find_nan(fields, arrays, &mut |found| {
            *has_nan.next().expect("a schema has as many leaves as its batches") |= found;
        });
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows >= ROWS || self.encoded_bytes() >= BYTES
    }

    /// The bytes that encoders hold beside what each takes from its beginning. Those of numbers reserve
    /// a MiB of which they touch what they have encoded; those of text count their dictionary's indices.
    pub(super) fn memory(&self, is_text: &[bool]) -> usize {
        let columns = self.columns.iter().zip(is_text);
        let bytes = columns.map(|(column, &is_text)| {
            if is_text { column.memory_size() } else { column.get_estimated_total_bytes() }
        });
        bytes.sum()
    }

    pub(super) fn encoded_bytes(&self) -> usize {
        self.columns.iter().map(ArrowColumnWriter::get_estimated_total_bytes).sum()
    }

    /// Writes the row group behind those that the file has.
    pub(super) fn close(self, file: &mut SerializedFileWriter<File>) -> Result<(), ParquetError> {
        let mut row_group = file.next_row_group()?;
        self.append_to(&mut row_group)?;
        row_group.close()?;
        Ok(())
    }

    /// Writes the columns behind those that the row group has.
    pub(super) fn append_to(
        self,
        row_group: &mut SerializedRowGroupWriter<'_, File>,
    ) -> Result<(), ParquetError> {
        for (column, has_nan) in self.columns.into_iter().zip(self.has_nan) {
            let mut chunk = column.close()?;
            if has_nan || has_zero_character(&chunk) {
                forget_bounds(&mut chunk)?;
            }
            chunk.append_to_row_group(row_group)?;
        }
        Ok(())
    }
}

/// Whether a bound of text holds U+0000.
fn has_zero_character(chunk: &ArrowColumnChunk) -> bool {
    match chunk.close().metadata.statistics() {
        Some(Statistics::ByteArray(bounds)) => {
            let bounds = [bounds.min_bytes_opt(), bounds.max_bytes_opt()];
            bounds.iter().flatten().any(|bound| bound.contains(&0))
        }
        _ => false,
    }
}

/// Leaves only the count of NULLs in a chunk's statistics.
fn forget_bounds(chunk: &mut ArrowColumnChunk) -> Result<(), ParquetError> {
    let metadata = &mut chunk.close_mut().metadata;
    let nulls = metadata.statistics().and_then(Statistics::null_count_opt);
    let statistics = match metadata.statistics() {
        Some(Statistics::ByteArray(_)) => Statistics::byte_array(None, None, None, nulls, false),
        _ => Statistics::double(None, None, None, nulls, false),
    };
    *metadata = metadata.clone().into_builder().set_statistics(statistics).build()?;
    Ok(())
}

/// Says of each leaf column, in their order, whether it holds a NaN.
fn find_nan(fields: &Fields, arrays: &[ArrayRef], found: &mut impl FnMut(bool)) {
    for (field, array) in fields.iter().zip(arrays) {
        match field.data_type() {
            DataType::Struct(fields) => find_nan(fields, array.as_struct().columns(), found),
            DataType::List(items) => {
                find_nan(
                    &[items.clone()].into(),
                    &[array.as_list::<i32>().values().clone()],
                    found,
                );
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) => {
                    find_nan(fields, array.as_map().entries().columns(), found);
                }
                _ => unreachable!("a map's entries are keys and values"),
            },
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>().values();
                found(values.iter().any(|value| value.is_nan()));
            }
            _ => found(false),
        }
    }
}
