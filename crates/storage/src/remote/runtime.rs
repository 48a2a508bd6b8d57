//! Runtime of the requests.

use std::io;
use std::sync::{LazyLock, mpsc};

use tokio::runtime::{Builder, Runtime};

/// Number of threads: they sign and encrypt, and otherwise wait.
const THREADS: usize = 2;

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(THREADS).thread_name("storage").enable_all().build()
});

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

/// Starts a request. The receiver gets its result.
pub(super) fn start<T: Send + 'static>(
    request: impl Future<Output = T> + Send + 'static,
) -> io::Result<mpsc::Receiver<T>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        // The writer does not wait for the end of an aborted upload.
        let _ = sender.send(request.await);
    });
    Ok(receiver)
}
