//! The wait of a static member for its `group.instance.id`. Pure.
//!
//! Under KIP-848 the broker refuses a `group.instance.id` while another member has it. A member that was
//! killed keeps it until its session ends, so the restarted process retries to join, with growing pauses.

use std::time::{Duration, Instant};

/// First pause, doubled after each refusal.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Longest pause: the latest time at which the member joins after its id was released.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The wait since the first refusal.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameWait {
    since: Instant,
    pause: Duration,
    /// None while a new client joins.
    join_at: Option<Instant>,
}

impl NameWait {
    /// Starts the wait at the first refusal.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, pause: FIRST_PAUSE, join_at: Some(now + FIRST_PAUSE) }
    }

    /// Records that the new client was refused too. Returns false once `limit` is exceeded.
    pub(super) fn refused(&mut self, now: Instant, limit: Duration) -> bool {
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.join_at = Some(now + self.pause);
        now.saturating_duration_since(self.since) < limit
    }

    /// Returns true, once, when the next client is to join.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.join_at.take_if(|at| *at <= now).is_some()
    }

    /// Returns true while a new client waits for the broker's answer.
    pub(super) const fn is_joining(&self) -> bool {
        self.join_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn pauses_grow_up_to_a_limit_and_the_wait_has_an_end() {
        let begin = Clock::manual().now();
        let limit = Duration::from_secs(90);
        let (mut now, mut attempts) = (begin, 0);
        let mut wait = NameWait::new(begin);
        loop {
            assert!(!wait.take_due(now) && !wait.is_joining());
            let pause = wait.join_at.unwrap() - now;
            assert!(pause <= LONGEST_PAUSE);
            now += pause;
            assert!(wait.take_due(now) && wait.is_joining());
            attempts += 1;
            if !wait.refused(now, limit) {
                break;
            }
        }
        assert!((90..95).contains(&(now - begin).as_secs()), "{:?}", now - begin);
        assert!((20..30).contains(&attempts), "{attempts}");
    }
}
