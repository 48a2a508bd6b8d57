//! Clock of a consumer: the only module that reads the clocks of the operating system.
//!
//! Everything that decides by time has a [`Clock`], so that tests and the simulation set the time.

use std::time::Instant;

use jiff::Timestamp;

#[cfg(test)]
use manual::ManualTime;

/// Clock of a worker. Clones show the same time.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Time);

#[derive(Clone, Debug)]
enum Time {
    System,
    #[cfg(test)]
    Manual(std::sync::Arc<ManualTime>),
}

impl Clock {
    /// Returns the clock of the operating system.
    pub(crate) const fn system() -> Self {
        Self(Time::System)
    }

    /// Returns the monotonic time.
    #[expect(clippy::disallowed_methods, reason = "this module is the origin of time")]
    pub(crate) fn now(&self) -> Instant {
        match &self.0 {
            Time::System => Instant::now(),
            #[cfg(test)]
            Time::Manual(time) => time.now(),
        }
    }

    /// Returns the time of day, microseconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "this module is the origin of time")]
    pub(crate) fn unix_micros(&self) -> i64 {
        match &self.0 {
            Time::System => Timestamp::now().as_microsecond(),
            #[cfg(test)]
            Time::Manual(time) => time.unix_micros(),
        }
    }

    /// Returns the time of day, milliseconds since 1970.
    pub(crate) fn unix_millis(&self) -> i64 {
        self.unix_micros().div_euclid(1000)
    }
}

#[cfg(test)]
mod manual {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use super::{Clock, Time};

    /// Time of day at which a manual clock begins, microseconds since 1970: 2026-01-01.
    const BEGIN_MICROS: i64 = 1_767_225_600_000_000;

    /// Time that passes only on request.
    #[derive(Debug)]
    pub(super) struct ManualTime {
        begin: Instant,
        passed_micros: AtomicU64,
    }

    impl ManualTime {
        pub(super) fn now(&self) -> Instant {
            self.begin + Duration::from_micros(self.passed_micros.load(Ordering::Relaxed))
        }

        pub(super) fn unix_micros(&self) -> i64 {
            BEGIN_MICROS + self.passed_micros.load(Ordering::Relaxed).cast_signed()
        }
    }

    impl Clock {
        /// Returns a clock that is moved by [`Self::advance`] alone.
        #[expect(clippy::disallowed_methods, reason = "an instant has no other origin")]
        pub(crate) fn manual() -> Self {
            let (begin, passed_micros) = (Instant::now(), AtomicU64::new(0));
            Self(Time::Manual(Arc::new(ManualTime { begin, passed_micros })))
        }

        /// Moves a manual clock and its clones forward.
        pub(crate) fn advance(&self, by: Duration) {
            let Time::Manual(time) = &self.0 else { panic!("the system's clock cannot be moved") };
            let micros = u64::try_from(by.as_micros()).expect("a duration of less than centuries");
            time.passed_micros.fetch_add(micros, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_manual_clock_moves_only_when_it_is_advanced() {
        let clock = Clock::manual();
        let (now, micros) = (clock.now(), clock.unix_micros());
        assert_eq!(clock.now(), now);

        clock.clone().advance(Duration::from_secs(2));

        assert_eq!(clock.now() - now, Duration::from_secs(2));
        assert_eq!(clock.unix_micros() - micros, 2_000_000);
    }
}
