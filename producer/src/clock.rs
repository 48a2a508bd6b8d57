//! Source of the creation time of events: the system clock or a simulated clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::event::TimestampMicros;

/// Source of the creation time of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The system clock.
    System,
    /// A clock that starts at a given time and advances by a fixed step with each event, so that a
    /// seed gives the same bytes in every run.
    Simulated {
        /// Time of the next event.
        next: TimestampMicros,
        /// Time from one event to the next, µs.
        step_micros: i64,
    },
}

impl Clock {
    /// Returns the time of the next event.
    pub fn now(&mut self) -> TimestampMicros {
        match self {
            Self::System => system_time(),
            Self::Simulated { next, step_micros } => {
                let now = *next;
                next.0 = next.0.saturating_add(*step_micros);
                now
            }
        }
    }
}

fn system_time() -> TimestampMicros {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    TimestampMicros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_clock_advances_by_its_step() {
        let mut clock = Clock::Simulated { next: TimestampMicros(100), step_micros: 7 };
        assert_eq!([clock.now().0, clock.now().0, clock.now().0], [100, 107, 114]);
    }

    #[test]
    fn the_system_clock_is_past_2020() {
        assert!(Clock::System.now() > TimestampMicros(1_577_836_800_000_000));
    }
}
