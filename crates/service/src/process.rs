//! Stop signals of a worker, and the end of its process.
#![expect(unsafe_code, reason = "the standard library has no exit without exit handlers")]

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

/// Ends the process with this exit code, whatever its other threads do.
///
/// [`std::process::exit`] first runs the exit handlers of C and C++ libraries: OpenSSL and DuckDB destroy
/// objects that a thread may use, such as one that waits for a catalog that does not answer. Of workers
/// that were stopped while they opened the lake, one in fifty ended by SIGSEGV. This function only
/// flushes standard output; the caller has done everything else.
pub fn exit_now(exit_code: u8) -> ! {
    // A failure could only be reported by the exit code, which has another meaning.
    let _ = io::stdout().flush();
    // SAFETY: it takes no pointers and does not return; no destructor of this process runs after it.
    unsafe { libc::_exit(exit_code.into()) }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::{Command, abort};

    use super::*;

    /// Variable that is set in the process that ends.
    const ENDS: &str = "DUCKTIDE_TEST_ENDS";

    /// Exit handler, as a library could have registered it.
    extern "C" fn exit_handler() {
        abort();
    }

    #[test]
    fn exit_now_runs_no_exit_handlers() {
        if env::var_os(ENDS).is_some() {
            // SAFETY: the function is there for as long as the process is.
            assert_eq!(unsafe { libc::atexit(exit_handler) }, 0);
            exit_now(3);
        }
        let test = "process::tests::exit_now_runs_no_exit_handlers";

        let ended = Command::new(env::current_exe().unwrap())
            .args(["--exact", test])
            .env(ENDS, "1")
            .output()
            .unwrap();

        assert_eq!(ended.status.code(), Some(3), "{ended:?}");
    }
}
