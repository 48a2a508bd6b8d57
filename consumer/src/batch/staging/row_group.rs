//! A row group that is being encoded, with a column writer for each leaf column.

use arrow_array::{ArrayRef, RecordBatch, cast::AsArray, types::Float64Type};
use arrow_schema::{DataType, Fields};
use ducktide_storage::FileWriter;
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

/// Maximum number of rows, equal to the row group size of DuckDB, which reads a row group with one
/// thread.
pub(super) const ROWS: usize = 122_880;

/// Maximum encoded size, bytes. The row group is in memory until it is written.
const BYTES: usize = 16 * 1024 * 1024;

/// Row group in memory, or some of its columns.
///
/// Works as `ArrowWriter` of the Parquet library, except that two kinds of column chunks have no
/// minimum and maximum. Chunks with NaN: Parquet excludes it from the bounds, but DuckDB orders it
/// after all numbers, so that DuckLake would prune files with matching rows (measured: `x > 100`
/// and `x = 'NaN'` found nothing). Chunks whose bounds contain a zero character: PostgreSQL cannot
/// store it in text, so that the file could never be registered.
pub(super) struct RowGroup {
    columns: Vec<ArrowColumnWriter>,
    /// For each leaf column, true if it contains a NaN.
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

    /// Writes values of the columns without counting rows.
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

    /// Returns the memory of the encoders in addition to their initial memory, bytes. Encoders of
    /// numbers reserve 1 MiB, of which only the encoded part is resident; those of text count the
    /// indices of their dictionary.
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

    /// Appends the row group to a file.
    pub(super) fn close(
        self,
        file: &mut SerializedFileWriter<FileWriter>,
    ) -> Result<(), ParquetError> {
        let mut row_group = file.next_row_group()?;
        self.append_to(&mut row_group)?;
        row_group.close()?;
        Ok(())
    }

    /// Appends the columns to a row group.
    pub(super) fn append_to(
        self,
        row_group: &mut SerializedRowGroupWriter<'_, FileWriter>,
    ) -> Result<(), ParquetError> {
        for (column, has_nan) in self.columns.into_iter().zip(self.has_nan) {
            let mut chunk = column.close()?;
            if has_nan || has_zero_character(&chunk) {
                remove_bounds(&mut chunk)?;
            }
            chunk.append_to_row_group(row_group)?;
        }
        Ok(())
    }
}

/// Returns whether a bound of a text column contains U+0000.
fn has_zero_character(chunk: &ArrowColumnChunk) -> bool {
    match chunk.close().metadata.statistics() {
        Some(Statistics::ByteArray(bounds)) => {
            let bounds = [bounds.min_bytes_opt(), bounds.max_bytes_opt()];
            bounds.iter().flatten().any(|bound| bound.contains(&0))
        }
        _ => false,
    }
}

/// Removes the minimum and maximum from the statistics of a chunk; the count of NULLs remains.
fn remove_bounds(chunk: &mut ArrowColumnChunk) -> Result<(), ParquetError> {
    let metadata = &mut chunk.close_mut().metadata;
    let nulls = metadata.statistics().and_then(Statistics::null_count_opt);
    let statistics = match metadata.statistics() {
        Some(Statistics::ByteArray(_)) => Statistics::byte_array(None, None, None, nulls, false),
        _ => Statistics::double(None, None, None, nulls, false),
    };
    *metadata = metadata.clone().into_builder().set_statistics(statistics).build()?;
    Ok(())
}

/// Passes to `found`, for each leaf column in order, whether it contains a NaN.
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
