//! Detection of a connection pooler in transaction mode, between a program and PostgreSQL.
//!
//! Such a pooler gives a session another server connection for each transaction. Locks and settings of a
//! session then belong to a connection that other sessions use, too.

use std::sync::atomic::{AtomicBool, Ordering};

use ducktide_protocol::error::{LakeError, Result};
use postgres::Client;

use super::postgres_connection::{connect, failed, rows};
use crate::postgres_settings::PostgresSettings;
use crate::rows::Row;

/// Number of comparisons. One is enough unless other clients use the pooler at the same moment.
const ROUNDS: usize = 3;

/// Returns an error if two open sessions are served by the same server connection, or if the server
/// connection of one session changes. Checked once for each process.
pub(crate) fn refuse_transaction_pooling(settings: &PostgresSettings) -> Result<()> {
    static CHECKED: AtomicBool = AtomicBool::new(false);

    if CHECKED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let (mut session, mut served) = (connect(settings)?, Vec::new());
    // Where only one connection is permitted, nothing can be compared.
    let Ok(mut other) = connect(settings) else { return Ok(()) };
    for _ in 0..ROUNDS {
        let own = server_process(&mut session)?;
        let Ok(other) = server_process(&mut other) else { return Ok(()) };
        served.push((own, other));
    }
    if is_shared(&served) {
        return Err(LakeError::setting(
            "DUCKLAKE_CATALOG: a connection pooler in transaction or statement mode is in between, where locks \
             and settings of a session do not last; connect to PostgreSQL directly, or to a pool in session mode",
        ));
    }
    CHECKED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Returns the id of the process that serves the session.
fn server_process(session: &mut Client) -> Result<i32> {
    let found = rows(session, "SELECT pg_backend_pid()");
    let found = found.map_err(|error| failed("read the server's process", error))?;
    found.last().map_or(Ok(0), Row::first)
}

/// Returns whether two sessions share server connections, by the server process of each at several times.
fn is_shared(served: &[(i32, i32)]) -> bool {
    let changed = served.windows(2).any(|pairs| pairs[0] != pairs[1]);
    changed || served.iter().any(|(first, second)| first == second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_keep_a_process_each_are_not_pooled() {
        assert!(!is_shared(&[(7, 8), (7, 8)]));
    }

    #[test]
    fn one_process_for_two_sessions_and_a_change_of_process_are_pooled() {
        assert!(is_shared(&[(7, 7), (7, 7)]));
        assert!(is_shared(&[(7, 8), (9, 8)]));
    }
}
