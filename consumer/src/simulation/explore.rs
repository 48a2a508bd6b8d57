//! Search for failing schedules, and their reduction.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::Duration;

use super::schedule::Schedule;
use super::violation::Violation;
use super::world::{self, RunStats};
use crate::clock::Clock;

/// Largest number of runs for the reduction of a schedule.
const REDUCTION_RUNS: u32 = 3000;

thread_local! {
    /// True while panics are results of a run.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
    /// Text of the last panic.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a schedule. A panic of a core is a violation.
pub(super) fn run(schedule: &Schedule) -> Result<RunStats, Violation> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_CAUGHT.get() {
                PANIC.with_borrow_mut(|text| *text = info.to_string());
            } else {
                others(info);
            }
        }));
    });
    IS_CAUGHT.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| world::run(schedule)));
    IS_CAUGHT.set(false);
    result.unwrap_or_else(|_| Err(PANIC.with_borrow(|text| text.replace('\n', " "))))
}

/// Result of a search.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) schedules: u64,
    pub(super) faults: u64,
    pub(super) commits: u64,
    pub(super) steps: u64,
    pub(super) elapsed: Duration,
    /// First failing schedule.
    pub(super) failure: Option<(Schedule, Violation)>,
}

impl Search {
    /// Returns the number of complete schedules per second.
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    pub(super) fn rate(&self) -> f64 {
        self.schedules as f64 / self.elapsed.as_secs_f64()
    }
}

/// Runs the schedules of consecutive seeds until one fails or a limit is reached.
pub(super) fn search(first_seed: u64, schedules: u64, time: Duration) -> Search {
    let started = Clock::system().now();
    let elapsed = || Clock::system().now() - started;
    let mut found = Search {
        schedules: 0,
        faults: 0,
        commits: 0,
        steps: 0,
        elapsed: Duration::ZERO,
        failure: None,
    };
    while found.schedules < schedules && elapsed() < time && found.failure.is_none() {
        let schedule = Schedule::of_seed(first_seed.wrapping_add(found.schedules));
        found.schedules += 1;
        found.faults += schedule.faults() as u64;
        match run(&schedule) {
            Ok(stats) => {
                found.commits += stats.commits;
                found.steps += stats.steps;
            }
            Err(violation) => found.failure = Some((schedule, violation)),
        }
    }
    found.elapsed = elapsed();
    found
}

/// Reduces a failing schedule as long as it fails: fewer actions, lower numbers, a smaller setup.
pub(super) fn reduce(mut schedule: Schedule) -> (Schedule, Violation) {
    let mut violation = run(&schedule).expect_err("a failing schedule");
    let mut runs = 0;
    loop {
        let mut is_smaller = false;
        for candidate in candidates(&schedule) {
            runs += 1;
            if runs > REDUCTION_RUNS {
                return (schedule, violation);
            }
            if let Err(found) = run(&candidate) {
                (schedule, violation, is_smaller) = (candidate, found, true);
                break;
            }
        }
        if !is_smaller {
            return (schedule, violation);
        }
    }
}

/// Returns smaller schedules, those that drop most first.
fn candidates(schedule: &Schedule) -> Vec<Schedule> {
    let mut found = Vec::new();
    let actions = &schedule.actions;
    let mut length = actions.len().div_ceil(2);
    while length > 0 {
        for first in (0..actions.len()).step_by(length) {
            let mut fewer = actions.clone();
            fewer.drain(first..(first + length).min(actions.len()));
            found.push(Schedule { actions: fewer, ..schedule.clone() });
        }
        length = if length == 1 { 0 } else { length.div_ceil(2) };
    }
    for (index, (_, action)) in actions.iter().enumerate() {
        for simpler in action.simpler() {
            let mut simplified = schedule.clone();
            simplified.actions[index].1 = simpler;
            found.push(simplified);
        }
    }
    let setup = &schedule.setup;
    let mut smaller = |change: &dyn Fn(&mut super::schedule::Setup)| {
        let mut changed = schedule.clone();
        change(&mut changed.setup);
        if changed != *schedule {
            found.push(changed);
        }
    };
    smaller(&|setup| setup.workers = (setup.workers - 1).max(1));
    smaller(&|setup| setup.topics = 1);
    smaller(&|setup| setup.batchers = 1);
    if setup.dedupes {
        smaller(&|setup| setup.dedupes = false);
    }
    if setup.is_static {
        smaller(&|setup| setup.is_static = false);
    }
    found
}
