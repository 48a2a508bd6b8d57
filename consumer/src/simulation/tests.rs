//! Runs of the simulation.

use std::time::Duration;

use super::explore::{reduce, run, search};
use super::mutation::{self, Mutation};
use super::payload::Payload;
use super::schedule::{Action, Schedule, Setup};
use crate::clock::Clock;
use crate::source::kafka_config::GroupProtocol;

/// Number of schedules within which each planted defect must be found.
const SCHEDULES_FOR_A_DEFECT: u64 = 4000;

/// First seed of the schedules with planted defects.
const SEED_FOR_DEFECTS: u64 = 1;

/// Name of the variable with the first seed.
const SEED: &str = "DUCKTIDE_SIMULATION_SEED";
/// Names of the variables that limit a run: its length, and its number of schedules.
const SECONDS: &str = "DUCKTIDE_SIMULATION_SECONDS";
const SCHEDULES: &str = "DUCKTIDE_SIMULATION_SCHEDULES";

/// Default length of a run without a number of schedules.
const DEFAULT_SECONDS: u64 = 2;

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number: {text}")))
}

/// Runs a schedule, which must not fail.
fn check(schedule: &Schedule) {
    if let Err(violation) = run(schedule) {
        panic!("{violation}\n{}", schedule.as_test(&violation));
    }
}

fn fail(schedule: Schedule, violation: &str) -> ! {
    let seed = schedule.seed;
    let (reduced, found) = reduce(schedule);
    panic!(
        "{violation}\nreproduce with {SEED}={seed} {SECONDS}=1\nreduced: {found}\n{}",
        reduced.as_test(&found)
    );
}

#[test]
fn fresh_seeds_hold_the_guarantee() {
    let seed = number_of(SEED).unwrap_or_else(|| Clock::system().unix_micros().unsigned_abs());
    let schedules = number_of(SCHEDULES);
    let seconds = number_of(SECONDS).or(schedules.is_none().then_some(DEFAULT_SECONDS));
    println!("first seed: {SEED}={seed}");
    let time = seconds.map_or(Duration::MAX, Duration::from_secs);
    let found = search(seed, schedules.unwrap_or(u64::MAX), time);
    println!(
        "{} schedules in {:.1} s: {:.0} a second, each with {} faults, {} commits, {} steps",
        found.schedules,
        found.elapsed.as_secs_f64(),
        found.rate(),
        found.faults / found.schedules,
        found.commits / found.schedules,
        found.steps / found.schedules,
    );
    if let Some((schedule, violation)) = found.failure {
        fail(schedule, &violation);
    }
}

#[test]
fn fixed_seeds_hold_the_guarantee() {
    let found = search(1, 300, Duration::from_mins(1));
    if let Some((schedule, violation)) = found.failure {
        fail(schedule, &violation);
    }
}

#[test]
fn a_seed_repeats_its_run() {
    for seed in 1..20 {
        let schedule = Schedule::of_seed(seed);
        let (first, second) = (run(&schedule), run(&schedule));
        assert_eq!(format!("{first:?}"), format!("{second:?}"), "seed {seed}");
    }
}

/// The worker does not answer a revocation in time, and the group gives it the partition again before the
/// worker has handled the revocation.
#[test]
fn a_partition_that_is_assigned_again_during_its_revocation_is_read() {
    let setup = Setup {
        workers: 3,
        topics: 1,
        partitions: 4,
        batchers: 1,
        protocol: GroupProtocol::Classic,
        is_static: false,
        dedupes: false,
        flush_millis: 1000,
        flush_rows: 1000,
        in_flight_bytes: 4000,
    };
    let actions = vec![
        (2091, Action::Kill { worker: 0, restart_after: 100 }),
        (2226, Action::SlowThread { worker: 2, thread: 0, millis: 9000 }),
        (2815, Action::Produce { partition: 2, count: 1, payload: Payload::Row }),
        (2900, Action::Stop { worker: 1, restart_after: 10_000 }),
    ];
    check(&Schedule { seed: 400_109, setup, actions });
}

