//! Rows of one file that wait until all of them are there, to be written in order.

use arrow_array::RecordBatch;
use arrow_ord::sort::{SortColumn, lexsort_to_indices};
use arrow_schema::ArrowError;
use arrow_select::{concat::concat_batches, take::take_record_batch};

/// Rows that are handed to the Parquet writer at once.
const ROWS_PER_BATCH: usize = 8192;

/// How much smaller rows are in a Parquet file than in memory, about: only to tell a file's size before
/// it is written.
const SHRINKS_BY: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Unsorted {
    batches: Vec<RecordBatch>,
    rows: u64,
    memory: usize,
}

impl Unsorted {
    pub(super) fn push(&mut self, batch: RecordBatch) {
        self.rows += u64::try_from(batch.num_rows()).expect("rows of a batch fit in 64 bits");
        self.memory += batch.get_array_memory_size();
        self.batches.push(batch);
    }

    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) const fn memory(&self) -> usize {
        self.memory
    }

    /// An estimate of the file's bytes.
    pub(super) const fn bytes(&self) -> u64 {
        (self.memory / SHRINKS_BY) as u64
    }

    /// The rows in the order of these columns, each ascending, NULL first.
    pub(super) fn sorted(self, columns: &[usize]) -> Result<Vec<RecordBatch>, ArrowError> {
        let Some(first) = self.batches.first() else { return Ok(Vec::new()) };
        let all = concat_batches(&first.schema(), &self.batches)?;
        drop(self.batches);
        let keys = columns.iter().map(|&column| {
            let values = all.column(column).clone();
            SortColumn { values, options: None }
        });
        let order = lexsort_to_indices(&keys.collect::<Vec<_>>(), None)?;
        let starts = (0..order.len()).step_by(ROWS_PER_BATCH);
        starts
            .map(|start| {
                let rows = order.slice(start, ROWS_PER_BATCH.min(order.len() - start));
                take_record_batch(&all, &rows)
            })
            .collect()
    }
}
