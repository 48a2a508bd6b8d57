//! Passwords of a PostgreSQL catalog that are changed while a program runs.
//!
//! | the password is in | a refused login after an accepted one |
//! |---|---|
//! | a password file | outage: the file is read for each connection, and has the new password soon |
//! | the setting or the environment | fault: only a new process has another one |

use std::sync::atomic::{AtomicBool, Ordering};

use ducktide_protocol::cause::Cause;

use crate::postgres_settings::Resolved;

/// True once the server accepted a password of a file. A process has one catalog.
static WAS_ACCEPTED: AtomicBool = AtomicBool::new(false);

/// Records that the server accepted a login.
pub(crate) fn accepted(login: &Resolved) {
    if login.has_password_of_file() {
        WAS_ACCEPTED.store(true, Ordering::Relaxed);
    }
}

/// Returns the cause of a refused password.
pub(crate) fn cause_of_refused_password() -> Cause {
    if WAS_ACCEPTED.load(Ordering::Relaxed) { Cause::Outage } else { Cause::Fault }
}
