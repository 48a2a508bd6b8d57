//! What time the events are made at: the machine's, or one that is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::event::TimestampMicros;

/// A source of the time that events are made at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The machine's clock.
    Machine,
    /// Starts where it is told and moves on by a fixed step with each event, so that the same seed
    /// gives the same bytes whenever it runs.
    Told {
        /// The time of the next event.
        next: TimestampMicros,
        /// From one event to the next, µs.
        step_micros: i64,
    },
}

impl Clock {
    /// The time of the next event.
    pub fn now(&mut self) -> TimestampMicros {
        match self {
            Self::Machine => machine_time(),
            Self::Told { next, step_micros } => {
                let now = *next;
                next.0 = next.0.saturating_add(*step_micros);
                now
            }
        }
    }
}

fn machine_time() -> TimestampMicros {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    TimestampMicros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_told_clock_moves_by_its_step() {
        let mut clock = Clock::Told { next: TimestampMicros(100), step_micros: 7 };
        assert_eq!([clock.now().0, clock.now().0, clock.now().0], [100, 107, 114]);
    }

    #[test]
    fn the_machines_clock_is_past_2020() {
        assert!(Clock::Machine.now() > TimestampMicros(1_577_836_800_000_000));
    }
}
