//! Log of a partition of a simulated topic.
//!
//! Each offset has a slot. Markers of transactions, aborted and compacted records occupy offsets and are not
//! delivered; records of an open transaction delay all that follow (the last stable offset). Retention
//! removes the first slots.

use std::sync::Arc;

use crate::simulation::payload::Payload;

/// Record of the log.
#[derive(Debug)]
pub(super) struct LogRecord {
    /// Unique number, which its row has too.
    pub(super) id: i64,
    /// Number of the event, by which duplicates are found.
    pub(super) event: i64,
    pub(super) payload: Payload,
    /// Value in the wire format; None for a tombstone.
    pub(super) bytes: Option<Box<[u8]>>,
    /// Milliseconds since 1970.
    pub(super) timestamp_ms: i64,
}

/// State of one offset.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Record(Arc<LogRecord>),
    /// Record of a transaction that is open.
    Pending(Arc<LogRecord>),
    Aborted,
    /// A record that compaction removed. A reader may have read it before.
    Compacted(Arc<LogRecord>),
    /// Marker of the end of a transaction.
    Marker,
}

/// Result of a fetch.
#[derive(Debug)]
pub(super) enum Fetched {
    Records {
        records: Vec<(i64, Arc<LogRecord>)>,
        /// Position of the next fetch.
        next: i64,
        /// True if the next fetch begins exactly at the last stable offset.
        is_end: bool,
    },
    OutOfRange,
}

#[derive(Clone, Debug, Default)]
pub(super) struct PartitionLog {
    slots: Vec<Slot>,
    start: i64,
    /// First offset of the open transaction.
    open: Option<i64>,
}

fn index(offset: i64) -> usize {
    usize::try_from(offset).expect("offsets of a log are not negative")
}

impl PartitionLog {
    /// Offset of the next record.
    pub(super) fn end(&self) -> i64 {
        i64::try_from(self.slots.len()).expect("a log is short")
    }

    /// First offset that retention has left.
    pub(super) const fn start(&self) -> i64 {
        self.start
    }

    /// Offset before which all transactions have ended.
    pub(super) fn last_stable(&self) -> i64 {
        self.open.unwrap_or_else(|| self.end())
    }

    pub(super) fn slot(&self, offset: i64) -> Option<&Slot> {
        self.slots.get(index(offset))
    }

    pub(super) fn is_compacted(&self, offset: i64) -> bool {
        matches!(self.slot(offset), Some(Slot::Compacted(_)))
    }

    /// Returns the number of offsets without a record.
    pub(super) fn gaps(&self) -> usize {
        self.slots.iter().filter(|slot| !matches!(slot, Slot::Record(_))).count()
    }

    pub(super) fn append(&mut self, record: LogRecord, in_transaction: bool) {
        let record = Arc::new(record);
        if in_transaction {
            self.open.get_or_insert(i64::try_from(self.slots.len()).expect("a log is short"));
            self.slots.push(Slot::Pending(record));
        } else {
            self.slots.push(Slot::Record(record));
        }
    }

    /// Ends the open transaction, if there is one.
    pub(super) fn end_transaction(&mut self, commits: bool) {
        let Some(first) = self.open.take() else { return };
        for slot in &mut self.slots[index(first)..] {
            if let Slot::Pending(record) = slot {
                *slot = if commits { Slot::Record(Arc::clone(record)) } else { Slot::Aborted };
            }
        }
        self.slots.push(Slot::Marker);
    }

    /// Removes every third record with a value before the last one, as if a later record had its key.
    pub(super) fn compact(&mut self, first: i64) {
        let last = index(self.last_stable()).saturating_sub(1);
        for slot in self.slots[..last].iter_mut().skip(index(first)).step_by(3) {
            if let Slot::Record(record) = slot
                && record.payload != Payload::Tombstone
            {
                *slot = Slot::Compacted(Arc::clone(record));
            }
        }
    }

    /// Removes all records before an offset, as retention or `DeleteRecords` does.
    pub(super) fn delete_before(&mut self, offset: i64) {
        self.start = self.start.max(offset.min(self.last_stable()));
    }

    /// Reads committed records from a position.
    pub(super) fn fetch(&self, position: i64, limit: usize) -> Fetched {
        if position < self.start || position > self.end() {
            return Fetched::OutOfRange;
        }
        let stable = self.last_stable();
        let (mut records, mut next) = (Vec::new(), position);
        while next < stable && records.len() < limit {
            if let Slot::Record(record) = &self.slots[index(next)] {
                records.push((next, Arc::clone(record)));
            }
            next += 1;
        }
        Fetched::Records { records, next, is_end: next == stable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: i64) -> LogRecord {
        LogRecord { id, event: id, payload: Payload::Row, bytes: None, timestamp_ms: 0 }
    }

    fn fetched(log: &PartitionLog, position: i64) -> (Vec<i64>, i64, bool) {
        match log.fetch(position, 10) {
            Fetched::Records { records, next, is_end } => {
                (records.iter().map(|(offset, _)| *offset).collect(), next, is_end)
            }
            Fetched::OutOfRange => panic!("the offset exists"),
        }
    }

    #[test]
    fn aborted_records_and_markers_occupy_offsets_and_are_not_delivered() {
        let mut log = PartitionLog::default();
        log.append(record(0), false);
        log.append(record(1), true);
        log.append(record(2), false);
        assert_eq!(fetched(&log, 0), (vec![0], 1, true));

        log.end_transaction(false);

        assert_eq!((log.last_stable(), log.end()), (4, 4));
        assert_eq!(fetched(&log, 0), (vec![0, 2], 4, true));
    }

    #[test]
    fn offsets_outside_of_the_log_are_out_of_range() {
        let mut log = PartitionLog::default();
        (0..5).for_each(|id| log.append(record(id), false));
        log.delete_before(2);

        assert!(matches!(log.fetch(1, 10), Fetched::OutOfRange));
        assert!(matches!(log.fetch(6, 10), Fetched::OutOfRange));
        assert_eq!(fetched(&log, 5), (vec![], 5, true));
        log.compact(2);
        assert_eq!(fetched(&log, 2), (vec![3, 4], 5, true));
    }
}
