//! Schedule of merges and other maintenance tasks.

use std::time::{Duration, Instant};

use crate::config::ScheduleArgs;
use crate::planner::{DueTiers, MergePolicy};

/// Maintenance tasks other than merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    ExpireSnapshots,
    CoalesceLedger,
    CleanupOldFiles,
    RemoveOrphans,
}

impl Task {
    pub(crate) const ALL: [Self; 4] =
        [Self::ExpireSnapshots, Self::CoalesceLedger, Self::CleanupOldFiles, Self::RemoveOrphans];
}

/// Times at which the tasks are due.
pub(crate) struct Schedule {
    /// Timers of the tiers, followed by that of cold groups.
    tiers: Vec<Timer>,
    tasks: [(Task, Timer); 4],
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    interval: Duration,
    next: Instant,
}

impl Timer {
    fn due(&mut self, now: Instant) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + self.interval;
        }
        due
    }
}

impl Schedule {
    /// Everything is due at the start, because it is unknown how long no compactor was running.
    pub(crate) fn new(args: &ScheduleArgs, policy: &MergePolicy, now: Instant) -> Self {
        let timer = |interval| Timer { interval, next: now };
        let last = args.tier_intervals.last().copied().unwrap_or_default();
        let interval = |tier| args.tier_intervals.get(tier).copied().unwrap_or(last);
        let interval_of = |task| match task {
            Task::ExpireSnapshots | Task::CoalesceLedger => args.expire_interval,
            Task::CleanupOldFiles => args.cleanup_interval,
            Task::RemoveOrphans => args.orphans_interval,
        };
        Self {
            tiers: (0..=policy.tier_count()).map(|tier| timer(interval(tier))).collect(),
            tasks: Task::ALL.map(|task| (task, timer(interval_of(task)))),
        }
    }

    /// Returns the tiers that are due now; None if none is.
    pub(crate) fn merging(&mut self, now: Instant) -> Option<DueTiers> {
        let mut due: Vec<_> = self.tiers.iter_mut().map(|timer| timer.due(now)).collect();
        let cold = due.pop().unwrap_or(false);
        (cold || due.contains(&true)).then_some(DueTiers { tiers: due, cold })
    }

    /// Returns the tasks that are due now.
    pub(crate) fn tasks(&mut self, now: Instant) -> Vec<Task> {
        let due = self.tasks.iter_mut().filter_map(|(task, timer)| timer.due(now).then_some(*task));
        due.collect()
    }

    /// Returns the time at which the next task is due.
    pub(crate) fn next(&self) -> Instant {
        let tasks = self.tasks.iter().map(|(_, timer)| timer.next);
        let next = self.tiers.iter().map(|timer| timer.next).chain(tasks).min();
        next.expect("there are tasks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> ScheduleArgs {
        ScheduleArgs {
            tier_intervals: vec![Duration::from_mins(1), Duration::from_mins(15)],
            expire_interval: Duration::from_hours(1),
            cleanup_interval: Duration::from_hours(1),
            orphans_interval: Duration::from_hours(24),
        }
    }

    #[test]
    fn everything_is_due_at_the_start_and_then_at_its_interval() {
        let start = Instant::now();
        let policy = crate::config::tests::default_policy();
        let mut schedule = Schedule::new(&args(), &policy, start);
        let after = |seconds| start + Duration::from_secs(seconds);

        assert_eq!(schedule.merging(start), Some(DueTiers::all(&policy)));
        assert_eq!(schedule.tasks(start), Task::ALL);
        assert_eq!(schedule.merging(after(59)), None);
        assert_eq!(schedule.next(), after(60));

        let due = schedule.merging(after(60)).unwrap();
        assert_eq!((due.tiers, due.cold), (vec![true, false, false], false));
        let due = schedule.merging(after(900)).unwrap();
        assert_eq!((due.tiers, due.cold), (vec![true, true, true], true));
        assert_eq!(schedule.tasks(after(3600)).len(), 3);
    }
}
