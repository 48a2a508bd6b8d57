//! Encoding of held rows, one column at a time.
//!
//! The encoders of a row group take up to 100 KB for each column ([`super::layout`]). Rows that are
//! in memory need only the encoders of one column at a time.

use std::sync::Arc;

use arrow_select::interleave::interleave;
use ducktide_storage::FileWriter;
use parquet::{errors::ParquetError, file::writer::SerializedFileWriter};

use super::{
    held_rows::{HeldRows, RowIndex},
    layout::ParquetLayout,
    row_group::{ROWS, RowGroup},
};

/// Number of rows that are passed to an encoder at once.
const ROWS_AT_ONCE: usize = 8192;

/// Appends row groups of these rows, in this order, to a file.
pub(super) fn write(
    file: &mut SerializedFileWriter<FileWriter>,
    layout: &ParquetLayout,
    held: &HeldRows,
    rows: &[RowIndex],
) -> Result<(), ParquetError> {
    rows.chunks(ROWS).try_for_each(|rows| write_row_group(file, layout, held, rows))
}

fn write_row_group(
    file: &mut SerializedFileWriter<FileWriter>,
    layout: &ParquetLayout,
    held: &HeldRows,
    rows: &[RowIndex],
) -> Result<(), ParquetError> {
    let index = file.flushed_row_groups().len();
    let mut row_group = file.next_row_group()?;
    for (column, (field, factory)) in layout.columns.iter().enumerate() {
        let (fields, arrays) = ([Arc::clone(field)].into(), held.column(column));
        let mut encoders = RowGroup::new(factory, index)?;
        for rows in rows.chunks(ROWS_AT_ONCE) {
            encoders.write_columns(&fields, &[interleave(&arrays, rows)?])?;
        }
        encoders.append_to(&mut row_group)?;
    }
    row_group.close()?;
    Ok(())
}
