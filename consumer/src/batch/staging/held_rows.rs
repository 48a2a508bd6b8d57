//! Rows that are held in memory until their files are written.

use std::collections::BTreeMap;

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_ord::sort::{SortColumn, lexsort_to_indices};
use arrow_schema::ArrowError;
use arrow_select::{interleave::interleave, take::take_record_batch};

use super::folder::Folder;

/// Approximate ratio of the size of rows in memory to their size in a Parquet file. Used only to
/// estimate the size of a file before it is written.
const COMPRESSION_RATIO: usize = 4;

/// Memory of an array in addition to its values, bytes. It exceeds the values in batches of wide
/// tables.
const BYTES_PER_ARRAY: usize = 256;

/// Index of a batch, and of a row within it.
pub(super) type RowIndex = (usize, usize);

/// Batches, undivided, and the rows of each file. Dividing a batch of many columns into one for
/// each date would take several times its memory.
#[derive(Debug, Default)]
pub(super) struct HeldRows {
    batches: Vec<RecordBatch>,
    files: BTreeMap<Folder, Vec<RowIndex>>,
    rows: usize,
    /// Memory of the batches, bytes.
    memory: usize,
}

impl HeldRows {
    /// Adds rows of a batch, grouped by their files.
    pub(super) fn push(
        &mut self,
        batch: &RecordBatch,
        files: Vec<(Folder, Vec<u32>)>,
    ) -> Result<(), ArrowError> {
        let rows = files.iter().map(|(_, rows)| rows.len()).sum::<usize>();
        if rows == batch.num_rows() {
            for (folder, rows) in files {
                self.add(folder, rows.into_iter().map(|row| row as usize));
            }
            self.keep(batch.clone());
        } else if rows > 0 {
            let wanted = files.iter().flat_map(|(_, rows)| rows).copied().collect::<UInt32Array>();
            let mut start = 0;
            for (folder, rows) in files {
                self.add(folder, start..start + rows.len());
                start += rows.len();
            }
            self.keep(take_record_batch(batch, &wanted)?);
        }
        Ok(())
    }

    /// Adds rows of the batch that is kept next to a file.
    fn add(&mut self, folder: Folder, rows: impl Iterator<Item = usize>) {
        let batch = self.batches.len();
        self.files.entry(folder).or_default().extend(rows.map(|row| (batch, row)));
    }

    fn keep(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.memory += batch.get_array_memory_size() + batch.num_columns() * BYTES_PER_ARRAY;
        self.batches.push(batch);
    }

    pub(super) fn has(&self, folder: Folder) -> bool {
        self.files.contains_key(&folder)
    }

    pub(super) fn files(&self) -> usize {
        self.files.len()
    }

    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    pub(super) const fn memory(&self) -> usize {
        self.memory + self.rows * size_of::<RowIndex>()
    }

    /// Returns an estimate of the size of the files, bytes.
    pub(super) const fn bytes(&self) -> u64 {
        (self.memory / COMPRESSION_RATIO) as u64
    }

    /// Removes and returns one file and its rows.
    pub(super) fn pop_file(&mut self) -> Option<(Folder, Vec<RowIndex>)> {
        self.files.pop_first()
    }

    /// Returns a column of all batches.
    pub(super) fn column(&self, column: usize) -> Vec<&dyn Array> {
        self.batches.iter().map(|batch| batch.column(column).as_ref()).collect()
    }

    /// Sorts rows by these columns, ascending, NULL first. Only these columns are copied.
    pub(super) fn sort(
        &self,
        rows: Vec<RowIndex>,
        columns: &[usize],
    ) -> Result<Vec<RowIndex>, ArrowError> {
        if columns.is_empty() {
            return Ok(rows);
        }
        let key = |&column: &usize| {
            let values: ArrayRef = interleave(&self.column(column), &rows)?;
            Ok(SortColumn { values, options: None })
        };
        let keys = columns.iter().map(key).collect::<Result<Vec<_>, ArrowError>>()?;
        let order = lexsort_to_indices(&keys, None)?;
        Ok(order.values().iter().map(|&row| rows[row as usize]).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, cast::AsArray, types::Int64Type};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;

    const A: Folder = Folder::Date(Some(1));
    const B: Folder = Folder::Date(Some(2));

    fn batch(numbers: &[i64]) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
        let numbers = Int64Array::from(numbers.to_vec());
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(numbers)]).unwrap()
    }

    fn values(held: &HeldRows, rows: &[RowIndex]) -> Vec<i64> {
        let values = interleave(&held.column(0), rows).unwrap();
        values.as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn each_file_gets_its_rows_in_order() {
        let mut held = HeldRows::default();
        held.push(&batch(&[1, 2, 3]), vec![(B, vec![0, 2]), (A, vec![1])]).unwrap();
        // Row 1 was written to an open file.
        held.push(&batch(&[4, 5, 6]), vec![(A, vec![2]), (B, vec![0])]).unwrap();

        assert_eq!((held.files(), held.rows(), held.batches[1].num_rows()), (2, 5, 2));
        let (folder, rows) = held.pop_file().unwrap();
        assert_eq!((folder, values(&held, &rows)), (A, vec![2, 6]));
        let (folder, rows) = held.pop_file().unwrap();
        assert_eq!((folder, values(&held, &rows)), (B, vec![1, 3, 4]));
        assert!(held.pop_file().is_none());
    }

    #[test]
    fn rows_are_sorted_across_batches() {
        let mut held = HeldRows::default();
        for numbers in [[7, 1], [5, 3]] {
            held.push(&batch(&numbers), vec![(A, vec![0, 1])]).unwrap();
        }
        let (_, rows) = held.pop_file().unwrap();

        let sorted = held.sort(rows, &[0]).unwrap();

        assert_eq!(values(&held, &sorted), [1, 3, 5, 7]);
    }
}
