//! Builder of the `_kafka_topic` column: as long as a single topic fills a buffer, its rows are
//! only counted.

use std::sync::Arc;

use arrow_array::{ArrayRef, DictionaryArray, Int32Array, StringArray};

/// Topics of consecutive rows, run-length encoded.
#[derive(Debug, Default)]
pub(super) struct TopicColumn {
    names: Vec<String>,
    /// Indices into the names, and the number of consecutive rows with each.
    runs: Vec<(usize, usize)>,
}

impl TopicColumn {
    #[inline]
    pub(super) fn push(&mut self, topic: &str) {
        match self.runs.last_mut() {
            Some((index, rows)) if self.names[*index] == topic => {
                *rows += 1;
            }
            _ => self.start_run(topic),
        }
    }

    fn start_run(&mut self, topic: &str) {
        let index = self.names.iter().position(|name| name == topic).unwrap_or_else(|| {
            self.names.push(topic.to_owned());
            self.names.len() - 1
        });
        self.runs.push((index, 1));
    }

    /// Returns the runs as a dictionary array and clears the builder.
    pub(super) fn finish(&mut self) -> ArrayRef {
        let keys = self.runs.drain(..).flat_map(|(index, rows)| {
            let key = i32::try_from(index).expect("a worker reads few topics");
            std::iter::repeat_n(key, rows)
        });
        let keys = Int32Array::from_iter_values(keys);
        let names = StringArray::from_iter_values(self.names.drain(..));
        Arc::new(DictionaryArray::new(keys, Arc::new(names)))
    }
}
