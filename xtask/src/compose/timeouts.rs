//! Time limits of the test of the stack.

use std::time::Duration;

/// Maximum time for a container to become healthy, on a busy machine with two cores.
pub(super) const HEALTHY_TIMEOUT: Duration = Duration::from_mins(4);

/// Maximum time for rows, members and merges to become visible. Much longer than they take, so that
/// a slow machine does not fail the test.
pub(super) const VISIBLE_TIMEOUT: Duration = Duration::from_mins(2);
