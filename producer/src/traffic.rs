//! Mixes duplicates, late events and undecodable records into the new events, as real topics hold
//! them. Pure, like the generator.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::encoder::Poison;
use crate::event::{Event, TimestampMicros};
use crate::generator::Generator;

/// Number of the latest events that a duplicate is chosen from: small enough that a batch of the
/// consumer often holds both copies, large enough that it sometimes does not.
const DUPLICATE_WINDOW: usize = 10_000;

/// Range of time by which a late event is antedated, µs: from an hour to a week.
const LATENESS_MICROS: std::ops::RangeInclusive<i64> = 3_600_000_000..=7 * 86_400_000_000;

/// Ratios of unusual records, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrafficMix {
    /// Ratio of all records that repeat an earlier event.
    pub duplicates: f64,
    /// Ratio of all records that cannot be decoded.
    pub poison: f64,
    /// Ratio of the new events with a much older `event_timestamp`.
    pub late: f64,
}

/// One record to publish.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrafficRecord {
    /// Event to encode.
    pub event: Event,
    /// Corruption to apply to the encoded bytes, if any.
    pub poison: Option<Poison>,
}

/// Endless sequence of records.
#[derive(Clone, Debug)]
pub struct Traffic {
    generator: Generator,
    mix: TrafficMix,
    /// Separate from the generator's random numbers, so that a seed gives the same events under any
    /// mix.
    random: Xoshiro256PlusPlus,
    /// The latest events, used as a ring buffer; empty when nothing is duplicated.
    recent: Vec<Event>,
    oldest: usize,
}

impl Traffic {
    /// Creates a sequence that depends only on `seed`, `mix` and the times passed to
    /// [`Self::record`].
    #[must_use]
    pub fn new(seed: u64, mix: TrafficMix) -> Self {
        Self {
            generator: Generator::new(seed),
            mix,
            random: Xoshiro256PlusPlus::seed_from_u64(!seed),
            recent: Vec::new(),
            oldest: 0,
        }
    }

    /// Returns the next record, created at `now`.
    pub fn record(&mut self, now: TimestampMicros) -> TrafficRecord {
        if self.mix == TrafficMix::default() {
            return TrafficRecord { event: self.generator.event(now), poison: None };
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

    fn poisoned(&mut self, now: TimestampMicros) -> TrafficRecord {
        let kind = self.random.random_range(0..Poison::ALL.len());
        TrafficRecord { event: self.generator.event(now), poison: Some(Poison::ALL[kind]) }
    }

    fn duplicate(&mut self) -> TrafficRecord {
        let which = self.random.random_range(0..self.recent.len());
        TrafficRecord { event: self.recent[which], poison: None }
    }

    fn new_event(&mut self, now: TimestampMicros) -> TrafficRecord {
        let mut event = self.generator.event(now);
        if self.random.random_bool(self.mix.late) {
            event.event_timestamp.0 -= self.random.random_range(LATENESS_MICROS);
        }
        self.remember(event);
        TrafficRecord { event, poison: None }
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

    fn records(mix: TrafficMix, count: usize) -> Vec<TrafficRecord> {
        let mut traffic = Traffic::new(5, mix);
        (0..count).map(|_| traffic.record(NOW)).collect()
    }

    /// Tolerates a random deviation of half a percent of 100,000 records.
    fn assert_about(count: usize, ratio: f64) {
        let share = f64::from(u32::try_from(count).expect("small")) / 100_000.0;
        assert!((share - ratio).abs() < 0.005, "share {share} instead of {ratio}");
    }

    #[test]
    fn each_kind_of_record_has_its_ratio() {
        let mix = TrafficMix { duplicates: 0.2, poison: 0.1, late: 0.3 };
        let records = records(mix, 100_000);
        let mut times_sent = HashMap::new();
        for record in records.iter().filter(|record| record.poison.is_none()) {
            *times_sent.entry(record.event.event_id).or_insert(0_usize) += 1;
        }
        let late = |record: &&TrafficRecord| record.event.event_timestamp.0 < NOW.0 - 3_600_000_000;
        assert_about(records.iter().filter(|record| record.poison.is_some()).count(), 0.1);
        assert_about(times_sent.values().map(|times| times - 1).sum(), 0.2);
        // Late events are three in ten of everything that is not poison: a duplicate is as late as
        // its original.
        assert_about(records.iter().filter(late).count(), 0.27);
    }

    #[test]
    fn every_kind_of_poison_is_used() {
        let records = records(TrafficMix { poison: 1.0, ..TrafficMix::default() }, 100);
        for poison in Poison::ALL {
            assert!(records.iter().any(|record| record.poison == Some(poison)), "{poison:?}");
        }
    }

    #[test]
    fn a_duplicate_equals_its_original() {
        let mut originals = HashMap::new();
        for record in
            records(TrafficMix { duplicates: 0.5, late: 0.5, ..TrafficMix::default() }, 10_000)
        {
            let original = *originals.entry(record.event.event_id).or_insert(record.event);
            assert_eq!(record.event, original);
        }
    }

    #[test]
    fn a_mix_changes_the_order_but_not_the_events_of_a_seed() {
        let plain = records(TrafficMix::default(), 1000);
        let mixed = records(TrafficMix { duplicates: 0.3, ..TrafficMix::default() }, 1000);
        let mut seen = std::collections::HashSet::new();
        let first_sent = mixed.iter().filter(|record| seen.insert(record.event.event_id));
        for (mixed, plain) in first_sent.zip(&plain) {
            assert_eq!(mixed, plain);
        }
    }
}
