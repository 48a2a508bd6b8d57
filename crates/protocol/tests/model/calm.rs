//! Continuation of a state without further disturbances.

use crate::action::Action;
use crate::design::{Bounds, Design};
use crate::system::System;

/// Maximum number of steps of an undisturbed system from any state; one that takes more is in a loop.
const MAX_STEPS: usize = 60;

/// Returns true if every record is committed exactly once when from now on nothing fails, every COMMIT
/// that a worker waits for arrives, and every other one is lost.
///
/// The initial states include workers whose commit was rejected because of one partition: the records
/// of the other partitions are read and committed again.
pub(crate) fn commits_everything(design: Design, bounds: &Bounds, system: &System) -> bool {
    let mut system = system.clone();
    let mut actions = Vec::new();
    for _ in 0..MAX_STEPS {
        actions.clear();
        system.actions(design, bounds, &mut actions);
        let Some(action) = actions.iter().copied().filter(is_calm).min_by_key(urgency) else {
            return is_complete(bounds, &system);
        };
        system.take(design, bounds, action);
    }
    false
}

fn is_calm(action: &Action) -> bool {
    !action.is_disturbance() && !matches!(action, Action::Arrive { awaited_by: None, .. })
}

/// Orders actions: answers, then rebalances, then reads of progress, then new batches, largest first.
fn urgency(action: &Action) -> (u8, i64) {
    match action {
        Action::Arrive { .. } | Action::Resolve { .. } => (0, 0),
        Action::Revoke { .. } => (1, 0),
        Action::PollProgress { .. } | Action::Load { .. } => (2, 0),
        Action::Cut { to, .. } => (3, -to.iter().flatten().sum::<i64>()),
        _ => (4, 0),
    }
}

fn is_complete(bounds: &Bounds, system: &System) -> bool {
    let mut rows = system.rows();
    rows.sort_unstable();
    rows == System::records(bounds)
}
