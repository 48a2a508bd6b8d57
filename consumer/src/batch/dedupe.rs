//! Repeats: which records have the id of a row that came shortly before. Pure.
//!
//! The rule is [`ducktide_protocol::dedupe`]'s, and the window here is only what the lake would say,
//! remembered. It is built from the lake whenever a partition begins, and goes when the partition's
//! reading does: ids of rows that never arrived, or that a replay took out, must not linger, or the
//! same records read again would all be taken for repeats.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ducktide_protocol::dedupe::{EventId, RecentRow};
use hashbrown::{DefaultHashBuilder, HashTable};

/// What remembering one id takes, bytes, beside those of a text: an entry, its share of the table, and
/// of the room in which both grow. Measured as a process' peak memory: 95, of 2 million ids in 8
/// partitions.
pub(crate) const BYTES_PER_ID: usize = 96;

/// What repeats are known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DedupeRule {
    /// The column of the ids.
    pub(crate) column: String,
    /// How much older than the newest row, microseconds of Kafka's time.
    pub(crate) span_micros: i64,
}

/// The memory for ids that all windows of a worker share.
#[derive(Debug)]
pub(crate) struct IdBudget {
    limit: usize,
    used: AtomicUsize,
    ids: AtomicUsize,
    /// Whether it was told that ids find no room.
    is_shortage_reported: AtomicBool,
}

impl IdBudget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: 0.into(), ids: 0.into(), is_shortage_reported: false.into() })
    }

    /// How many ids fit, if they are short.
    pub(crate) const fn ids_at_most(&self) -> usize {
        self.limit / BYTES_PER_ID
    }

    /// How many ids are remembered.
    pub(crate) fn ids(&self) -> usize {
        self.ids.load(Ordering::Relaxed)
    }

    /// The bytes that they take.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether this is the first time that ids found no room.
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
    offset: i64,
    timestamp_micros: i64,
}

impl Entry {
    const fn cost(&self) -> usize {
        BYTES_PER_ID + self.id.heap_bytes()
    }
}

/// The rows of one partition that its next record may repeat.
#[derive(Debug)]
pub(crate) struct DedupeWindow {
    span_micros: i64,
    /// The newest timestamp of a row so far.
    newest: i64,
    /// In the order of offsets.
    entries: VecDeque<Entry>,
    /// The number of the first entry; the others' follow, and wrap around.
    first: u32,
    /// The numbers of entries, by id; where several have one, the last.
    numbers: HashTable<u32>,
    hasher: DefaultHashBuilder,
    budget: Arc<IdBudget>,
    /// How many ids the budget had no room for, since that was asked last.
    forgotten: u64,
}

impl DedupeWindow {
    /// The window after these rows, which are in the order of offsets. `now` is the present: a
    /// timestamp in the future counts as that, lest one broken clock makes all other rows old.
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
            window.remember(row.id, row.offset.0, row.timestamp_micros.min(now));
        }
        window
    }

    /// Whether a record repeats a row. Of one without an id or a timestamp nobody can say.
    pub(crate) fn is_duplicate(&self, id: &EventId, offset: i64, timestamp_micros: i64) -> bool {
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

    /// Takes note of a row, and forgets those that no record to come can repeat.
    pub(crate) fn remember(&mut self, id: EventId, offset: i64, timestamp_micros: i64) {
        self.newest = self.newest.max(timestamp_micros);
        let hash = self.hasher.hash_one(&id);
        let length = u32::try_from(self.entries.len()).expect("the budget has no room for so many");
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
            // A quarter, where a deque by itself takes as much again.
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

    /// How many ids there was no room for since this was asked last.
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
