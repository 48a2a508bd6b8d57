//! How a worker is told to stop, and how its process ends.
#![expect(
    unsafe_code,
    reason = "the standard library has no exit that leaves the others' code alone"
)]

use std::io::{self, Write as _};

use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGTERM or Ctrl-C.
pub async fn stop_signal() {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be listened to");
    tokio::select! {
        interrupted = ctrl_c() => interrupted.expect("Ctrl-C can be listened to"),
        _ = terminate.recv() => {}
    }
}

/// Ends the process whatever its other threads are doing, with this exit code.
///
/// [`std::process::exit`] first runs what C and C++ libraries have registered for the end of a program:
/// OpenSSL and DuckDB destroy what a thread may be using, such as one that waits for a catalog that
/// does not answer. Of workers that were stopped while they opened the lake, one in fifty ended by
/// SIGSEGV. Here only standard output is flushed; whatever must be done before the end was done.
pub fn exit_now(exit_code: u8) -> ! {
    // An exit code is all that is left to tell with.
    let _ = io::stdout().flush();
    // SAFETY: it takes no pointers and does not return; no destructor of this process runs after it.
    unsafe { libc::_exit(exit_code.into()) }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::{Command, abort};

    use super::*;

    /// Tells a process that it is one that is to end.
    const ENDS: &str = "DUCKTIDE_TEST_ENDS";

    /// What a library might have registered.
    extern "C" fn tidy_up() {
        abort();
    }

    #[test]
    fn the_end_leaves_the_libraries_alone() {
        if env::var_os(ENDS).is_some() {
            // SAFETY: the function is there for as long as the process is.
            assert_eq!(unsafe { libc::atexit(tidy_up) }, 0);
            exit_now(3);
        }
        let test = "process::tests::the_end_leaves_the_libraries_alone";

        let ended = Command::new(env::current_exe().unwrap())
            .args(["--exact", test])
            .env(ENDS, "1")
            .output()
            .unwrap();

        assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    }
}
