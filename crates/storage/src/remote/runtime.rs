//! Runtime of the requests.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{LazyLock, OnceLock, mpsc};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

/// Number of threads: they sign and encrypt, and otherwise wait.
const THREADS: usize = 2;

/// Maximum number of requests at once, unless a program sets another.
const DEFAULT_MAX_REQUESTS: usize = 16;

static MAX_REQUESTS: OnceLock<NonZeroUsize> = OnceLock::new();

/// A permit for each request at once.
static PERMITS: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new(MAX_REQUESTS.get().map_or(DEFAULT_MAX_REQUESTS, |maximum| maximum.get()))
});

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(THREADS).thread_name("storage").enable_all().build()
});

/// Limits the requests that this process makes to object stores at once. The first call decides, before the
/// first request.
pub fn limit_requests(maximum: NonZeroUsize) {
    let _ = MAX_REQUESTS.set(maximum);
}

fn runtime() -> io::Result<&'static Runtime> {
    RUNTIME.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

/// Runs a request and waits for its result. Blocks this thread, also within a task of another runtime.
pub(super) fn wait<T: Send + 'static>(
    request: impl Future<Output = T> + Send + 'static,
) -> io::Result<T> {
    receive(&start(request)?)
}

/// Waits for the result of a started request.
pub(super) fn receive<T>(started: &mpsc::Receiver<T>) -> io::Result<T> {
    started.recv().map_err(|_| io::Error::other("a request to the store panicked"))
}

/// Starts a request when the limit permits it. The receiver gets its result.
///
/// A request must not wait for another one: both would need a permit.
pub(super) fn start<T: Send + 'static>(
    request: impl Future<Output = T> + Send + 'static,
) -> io::Result<mpsc::Receiver<T>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        let permit = PERMITS.acquire().await;
        let result = request.await;
        drop(permit);
        // The writer does not wait for the end of an aborted upload.
        let _ = sender.send(result);
    });
    Ok(receiver)
}
