//! What happens from a moment on when nothing disturbs the system any more.

use crate::action::Action;
use crate::design::{Bounds, Design};
use crate::system::System;

/// More steps than a calm system needs from anywhere; a system that takes more goes in circles.
const PATIENCE: usize = 60;

/// Whether every record gets in, each once, if from now on nothing fails, every COMMIT that somebody
/// waits for arrives, and every other one is lost.
///
/// A worker whose commit was refused for the sake of one partition is among the moments from which
/// this starts: the other partitions' rows are read again, and get in.
pub(crate) fn everything_gets_in(design: Design, bounds: &Bounds, system: &System) -> bool {
    let mut system = system.clone();
    let mut actions = Vec::new();
    for _ in 0..PATIENCE {
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

/// Answers first, then what the group wants, then new batches, the largest first.
fn urgency(action: &Action) -> (u8, i64) {
    match action {
        Action::Arrive { .. } | Action::Resolve { .. } => (0, 0),
        Action::Revoke { .. } => (1, 0),
        Action::Look { .. } | Action::Load { .. } => (2, 0),
        Action::Cut { to, .. } => (3, -to.iter().flatten().sum::<i64>()),
        _ => (4, 0),
    }
}

fn is_complete(bounds: &Bounds, system: &System) -> bool {
    let mut rows = system.rows();
    rows.sort_unstable();
    rows == System::records(bounds)
}
