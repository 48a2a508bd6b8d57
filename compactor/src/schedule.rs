//! What is due when.

use std::time::{Duration, Instant};

use crate::config::ScheduleArgs;
use crate::planner::{Due, Policy};

/// What is done besides merging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chore {
    ExpireSnapshots,
    CoalesceLedger,
    CleanupOldFiles,
    RemoveOrphans,
}

impl Chore {
    pub(crate) const ALL: [Self; 4] =
        [Self::ExpireSnapshots, Self::CoalesceLedger, Self::CleanupOldFiles, Self::RemoveOrphans];
}

/// Remembers when things were last done.
pub(crate) struct Schedule {
    /// Of each tier, and of cold groups behind them.
    tiers: Vec<Timer>,
    chores: [(Chore, Timer); 4],
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
    /// Everything is due at once: nobody knows how long there was no compactor.
    pub(crate) fn new(args: &ScheduleArgs, policy: &Policy, now: Instant) -> Self {
        let timer = |interval| Timer { interval, next: now };
        let last = args.tier_intervals.last().copied().unwrap_or_default();
        let interval = |tier| args.tier_intervals.get(tier).copied().unwrap_or(last);
        let interval_of = |chore| match chore {
            Chore::ExpireSnapshots | Chore::CoalesceLedger => args.expire_interval,
            Chore::CleanupOldFiles => args.cleanup_interval,
            Chore::RemoveOrphans => args.orphans_interval,
        };
        Self {
            tiers: (0..=policy.tier_count()).map(|tier| timer(interval(tier))).collect(),
            chores: Chore::ALL.map(|chore| (chore, timer(interval_of(chore)))),
        }
    }

    /// Which tiers are looked at now; None when none is.
    pub(crate) fn merging(&mut self, now: Instant) -> Option<Due> {
        let mut due: Vec<_> = self.tiers.iter_mut().map(|timer| timer.due(now)).collect();
        let cold = due.pop().unwrap_or(false);
        (cold || due.contains(&true)).then_some(Due { tiers: due, cold })
    }

    /// The chores that are to be done now.
    pub(crate) fn chores(&mut self, now: Instant) -> Vec<Chore> {
        let due =
            self.chores.iter_mut().filter_map(|(chore, timer)| timer.due(now).then_some(*chore));
        due.collect()
    }

    /// When the next thing is due.
    pub(crate) fn next(&self) -> Instant {
        let chores = self.chores.iter().map(|(_, timer)| timer.next);
        let next = self.tiers.iter().map(|timer| timer.next).chain(chores).min();
        next.expect("there are chores")
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
    fn everything_is_due_at_first_and_then_by_its_interval() {
        let start = Instant::now();
        let policy = crate::config::tests::default_policy();
        let mut schedule = Schedule::new(&args(), &policy, start);
        let after = |seconds| start + Duration::from_secs(seconds);

        assert_eq!(schedule.merging(start), Some(Due::all(&policy)));
        assert_eq!(schedule.chores(start), Chore::ALL);
        assert_eq!(schedule.merging(after(59)), None);
        assert_eq!(schedule.next(), after(60));

        let due = schedule.merging(after(60)).unwrap();
        assert_eq!((due.tiers, due.cold), (vec![true, false, false], false));
        let due = schedule.merging(after(900)).unwrap();
        assert_eq!((due.tiers, due.cold), (vec![true, true, true], true));
        assert_eq!(schedule.chores(after(3600)).len(), 3);
    }
}
