//! Request to stop, shared with the publishing thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Request to stop, shared between the thread that sets it and the threads that check it.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopRequest(Arc<StopState>);

#[derive(Debug, Default)]
struct StopState {
    /// Separate from the lock, because it is read for every record.
    requested: AtomicBool,
    sleeping: Mutex<()>,
    wake: Condvar,
}

impl StopRequest {
    /// Requests the stop and wakes all sleeping threads.
    pub(crate) fn request(&self) {
        // Set under the lock, so that no thread starts to sleep between its check and its wait.
        let _sleeping = self.0.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.requested.store(true, Ordering::Relaxed);
        self.0.wake.notify_all();
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::Relaxed)
    }

    /// Sleeps for `duration`, or until the stop is requested.
    pub(crate) fn sleep(&self, duration: Duration) {
        let sleeping = self.0.sleeping.lock().unwrap_or_else(PoisonError::into_inner);
        // Poisoning has no effect: the lock protects no data.
        drop(self.0.wake.wait_timeout_while(sleeping, duration, |()| !self.is_requested()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_request_ends_a_long_sleep() {
        let stop = StopRequest::default();
        let sleeper = std::thread::spawn({
            let stop = stop.clone();
            move || stop.sleep(Duration::from_hours(1))
        });
        stop.request();
        sleeper.join().expect("the sleeper wakes");
        assert!(stop.is_requested());
    }

    #[test]
    fn without_a_request_the_sleep_has_its_full_length() {
        let started = Instant::now();
        StopRequest::default().sleep(Duration::from_millis(20));
        assert!(started.elapsed() >= Duration::from_millis(20));
    }
}
