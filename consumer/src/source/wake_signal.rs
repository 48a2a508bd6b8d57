//! Signal that ends a wait of the poll thread.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Signal that the client has records or events, or that the worker has sent a command. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct WakeSignal(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl WakeSignal {
    /// Ends the current wait; without one, the next wait returns at once.
    pub(crate) fn set(&self) {
        let mut is_set = self.0.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_set {
            *is_set = true;
            self.0.changed.notify_one();
        }
    }

    /// Waits until the signal is set, at most for this time, and clears it.
    pub(crate) fn wait(&self, timeout: Duration) {
        let is_set = self.0.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.changed.wait_timeout_while(is_set, timeout, |is_set| !*is_set);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Longer than a test may take.
    const FOREVER: Duration = Duration::from_hours(1);

    #[test]
    fn a_signal_before_a_wait_ends_it_and_is_cleared() {
        let signal = WakeSignal::default();
        signal.set();
        signal.set();

        signal.wait(FOREVER);

        assert!(!*signal.0.is_set.lock().unwrap());
        signal.wait(Duration::from_millis(1));
    }

    #[test]
    fn a_signal_of_another_thread_ends_a_wait() {
        let signal = WakeSignal::default();
        let other = signal.clone();
        let thread = thread::spawn(move || other.set());

        signal.wait(FOREVER);

        thread.join().unwrap();
    }
}
