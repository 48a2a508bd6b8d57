//! Cuts, partial batches and commits of the worker, without threads.

use ducktide_protocol::commit::{Counts, ProgressDelta};
use ducktide_protocol::position::{Epoch, Offset, OffsetRange, Partition, SourceId};

use super::*;
use crate::clock::Clock;

const SECOND: Duration = Duration::from_secs(1);

fn cycle() -> (BatchCycle, Instant) {
    (BatchCycle::new(SECOND, 2), Clock::manual().now())
}

/// Returns a partial batch with progress and without rows.
fn progress() -> PartialBatch {
    let delta = ProgressDelta {
        source: SourceId(1),
        partition: Partition(0),
        epoch: Epoch(0),
        range: OffsetRange { from: Offset(0), to: Offset(3) },
        counts: Counts { gaps: 3, ..Counts::default() },
    };
    PartialBatch { progress: vec![delta], ..PartialBatch::default() }
}

/// Cuts a batch and lets its commit wait for the ids of two topics, by query 7.
fn identifying() -> (BatchCycle, Instant) {
    let (mut cycle, now) = cycle();
    cycle.request_flush();
    assert_eq!(cycle.next_action(now), FlushAction::Cut(1, FlushTrigger::Demand));
    assert!(cycle.add_partial_batch(1, progress()).is_none());
    let commit = cycle.add_partial_batch(1, PartialBatch::default()).expect("progress");
    cycle.identify(commit, ["a".into(), "b".into()].into(), 7, now);
    (cycle, now)
}

fn committing() -> (BatchCycle, Instant) {
    let (mut cycle, now) = identifying();
    assert!(cycle.identified("a", 7).is_none());
    assert!(cycle.identified("b", 7).is_some());
    (cycle, now)
}

#[test]
fn an_empty_batch_is_never_cut() {
    let (mut cycle, now) = cycle();

    assert_eq!(cycle.next_action(now), FlushAction::Wait(None));
}

#[test]
fn a_batch_is_cut_an_interval_after_the_cut_before_it() {
    let (mut cycle, cut) = committing();
    cycle.end_commit();
    cycle.batch_opened(cut + SECOND / 2);
    cycle.batch_opened(cut + SECOND / 2 + SECOND / 4);

    let due = cut + SECOND;
    assert_eq!(cycle.next_action(cut + SECOND * 99 / 100), FlushAction::Wait(Some(due)));
    assert_eq!(cycle.next_action(due), FlushAction::Cut(2, FlushTrigger::Age));
}

#[test]
fn a_batch_after_a_time_without_records_is_cut_after_a_tenth_of_the_interval() {
    let (mut cycle, cut) = committing();
    cycle.end_commit();
    let opened = cut + SECOND * 5;
    cycle.batch_opened(opened);

    let due = opened + SECOND / 10;
    assert_eq!(cycle.next_action(opened), FlushAction::Wait(Some(due)));
    assert_eq!(cycle.next_action(due), FlushAction::Cut(2, FlushTrigger::Age));
}

#[test]
fn the_first_batch_is_cut_after_a_tenth_of_the_interval() {
    let (mut cycle, now) = cycle();
    cycle.batch_opened(now);

    assert_eq!(cycle.next_action(now + SECOND / 10), FlushAction::Cut(1, FlushTrigger::Age));
}

#[test]
fn a_full_batch_is_cut_at_once() {
    let (mut cycle, now) = cycle();
    cycle.batch_opened(now);
    cycle.batch_full();

    assert_eq!(cycle.next_action(now), FlushAction::Cut(1, FlushTrigger::Full));
}

#[test]
fn a_cut_without_progress_makes_no_commit() {
    let (mut cycle, now) = cycle();
    cycle.request_flush();
    assert_eq!(cycle.next_action(now), FlushAction::Cut(1, FlushTrigger::Demand));

    assert!(cycle.add_partial_batch(1, PartialBatch::default()).is_none());
    assert!(!cycle.is_idle());
    assert!(cycle.add_partial_batch(1, PartialBatch::default()).is_none());
    assert!(cycle.is_idle());
}

#[test]
fn a_commit_is_sent_when_all_topics_are_identified_after_the_cut() {
    let (mut cycle, _) = identifying();

    assert!(cycle.identified("a", 6).is_none(), "an answer from before the cut");
    assert!(cycle.identified("a", 7).is_none());
    assert!(cycle.identified("a", 7).is_none());
    assert!(cycle.identified("b", 7).is_some());
    assert!(cycle.identified("b", 7).is_none(), "it is sent once");
    assert!(cycle.is_committing() && !cycle.is_idle());
}

#[test]
fn the_next_batch_waits_for_the_commit_before_it() {
    let (mut cycle, now) = committing();
    cycle.batch_opened(now);
    cycle.batch_full();
    assert_eq!(cycle.next_action(now), FlushAction::Wait(None));

    cycle.end_commit();

    assert_eq!(cycle.next_action(now), FlushAction::Cut(2, FlushTrigger::Full));
}

#[test]
fn a_reset_drops_a_commit_that_was_not_sent_and_keeps_one_that_was() {
    let (mut cycle, _) = identifying();
    cycle.reset();
    assert!(cycle.identified("a", 7).is_none() && cycle.identified("b", 7).is_none());
    assert!(cycle.is_idle());

    let (mut cycle, _) = committing();
    cycle.reset();
    assert!(cycle.is_committing());
}

#[test]
fn partial_batches_from_before_a_reset_are_ignored() {
    let (mut cycle, now) = cycle();
    cycle.request_flush();
    assert_eq!(cycle.next_action(now), FlushAction::Cut(1, FlushTrigger::Demand));
    cycle.reset();
    cycle.request_flush();
    assert_eq!(cycle.next_action(now), FlushAction::Cut(3, FlushTrigger::Demand));

    assert!(cycle.add_partial_batch(1, progress()).is_none());
    assert!(cycle.add_partial_batch(1, progress()).is_none());
    assert!(!cycle.is_idle());
}

#[test]
fn a_commit_that_takes_long_is_stuck_until_it_ends() {
    let (mut cycle, now) = committing();
    assert_eq!(cycle.readiness(now + STUCK_AFTER), Ok(()));
    assert!(cycle.readiness(now + STUCK_AFTER * 2).unwrap_err().contains("20 s"));

    cycle.end_commit();

    assert_eq!(cycle.readiness(now + STUCK_AFTER * 2), Ok(()));
}
