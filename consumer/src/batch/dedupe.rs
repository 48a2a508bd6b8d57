//! Duplicates: records with the id of a recent row of their partition. Pure.
//!
//! The rule is that of [`ducktide_protocol::dedupe`]; the window is a copy of the rows in the lake. It
//! is read from the lake whenever a partition is started, and dropped when its reading ends. Ids of
//! rows that were never committed, or that a replay removed, must not remain: the same records,
//! read again, would all be dropped as duplicates.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ducktide_protocol::dedupe::{EventId, RecentRow};
use ducktide_protocol::position::Offset;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Memory of one id, bytes, without the bytes of a text: an entry, its share of the hash table, and
/// of the spare capacity of both. Measured as the peak memory of a process: 95 for 2 million ids in
/// 8 partitions.
pub(crate) const BYTES_PER_ID: usize = 96;

/// Rule by which duplicates are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DedupeRule {
    /// Column whose values identify events.
    pub(crate) column: String,
    /// Length of the window before the newest row, microseconds of Kafka timestamps.
    pub(crate) span_micros: i64,
}

/// Memory limit for the ids of all windows of a worker.
#[derive(Debug)]
pub(crate) struct IdBudget {
    limit: usize,
    used: AtomicUsize,
    ids: AtomicUsize,
    /// True if it was logged that the limit is reached.
    is_shortage_reported: AtomicBool,
}

impl IdBudget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: 0.into(), ids: 0.into(), is_shortage_reported: false.into() })
    }

    /// Returns the maximum number of ids, if none is a text.
    pub(crate) const fn ids_at_most(&self) -> usize {
        self.limit / BYTES_PER_ID
    }

    /// Returns the number of remembered ids.
    pub(crate) fn ids(&self) -> usize {
        self.ids.load(Ordering::Relaxed)
    }

    /// Returns the memory of the remembered ids, bytes.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns true at the first call, false afterwards: the shortage is logged once.
    pub(crate) fn is_first_shortage(&self) -> bool {
        !self.is_shortage_reported.swap(true, Ordering::Relaxed)
    }

    fn add(&self, entry: &Entry) {
        self.used.fetch_add(entry.cost(), Ordering::Relaxed);
        self.ids.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&self, entry: &Entry) {
        self.used.fetch_sub(entry.cost(), Ordering::Relaxed);
        self.ids.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Entry {
    id: EventId,
    offset: Offset,
    timestamp_micros: i64,
}

impl Entry {
    const fn cost(&self) -> usize {
        BYTES_PER_ID + self.id.heap_bytes()
    }
}

/// Recent rows of one partition, of which its next record may be a duplicate.
#[derive(Debug)]
pub(crate) struct DedupeWindow {
    span_micros: i64,
    /// Newest timestamp of a row.
    newest: i64,
    /// Rows in the order of their offsets.
    entries: VecDeque<Entry>,
    /// Number of the first entry. The numbers of the others follow; they wrap around.
    first: u32,
    /// Numbers of entries by id: the last entry of each id.
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
    budget: Arc<IdBudget>,
    /// Number of ids within the window that were dropped for lack of memory since
    /// [`Self::take_forgotten`].
    forgotten: u64,
}

impl DedupeWindow {
    /// Creates the window after these rows, which are in the order of their offsets. A timestamp
    /// after `now` counts as `now`, so that one broken clock does not make all other rows old.
    pub(crate) fn new(
        rule: &DedupeRule,
        rows: impl IntoIterator<Item = RecentRow>,
        now: i64,
        budget: Arc<IdBudget>,
    ) -> Self {
        let mut window = Self {
            span_micros: rule.span_micros,
            newest: i64::MIN,
            entries: VecDeque::new(),
            first: 0,
            numbers: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            budget,
            forgotten: 0,
        };
        for row in rows {
            window.remember(row.id, row.offset, row.timestamp_micros.min(now));
        }
        window
    }

    /// Returns whether a record is a duplicate of a row. Records without an id or timestamp are
    /// never checked.
    pub(crate) fn is_duplicate(&self, id: &EventId, offset: Offset, timestamp_micros: i64) -> bool {
        let oldest = self.newest.max(timestamp_micros).saturating_sub(self.span_micros);
        self.find(id).is_some_and(|entry| entry.timestamp_micros >= oldest && entry.offset < offset)
    }

    fn find(&self, id: &EventId) -> Option<&Entry> {
        let number = self.numbers.find(self.hasher.hash_one(id), |&n| self.entry(n).id == *id)?;
        Some(self.entry(*number))
    }

    fn entry(&self, number: u32) -> &Entry {
        &self.entries[number.wrapping_sub(self.first) as usize]
    }

    /// Adds a row, and removes the rows that are too old for duplicates.
    pub(crate) fn remember(&mut self, id: EventId, offset: Offset, timestamp_micros: i64) {
        self.newest = self.newest.max(timestamp_micros);
        let hash = self.hasher.hash_one(&id);
        let length =
            u32::try_from(self.entries.len()).expect("the memory limit is below that many ids");
        let number = self.first.wrapping_add(length);
        let (entries, first, hasher) = (&self.entries, self.first, &self.hasher);
        let entry_of = |n: u32| &entries[n.wrapping_sub(first) as usize];
        match self.numbers.find_mut(hash, |&n| entry_of(n).id == id) {
            Some(known) => *known = number,
            None => {
                self.numbers.insert_unique(hash, number, |&n| hasher.hash_one(&entry_of(n).id));
            }
        }
        let entry = Entry { id, offset, timestamp_micros };
        self.budget.add(&entry);
        if self.entries.len() == self.entries.capacity() {
            // Grows by a quarter; a deque would double its capacity.
            self.entries.reserve_exact(self.entries.len() / 4 + 64);
        }
        self.entries.push_back(entry);
        let oldest = self.newest.saturating_sub(self.span_micros);
        while self.entries.front().is_some_and(|entry| entry.timestamp_micros < oldest) {
            self.forget_first();
        }
        while self.budget.used() > self.budget.limit && self.entries.len() > 1 {
            self.forget_first();
            self.forgotten += 1;
        }
    }

    fn forget_first(&mut self) {
        let first = self.first;
        let hash = self.hasher.hash_one(&self.entries[0].id);
        if let Ok(occupied) = self.numbers.find_entry(hash, |&n| n == first) {
            occupied.remove();
        }
        if let Some(entry) = self.entries.pop_front() {
            self.budget.remove(&entry);
            self.first = first.wrapping_add(1);
        }
    }

    /// Returns the number of ids that were dropped for lack of memory since the last call.
    pub(crate) const fn take_forgotten(&mut self) -> u64 {
        std::mem::replace(&mut self.forgotten, 0)
    }
}

impl Drop for DedupeWindow {
    fn drop(&mut self) {
        self.entries.iter().for_each(|entry| self.budget.remove(entry));
    }
}

#[cfg(test)]
#[path = "dedupe_tests.rs"]
mod tests;