/// A load is retried while the lake is unavailable; a commit waits behind it when its partition is revoked.
#[test]
fn a_commit_behind_a_load_is_abandoned_with_its_partitions() {
    let setup = Setup {
        workers: 2,
        topics: 2,
        partitions: 2,
        batchers: 3,
        protocol: GroupProtocol::Consumer,
        is_static: false,
        dedupes: false,
        flush_millis: 5000,
        flush_rows: 1000,
        in_flight_bytes: 1_000_000,
    };
    let actions = vec![
        (736, Action::Kill { worker: 0, restart_after: 62 }),
        (2570, Action::Produce { partition: 3, count: 1, payload: Payload::Row }),
        (2750, Action::Stop { worker: 0, restart_after: 100 }),
        (9952, Action::Produce { partition: 2, count: 1, payload: Payload::Row }),
        (10_431, Action::Kill { worker: 1, restart_after: 10_000 }),
        (18_567, Action::LakeUnavailable { millis: 9000 }),
    ];
    check(&Schedule { seed: 400_001, setup, actions });
}

/// Finds a planted defect.
fn find(mutation: Mutation) {
    let found = mutation::with(mutation, || {
        search(SEED_FOR_DEFECTS, SCHEDULES_FOR_A_DEFECT, Duration::from_mins(5))
    });
    let (_, violation) = found
        .failure
        .unwrap_or_else(|| panic!("{mutation:?} was not found in {} schedules", found.schedules));
    println!(
        "{mutation:?}: {} schedules, {} ms: {violation}",
        found.schedules,
        found.elapsed.as_millis()
    );
}

macro_rules! planted_defects {
    ($($test:ident: $mutation:ident,)+) => {
        mod planted_defects {
            use super::*;

            $(
                #[test]
                fn $test() {
                    find(Mutation::$mutation);
                }
            )+
        }
    };
}

planted_defects! {
    stale_generation_accepted: StaleGenerationAccepted,
    no_reset_after_fence: NoResetAfterFence,
    batch_kept_after_table_changed: BatchKeptAfterTableChanged,
    revoked_before_commit: RevokedBeforeCommit,
    revoked_records_kept: RevokedRecordsKept,
    revoked_partition_not_forgotten: RevokedPartitionNotForgotten,
    progress_read_from_group: ProgressReadFromGroup,
    jump_accepted_at_once: JumpAcceptedAtOnce,
    off_by_one_accepted: OffByOneAccepted,
    outdated_load_accepted: OutdatedLoadAccepted,
    gap_at_end_accepted_at_once: GapAtEndAcceptedAtOnce,
    idle_end_before_decoding: IdleEndBeforeDecoding,
    resent_with_other_files: ResentWithOtherFiles,
    unknown_outcome_taken_as_committed: UnknownOutcomeTakenAsCommitted,
    window_survives_reset: WindowSurvivesReset,
    recent_rows_ignored: RecentRowsIgnored,
    dead_letter_counted_twice: DeadLetterCountedTwice,
    out_of_range_trusted_at_once: OutOfRangeTrustedAtOnce,
    zombie_trusted: ZombieTrusted,
    topic_id_not_checked: TopicIdNotChecked,
    epoch_not_compared: EpochNotCompared,
    part_of_old_cut_accepted: PartOfOldCutAccepted,
    registry_outage_taken_as_answer: RegistryOutageTakenAsAnswer,
    absence_not_confirmed: AbsenceNotConfirmed,
    owners_not_checked: OwnersNotChecked,
    dropped_run_stays_in_flight: DroppedRunStaysInFlight,
    batchers_changed_without_reset: BatchersChangedWithoutReset,
}

