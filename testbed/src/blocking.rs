//! Runs blocking calls and futures on threads of their own.

use std::{panic, thread};

use anyhow::{Context as _, Result};
use tokio::runtime;

/// Runs `work` on a thread of its own and waits for it.
///
/// The PostgreSQL client and the container client run a runtime inside their blocking calls, which
/// panics on a thread that belongs to another runtime, such as that of a `#[tokio::test]`.
pub(crate) fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// Runs a future to completion on a thread and a runtime of its own.
pub(crate) fn block_on<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    on_own_thread(|| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("start a runtime")?.block_on(future)
    })
}
