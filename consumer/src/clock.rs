//! Time of a consumer: the only module that reads the clocks of the system.
//!
//! Everything that decides by time has a [`Clock`], so that tests and the simulation set the time.

use std::time::Instant;
#[cfg(test)]
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

/// Source of the current time.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// Clocks of the operating system.
    System,
    /// Time that a test sets; clones share it.
    #[cfg(test)]
    Manual(Arc<ManualTime>),
}

/// Time that stands still until a test moves it.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct ManualTime {
    start: Instant,
    elapsed_micros: AtomicU64,
}

/// Time at which each manual clock begins, microseconds since 1970: 2026-01-01.
#[cfg(test)]
const MANUAL_START_MICROS: i64 = 1_767_225_600_000_000;

impl Clock {
    /// Creates a clock that stands at a fixed time.
    #[cfg(test)]
    pub(crate) fn manual() -> Self {
        #[expect(clippy::disallowed_methods, reason = "an instant has no other origin")]
        let start = Instant::now();
        Self::Manual(Arc::new(ManualTime { start, elapsed_micros: AtomicU64::new(0) }))
    }

    /// Moves a manual clock.
    ///
    /// # Panics
    /// If this is the clock of the system.
    #[cfg(test)]
    pub(crate) fn advance(&self, by: Duration) {
        let Self::Manual(time) = self else { panic!("the clock of the system cannot be moved") };
        let micros = u64::try_from(by.as_micros()).expect("a test takes less than an age");
        time.elapsed_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Returns the time for durations and deadlines, which never goes backwards.
    #[expect(clippy::disallowed_methods, reason = "this module is the origin of time")]
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            #[cfg(test)]
            Self::Manual(time) => time.start + time.elapsed(),
        }
    }

    /// Returns the time of day, microseconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "this module is the origin of time")]
    pub(crate) fn unix_micros(&self) -> i64 {
        match self {
            Self::System => Timestamp::now().as_microsecond(),
            #[cfg(test)]
            Self::Manual(time) => {
                let elapsed = time.elapsed_micros.load(Ordering::Relaxed);
                MANUAL_START_MICROS + i64::try_from(elapsed).expect("a test takes less than an age")
            }
        }
    }

    /// Returns the time of day, milliseconds since 1970.
    pub(crate) fn unix_millis(&self) -> i64 {
        self.unix_micros().div_euclid(1000)
    }
}

#[cfg(test)]
impl ManualTime {
    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_micros.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_it_is_advanced() {
        let clock = Clock::manual();
        let (start, millis) = (clock.now(), clock.unix_millis());
        assert_eq!(clock.clone().now(), start);

        clock.clone().advance(Duration::from_millis(1500));

        assert_eq!(clock.now() - start, Duration::from_millis(1500));
        assert_eq!(clock.unix_millis() - millis, 1500);
    }
}
