//! The request to stop, as the publishing thread sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A request to stop, shared between the thread that hears it and those that heed it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Read for every record, so an atomic of its own.
    requested: AtomicBool,
    sleeping: Mutex<()>,
    wake: Condvar,
}

impl Stop {
    /// Asks everybody to stop, and wakes those that sleep.
    pub(crate) fn request(&self) {
        // Under the lock, so that nobody falls asleep between looking and waiting.
        let _sleeping = self.0.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.requested.store(true, Ordering::Relaxed);
        self.0.wake.notify_all();
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::Relaxed)
    }

    /// Sleeps for `duration`, or until the request.
    pub(crate) fn sleep(&self, duration: Duration) {
        let sleeping = self.0.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
        // Poisoning is impossible to care about: the lock guards no data.
        drop(self.0.wake.wait_timeout_while(sleeping, duration, |()| !self.is_requested()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_request_ends_a_long_sleep() {
        let stop = Stop::default();
        let sleeper = std::thread::spawn({
            let stop = stop.clone();
            move || stop.sleep(Duration::from_hours(1))
        });
        stop.request();
        sleeper.join().expect("the sleeper wakes");
        assert!(stop.is_requested());
    }

    #[test]
    fn without_a_request_a_sleep_lasts() {
        let begun = Instant::now();
        Stop::default().sleep(Duration::from_millis(20));
        assert!(begun.elapsed() >= Duration::from_millis(20));
    }
}
