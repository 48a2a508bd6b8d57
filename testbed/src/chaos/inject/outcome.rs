//! Outcome of a fault, its target and its moment.

use std::{
    sync::{Mutex, MutexGuard, TryLockError},
    time::Duration,
};

use anyhow::Result;

use crate::{
    chaos::{consumer_slot::ConsumerSlot, environment::Environment},
    wait,
};

/// Maximum time that a fault waits for its moment.
pub(super) const MOMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Outcome of a fault.
pub(super) enum Outcome {
    /// Injected; the recovery time starts.
    Injected,
    /// Not injected: its target had another fault or does not exist, or its moment did not come.
    Skipped,
}

/// Locks the target; None if another fault has it.
pub(in crate::chaos) fn free<T>(target: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match target.try_lock() {
        Ok(target) => Some(target),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Runs `act` on this consumer, or on the next one without a fault.
pub(super) fn with_free_consumer(
    environment: &Environment,
    consumer: usize,
    act: impl FnOnce(&mut ConsumerSlot) -> Result<bool>,
) -> Result<Outcome> {
    let order = environment.slots[consumer..].iter().chain(&environment.slots[..consumer]);
    let Some(mut slot) = order.into_iter().find_map(free) else { return Ok(Outcome::Skipped) };
    Ok(if act(&mut slot)? { Outcome::Injected } else { Outcome::Skipped })
}

/// Waits for a condition, at most [`MOMENT_TIMEOUT`]. Returns true if it came.
pub(super) fn await_moment(
    environment: &Environment,
    is_there: impl FnMut() -> Result<bool>,
) -> bool {
    await_moment_within(environment, MOMENT_TIMEOUT, is_there)
}

pub(super) fn await_moment_within(
    environment: &Environment,
    timeout: Duration,
    mut is_there: impl FnMut() -> Result<bool>,
) -> bool {
    let result = wait::until("the moment of the fault comes", timeout, || {
        Ok(environment.is_stopping() || is_there()?)
    });
    result.is_ok() && !environment.is_stopping()
}
