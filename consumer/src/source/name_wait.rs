//! A static member's wait for its name. Pure.
//!
//! Under KIP-848 the broker refuses a `group.instance.id` while another member has it. A member that was
//! killed has it until its session ends, so the process that returns waits, and joins again with growing
//! pauses.

use std::time::{Duration, Instant};

/// The first pause, which is doubled after each refusal.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause: how late the member joins after its name was released.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The wait, from the first refusal on.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameWait {
    since: Instant,
    pause: Duration,
    /// None while a new client joins.
    join_at: Option<Instant>,
}

impl NameWait {
    /// Begins with the first refusal.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, pause: FIRST_PAUSE, join_at: Some(now + FIRST_PAUSE) }
    }

    /// The new client was refused as well; returns whether the wait continues.
    pub(super) fn refused(&mut self, now: Instant, limit: Duration) -> bool {
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        self.join_at = Some(now + self.pause);
        now.saturating_duration_since(self.since) < limit
    }

    /// Returns whether a new client is to join now, and takes that as done.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.join_at.take_if(|at| *at <= now).is_some()
    }

    /// Whether a new client has been created and not been answered yet.
    pub(super) const fn is_joining(&self) -> bool {
        self.join_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_the_wait_has_an_end() {
        let begin = Instant::now();
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
