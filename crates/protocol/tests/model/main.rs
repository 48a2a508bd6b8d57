//! Model of the commit protocol, explored exhaustively.
//!
//! Two workers and two partitions, with every failure at every step: a COMMIT that arrives late, twice
//! or never, a lost answer, a worker that crashes, that is paused while its partitions move to the
//! other, or that cannot reach the catalog, an operator's replay. In every reachable state the
//! predicates of `ducktide_protocol::invariants` hold, and from every state all records are committed
//! once the disturbances end.
//!
//! The decision after a COMMIT is not modelled: it is the code of `ducktide_protocol::commit_state` that
//! `transaction` calls; [`worker`] and [`catalog`] map the rest to the programs. Other tests find the
//! counterexamples of simpler designs, which shows that the model can find one.
//!
//! Bounds are in [`design`]: 800,000 states with two records in each partition and any two
//! disturbances, 2.4 million with two records and one and any three.
//!
//! Not modelled, because other tests cover them: alterations of the table, dead letters, the compactor,
//! files that are not durable, and the locks, on which correctness does not depend.

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
use design::{Bounds, Content, Design, Omission, PARTITIONS, TWO_AND_ONE, TWO_AND_TWO};
use protocol::{Protocol, counterexample, explore, shortest_path};
use reading::{Oversight, Reading};

fn guarantee(logs: [&'static [Content]; PARTITIONS], disturbances: u8) -> Protocol {
    Protocol::new(Design::DUCKTIDE, Bounds { logs, disturbances }, properties::guarantee)
}

/// Finds a counterexample of an incomplete design.
fn broken(omissions: &'static [Omission], property: &'static str) -> String {
    let bounds = Bounds { logs: TWO_AND_ONE, disturbances: 2 };
    let protocol = Protocol::new(Design::with(omissions), bounds, properties::guarantee);
    counterexample(&protocol, property)
}

/// Finds a counterexample in which an omission loses a record between librdkafka and the batcher.
fn lost_while_reading(oversight: Oversight) {
    let path = shortest_path(&Reading { oversight }, "no_loss").into_actions();
    println!("{oversight:?}: {path:?}");
}

#[test]
fn no_loss_and_no_duplicate_with_two_disturbances() {
    explore("two and two records, two disturbances", guarantee(TWO_AND_TWO, 2));
}

#[test]
fn no_loss_and_no_duplicate_with_three_disturbances() {
    explore("two records and one, three disturbances", guarantee(TWO_AND_ONE, 3));
}

#[test]
#[ignore = "takes minutes"]
fn no_loss_and_no_duplicate_with_three_disturbances_and_more_records() {
    explore("two and two records, three disturbances", guarantee(TWO_AND_TWO, 3));
}

#[test]
fn every_situation_of_the_guarantee_is_reached() {
    let bounds = Bounds { logs: TWO_AND_TWO, disturbances: 2 };
    let protocol = Protocol::new(Design::DUCKTIDE, bounds, properties::situations);
    explore("situations", protocol);
}

#[test]
fn everything_is_committed_once_the_disturbances_end() {
    let bounds = Bounds { logs: TWO_AND_ONE, disturbances: 2 };
    let protocol = Protocol::new(Design::DUCKTIDE, bounds, properties::recovery);
    explore("recovery from every state", protocol);
}

/// A worker is fenced at its next commit. One without records to commit polls progress; otherwise the
/// replayed records would be missing until the partition's next record.
#[test]
fn an_idle_worker_detects_a_replay_without_a_commit() {
    let bounds = Bounds { logs: TWO_AND_ONE, disturbances: 1 };
    let protocol = Protocol::new(Design::DUCKTIDE, bounds, properties::recovery);
    explore("a replay needs no more records", protocol);

    let bounds = Bounds { logs: TWO_AND_ONE, disturbances: 1 };
    let without_polling = Design::with(&[Omission::NeverPollsProgress]);
    let trace = counterexample(
        &Protocol::new(without_polling, bounds, properties::recovery),
        "everything is committed without more records",
    );
    assert!(trace.contains("an operator replays"), "{trace}");
}

#[test]
fn an_undisturbed_worker_is_never_fenced() {
    let bounds = Bounds { logs: TWO_AND_TWO, disturbances: 0 };
    explore("no disturbance", Protocol::new(Design::DUCKTIDE, bounds, properties::calm));
}

#[test]
fn idle_progress_sent_as_a_skip_would_fence_the_workers_own_next_batch() {
    let bounds = Bounds { logs: [&[Tombstone, Row], &[]], disturbances: 0 };
    let design = Design::with(&[Omission::IdleProgressIsSkip]);

    let protocol = Protocol::new(design, bounds, properties::calm);

    counterexample(&protocol, "an undisturbed worker is never fenced");
}

#[test]
fn without_the_compare_and_swap_a_zombie_duplicates_rows() {
    let trace = broken(&[Omission::NoCompareAndSwap], "no_duplicate");

    assert!(trace.contains("whose owner is not notified yet"), "{trace}");
}

#[test]
fn with_delete_on_error_a_lost_reply_loses_rows() {
    let trace = broken(&[Omission::DeletesOnError], "no_loss");

    assert!(trace.contains("breaks without an answer"), "{trace}");
    broken(&[Omission::DeletesOnError], "no_live_file_is_missing");
}

#[test]
fn without_epochs_an_old_commit_is_applied_after_a_replay() {
    let trace = broken(&[Omission::NoEpochs], "epoch_and_offset_move_only_by_cas");

    assert!(trace.contains("an operator replays"), "{trace}");
}

#[test]
fn without_epochs_and_the_once_trigger_a_resend_after_a_replay_registers_a_file_twice() {
    let omissions = &[Omission::NoEpochs, Omission::NoOnceTrigger];

    let trace = broken(omissions, "no_file_registered_twice");

    assert!(trace.contains("an operator replays"), "{trace}");
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
fn without_a_second_fetch_stale_records_leave_a_gap() {
    lost_while_reading(Oversight::NoSecondFetch);
}
