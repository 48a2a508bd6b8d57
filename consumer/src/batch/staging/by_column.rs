//! Encodes rows that are in memory, one column after the other.
//!
//! All encoders of a row group at once take up to 100 KB for each column ([`super::layout`]); one
//! column's are enough when its values are at hand.

use std::{fs::File, sync::Arc};

use arrow_select::interleave::interleave;
use parquet::{errors::ParquetError, file::writer::SerializedFileWriter};

use super::{
    held_rows::{HeldRows, RowIndex},
    layout::ParquetLayout,
    row_group::{ROWS, RowGroup},
};

/// Rows that are handed to an encoder at once.
const ROWS_AT_ONCE: usize = 8192;

/// Writes rows, in this order, as row groups behind those that the file has.
pub(super) fn write(
    file: &mut SerializedFileWriter<File>,
    layout: &ParquetLayout,
    held: &HeldRows,
    rows: &[RowIndex],
) -> Result<(), ParquetError> {
    rows.chunks(ROWS).try_for_each(|rows| write_row_group(file, layout, held, rows))
}

fn write_row_group(
    file: &mut SerializedFileWriter<File>,
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
