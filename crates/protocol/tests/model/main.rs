//! A model of the commit protocol, explored exhaustively.
//!
//! Two workers and two partitions, with everything that may go wrong at every step: a COMMIT that
//! arrives late, twice or never, an answer that is lost, a worker that dies, that sleeps while its
//! partitions go to the other, or that cannot reach the catalog, an operator who replays. In every
//! state that can be reached the predicates of `ducktide_protocol::invariants` hold, and from every one
//! of them all records get in once the disturbances end.
//!
//! What a worker decides after a COMMIT is no model but `ducktide_protocol::standing`, which
//! `transaction` calls; [`worker`] and [`catalog`] say what the rest stands for. A last test tells
//! the ways in which designs that look simpler go wrong: if the model finds none, it is the model
//! that is wrong.
//!
//! How far it goes is in [`design`]: 800,000 states with two records in each partition and any two
//! disturbances, 2.4 million with two records and one and any three.
//!
//! Not in it, because other tests have them: alterations of the table, dead letters, the compactor,
//! files that are not durable, and the locks, on which correctness never depends.

#![expect(clippy::print_stdout, reason = "the tests print what they explored and found")]

mod action;
mod calm;
mod catalog;
mod design;
mod properties;
mod protocol;
mod reading;
mod system;
mod worker;

use design::Content::{Row, Tombstone};
use design::{Bounds, Content, Design, Flaw, PARTITIONS, TWO_AND_ONE, TWO_AND_TWO};
use protocol::{Protocol, counterexample, explore, shortest_way};
use reading::{Oversight, Reading};

fn guarantee(logs: [&'static [Content]; PARTITIONS], disturbances: u8) -> Protocol {
    Protocol::new(Design::DUCKTIDE, Bounds { logs, disturbances }, properties::guarantee)
}

/// Looks for a way in which a flawed design breaks the guarantee.
fn broken(flaws: &'static [Flaw], property: &'static str) -> String {
    let bounds = Bounds { logs: TWO_AND_ONE, disturbances: 2 };
    let protocol = Protocol::new(Design::with(flaws), bounds, properties::guarantee);
    counterexample(&protocol, property)
}

/// Looks for a way in which an oversight loses a record between librdkafka and the batcher.
fn lost_while_reading(oversight: Oversight) {
    let way = shortest_way(&Reading { oversight }, "no_loss").into_actions();
    println!("{oversight:?}: {way:?}");
}

#[test]
fn nothing_is_lost_or_doubled_whatever_two_disturbances_happen() {
    explore("two and two records, two disturbances", guarantee(TWO_AND_TWO, 2));
}

#[test]
fn nothing_is_lost_or_doubled_whatever_three_disturbances_happen() {
    explore("two records and one, three disturbances", guarantee(TWO_AND_ONE, 3));
}

#[test]
#[ignore = "takes minutes"]
fn nothing_is_lost_or_doubled_whatever_three_disturbances_happen_to_more_records() {
    explore("two and two records, three disturbances", guarantee(TWO_AND_TWO, 3));
}

#[test]
fn every_situation_that_the_guarantee_is_about_is_reached() {
    let bounds = Bounds { logs: TWO_AND_TWO, disturbances: 2 };
    let protocol = Protocol::new(Design::DUCKTIDE, bounds, properties::situations);
    explore("situations", protocol);
}

#[test]
fn everything_gets_in_once_the_disturbances_end() {
    let bounds = Bounds { logs: TWO_AND_ONE, disturbances: 2 };
    let protocol = Protocol::new(Design::DUCKTIDE, bounds, properties::recovery);
    explore("recovery from everywhere", protocol);
}

/// A worker is fenced by its own next commit. One that has nothing to commit looks at progress now
/// and then; otherwise the replayed records would stay out until the partition's next record.
#[test]
fn an_idle_worker_learns_of_a_replay_without_a_commit() {
    let bounds = Bounds { logs: TWO_AND_ONE, disturbances: 1 };
    let protocol = Protocol::new(Design::DUCKTIDE, bounds, properties::recovery);
    explore("a replay needs no more records", protocol);

    let bounds = Bounds { logs: TWO_AND_ONE, disturbances: 1 };
    let blind = Design::with(&[Flaw::NeverLooks]);
    let told = counterexample(
        &Protocol::new(blind, bounds, properties::recovery),
        "everything gets in without more records",
    );
    assert!(told.contains("an operator replays"), "{told}");
}

#[test]
fn an_undisturbed_worker_is_never_fenced() {
    let bounds = Bounds { logs: TWO_AND_TWO, disturbances: 0 };
    explore("no disturbance", Protocol::new(Design::DUCKTIDE, bounds, properties::calm));
}

#[test]
fn idle_progress_sent_as_a_skip_would_fence_the_workers_own_next_batch() {
    let bounds = Bounds { logs: [&[Tombstone, Row], &[]], disturbances: 0 };
    let design = Design::with(&[Flaw::IdleProgressIsSkip]);

    let protocol = Protocol::new(design, bounds, properties::calm);

    counterexample(&protocol, "an undisturbed worker is never fenced");
}

#[test]
fn without_the_compare_and_swap_a_zombie_doubles_rows() {
    let told = broken(&[Flaw::NoCompareAndSwap], "no_duplicate");

    assert!(told.contains("whose owner does not know yet"), "{told}");
}

#[test]
fn with_delete_on_error_a_lost_reply_loses_rows() {
    let told = broken(&[Flaw::DeletesOnError], "no_loss");

    assert!(told.contains("breaks without an answer"), "{told}");
    broken(&[Flaw::DeletesOnError], "no_live_file_is_missing");
}

#[test]
fn without_epochs_a_replay_lets_an_old_commit_in() {
    let told = broken(&[Flaw::NoEpochs], "epoch_and_offset_move_only_by_cas");

    assert!(told.contains("an operator replays"), "{told}");
}

#[test]
fn without_epochs_and_the_once_trigger_a_resend_after_a_replay_registers_a_file_twice() {
    let flaws = &[Flaw::NoEpochs, Flaw::NoOnceTrigger];

    let told = broken(flaws, "no_file_registered_twice");

    assert!(told.contains("an operator replays"), "{told}");
}

#[test]
fn a_gap_in_the_ledger_is_a_gap_in_the_topic() {
    explore("reading", Reading { oversight: Oversight::None });
}

#[test]
fn without_generations_records_of_an_earlier_reading_leave_a_gap() {
    lost_while_reading(Oversight::NoGenerations);
}

#[test]
fn without_a_second_look_stale_records_leave_a_gap() {
    lost_while_reading(Oversight::NoSecondLook);
}
