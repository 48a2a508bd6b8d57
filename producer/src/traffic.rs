//! Mixes what real topics hold besides new events: duplicates, late events, bytes nobody can
//! decode. Pure, like the generator.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::encoder::Poison;
use crate::event::{Event, TimestampMicros};
use crate::generator::Generator;

/// How many of the latest events a duplicate is chosen from: near enough that a consumer's batch
/// often holds both, far enough that it sometimes does not.
const DUPLICATE_WINDOW: usize = 10_000;

/// A late event happened this much earlier than it would have, µs: from an hour to a week.
const LATENESS_MICROS: std::ops::RangeInclusive<i64> = 3_600_000_000..=7 * 86_400_000_000;

/// Which part of the records is out of the ordinary; each a ratio from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mix {
    /// Of all records: events sent before, sent once more.
    pub duplicates: f64,
    /// Of all records: bytes that cannot be decoded.
    pub poison: f64,
    /// Of the new events: those with a much older `event_timestamp`.
    pub late: f64,
}

/// One record to publish.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// What to encode.
    pub event: Event,
    /// How to spoil the bytes afterwards, if at all.
    pub poison: Option<Poison>,
}

/// An endless sequence of records.
#[derive(Clone, Debug)]
pub struct Traffic {
    generator: Generator,
    mix: Mix,
    /// Apart from the generator's, so that a seed means the same events under any mix.
    random: Xoshiro256PlusPlus,
    /// The latest events, the oldest overwritten first; stays empty when nothing is duplicated.
    recent: Vec<Event>,
    oldest: usize,
}

impl Traffic {
    /// Records that depend on `seed`, `mix` and the times they are made at, on nothing else.
    #[must_use]
    pub fn new(seed: u64, mix: Mix) -> Self {
        Self {
            generator: Generator::new(seed),
            mix,
            random: Xoshiro256PlusPlus::seed_from_u64(!seed),
            recent: Vec::new(),
            oldest: 0,
        }
    }

    /// The next record, made at `now`.
    pub fn record(&mut self, now: TimestampMicros) -> Record {
        if self.mix == Mix::default() {
            return Record { event: self.generator.event(now), poison: None };
        }
        let draw: f64 = self.random.random();
        if draw < self.mix.poison {
            self.poisoned(now)
        } else if draw < self.mix.poison + self.mix.duplicates && !self.recent.is_empty() {
            self.duplicate()
        } else {
            self.new_event(now)
        }
    }

    fn poisoned(&mut self, now: TimestampMicros) -> Record {
        let kind = self.random.random_range(0..Poison::ALL.len());
        Record { event: self.generator.event(now), poison: Some(Poison::ALL[kind]) }
    }

    fn duplicate(&mut self) -> Record {
        let which = self.random.random_range(0..self.recent.len());
        Record { event: self.recent[which], poison: None }
    }

    fn new_event(&mut self, now: TimestampMicros) -> Record {
        let mut event = self.generator.event(now);
        if self.random.random_bool(self.mix.late) {
            event.event_timestamp.0 -= self.random.random_range(LATENESS_MICROS);
        }
        self.remember(event);
        Record { event, poison: None }
    }

    fn remember(&mut self, event: Event) {
        if self.mix.duplicates <= 0.0 {
            return;
        }
        if self.recent.len() < DUPLICATE_WINDOW {
            self.recent.push(event);
        } else {
            self.recent[self.oldest] = event;
            self.oldest = (self.oldest + 1) % DUPLICATE_WINDOW;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const NOW: TimestampMicros = TimestampMicros(1_767_225_600_000_000);

    fn records(mix: Mix, count: usize) -> Vec<Record> {
        let mut traffic = Traffic::new(5, mix);
        (0..count).map(|_| traffic.record(NOW)).collect()
    }

    /// Out of 100,000, half a percent more or less is chance.
    fn assert_about(count: usize, ratio: f64) {
        let share = f64::from(u32::try_from(count).expect("small")) / 100_000.0;
        assert!((share - ratio).abs() < 0.005, "share {share} instead of {ratio}");
    }

    #[test]
    fn each_kind_comes_by_its_ratio() {
        let mix = Mix { duplicates: 0.2, poison: 0.1, late: 0.3 };
        let records = records(mix, 100_000);
        let mut times_sent = HashMap::new();
        for record in records.iter().filter(|record| record.poison.is_none()) {
            *times_sent.entry(record.event.event_id).or_insert(0_usize) += 1;
        }
        let late = |record: &&Record| record.event.event_timestamp.0 < NOW.0 - 3_600_000_000;
        assert_about(records.iter().filter(|record| record.poison.is_some()).count(), 0.1);
        assert_about(times_sent.values().map(|times| times - 1).sum(), 0.2);
        // Late are three in ten of everything that is not poison: a duplicate is as late as its
        // original.
        assert_about(records.iter().filter(late).count(), 0.27);
    }

    #[test]
    fn every_way_to_spoil_a_record_is_used() {
        let records = records(Mix { poison: 1.0, ..Mix::default() }, 100);
        for poison in Poison::ALL {
            assert!(records.iter().any(|record| record.poison == Some(poison)), "{poison:?}");
        }
    }

    #[test]
    fn a_duplicate_equals_its_original_to_the_byte() {
        let mut originals = HashMap::new();
        for record in records(Mix { duplicates: 0.5, late: 0.5, ..Mix::default() }, 10_000) {
            let original = *originals.entry(record.event.event_id).or_insert(record.event);
            assert_eq!(record.event, original);
        }
    }

    #[test]
    fn a_mix_changes_the_order_but_not_the_events_of_a_seed() {
        let plain = records(Mix::default(), 1000);
        let mixed = records(Mix { duplicates: 0.3, ..Mix::default() }, 1000);
        let mut seen = std::collections::HashSet::new();
        let first_sent = mixed.iter().filter(|record| seen.insert(record.event.event_id));
        for (mixed, plain) in first_sent.zip(&plain) {
            assert_eq!(mixed, plain);
        }
    }
}