/// An earlier owner's late commit was recorded before Kafka reported that the records of the older position
/// are gone: the partition stayed stopped.
#[test]
fn a_partition_that_was_stopped_after_a_late_commit_is_read_again() {
    let setup = Setup {
        workers: 1,
        topics: 1,
        partitions: 4,
        batchers: 2,
        protocol: GroupProtocol::Classic,
        is_static: true,
        dedupes: false,
        flush_millis: 5000,
        flush_rows: 1000,
        in_flight_bytes: 1_000_000,
    };
    let actions = vec![
        (15413, Action::Produce { partition: 2, count: 19, payload: Payload::Row }),
        (17212, Action::LakeUnavailable { millis: 9000 }),
        (20931, Action::Produce { partition: 0, count: 1, payload: Payload::Row }),
        (21517, Action::Replace { worker: 0, millis: 1000 }),
        (22566, Action::Produce { partition: 0, count: 14, payload: Payload::Row }),
        (26506, Action::Produce { partition: 3, count: 1, payload: Payload::Row }),
        (26668, Action::SlowThread { worker: 0, thread: 1, millis: 9000 }),
        (28794, Action::ProduceInTransaction { partition: 0, count: 5 }),
        (28804, Action::EndTransaction { partition: 0, commits: false }),
        (29199, Action::DeleteRecords { partition: 0, keep: 20 }),
    ];
    check(&Schedule { seed: 77_028_099, setup, actions });
}

/// The poll thread stands still while a partition is revoked and assigned again: a start from before the revocation
/// reaches the new assignment.
#[test]
fn a_start_from_before_a_revocation_does_not_keep_a_partition_from_being_read() {
    let setup = Setup {
        workers: 3,
        topics: 2,
        partitions: 2,
        batchers: 2,
        protocol: GroupProtocol::Classic,
        is_static: false,
        dedupes: true,
        flush_millis: 500,
        flush_rows: 10,
        in_flight_bytes: 1_000_000,
    };
    let actions = vec![
        (484, Action::Produce { partition: 3, count: 18, payload: Payload::Row }),
        (932, Action::Produce { partition: 0, count: 7, payload: Payload::Row }),
        (1756, Action::Produce { partition: 1, count: 16, payload: Payload::Row }),
        (2090, Action::Repeat { partition: 3, count: 20 }),
        (2121, Action::Produce { partition: 0, count: 5, payload: Payload::Row }),
        (2933, Action::Stop { worker: 1, restart_after: 100 }),
        (3577, Action::LosesFirst { millis: 3000 }),
        (4260, Action::Produce { partition: 2, count: 12, payload: Payload::Row }),
        (4559, Action::Produce { partition: 0, count: 15, payload: Payload::Row }),
        (7157, Action::Produce { partition: 3, count: 12, payload: Payload::Row }),
        (7198, Action::SlowThread { worker: 1, thread: 1, millis: 9000 }),
        (7507, Action::Produce { partition: 0, count: 11, payload: Payload::WiderRow }),
        (8010, Action::Produce { partition: 3, count: 2, payload: Payload::Row }),
        (8099, Action::Produce { partition: 3, count: 3, payload: Payload::Row }),
        (8929, Action::Produce { partition: 3, count: 17, payload: Payload::Row }),
        (9324, Action::Produce { partition: 1, count: 14, payload: Payload::Row }),
        (9404, Action::Produce { partition: 2, count: 16, payload: Payload::Row }),
        (9441, Action::Stop { worker: 0, restart_after: 10_000 }),
        (9665, Action::Produce { partition: 3, count: 19, payload: Payload::Row }),
        (9909, Action::Repeat { partition: 3, count: 16 }),
        (10198, Action::Produce { partition: 2, count: 1, payload: Payload::WiderRow }),
        (11054, Action::Produce { partition: 1, count: 18, payload: Payload::Row }),
        (11515, Action::Produce { partition: 3, count: 14, payload: Payload::Row }),
        (16652, Action::Produce { partition: 2, count: 16, payload: Payload::Row }),
        (18460, Action::SlowThread { worker: 1, thread: 0, millis: 9000 }),
        (22094, Action::Stop { worker: 2, restart_after: 3000 }),
    ];
    check(&Schedule { seed: 1_796_022_093_469_844, setup, actions });
}
