//! Changes of the number of batchers, without threads.

use super::*;
use crate::clock::Clock;

const SECOND: Duration = Duration::from_secs(1);

/// Records a batch of each second, with this load. Returns the changes, each with its second.
fn record(
    spread: &mut BatcherSpread,
    from: Instant,
    seconds: std::ops::Range<u32>,
    load: f64,
) -> Vec<(u32, usize)> {
    let mut changes = Vec::new();
    for second in seconds {
        let cut = from + SECOND * second;
        spread.record_batch(cut, SECOND.mul_f64(load), false);
        if let Some(used) = spread.wanted() {
            spread.change_to(used);
            changes.push((second, used));
        }
    }
    changes
}

#[test]
fn all_batchers_are_used_until_fewer_were_enough_for_the_quiet_time() {
    let (mut spread, now) = (BatcherSpread::new(4, FIRST_QUIET_TIME), Clock::manual().now());
    assert_eq!((spread.used(), spread.shares()), (4, 1));

    assert_eq!(record(&mut spread, now, 0..30, 0.01), [(11, 1)]);

    assert_eq!((spread.used(), spread.shares()), (1, 4));
}

#[test]
fn the_number_follows_from_the_highest_load_of_the_quiet_time() {
    let (mut spread, now) = (BatcherSpread::new(4, FIRST_QUIET_TIME), Clock::manual().now());
    record(&mut spread, now, 0..5, 0.1);
    record(&mut spread, now, 5..6, 0.5);

    assert_eq!(record(&mut spread, now, 6..30, 0.1), [(11, 2), (22, 1)]);
}

#[test]
fn busy_or_full_batchers_are_joined_by_all_others() {
    let (mut spread, now) = (BatcherSpread::new(4, FIRST_QUIET_TIME), Clock::manual().now());
    record(&mut spread, now, 0..20, 0.01);
    assert_eq!(record(&mut spread, now, 20..21, 0.5), []);
    assert_eq!(record(&mut spread, now, 21..22, 0.7), [(21, 4)]);

    // The reduction was wrong: the next one takes twice as long.
    assert_eq!(record(&mut spread, now, 22..60, 0.01), [(42, 1)]);
    spread.record_batch(now + SECOND * 60, Duration::ZERO, true);
    assert_eq!(spread.wanted(), Some(4));
}

#[test]
fn a_load_that_needs_all_batchers_changes_nothing() {
    let (mut spread, now) = (BatcherSpread::new(2, FIRST_QUIET_TIME), Clock::manual().now());

    assert_eq!(record(&mut spread, now, 0..60, 0.5), []);
    assert_eq!(record(&mut BatcherSpread::new(1, FIRST_QUIET_TIME), now, 0..60, 2.0), []);
}

#[test]
fn partitions_are_spread_evenly_whatever_their_numbers() {
    let mut spread = BatcherSpread::new(2, FIRST_QUIET_TIME);
    let at = |number| TopicPartition::new("events", number);

    assert_eq!([0, 2, 4, 6].map(|number| spread.assign(&at(number))), [0, 1, 0, 1]);

    spread.remove(&[at(0), at(4)]);
    assert_eq!([8, 10].map(|number| spread.assign(&at(number))), [0, 0]);
    assert_eq!(spread.assign(&at(8)), 0, "a partition that is started again is not counted twice");

    spread.change_to(1);
    assert_eq!([0, 2, 4].map(|number| spread.assign(&at(number))), [0, 0, 0]);
}
