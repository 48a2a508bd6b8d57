//! Classification of DuckDB's errors, which can be identified by their text only.
//!
//! The text never decides the outcome of a commit; that is read from progress. It only decides whether
//! a retry can succeed, and only the database's own message counts: the rest of the text contains
//! statements, and with them user data.

use ducktide_protocol::cause::Cause;
use ducktide_protocol::error::{LakeError, LakeFault, Result};
use ducktide_protocol::reason::reason;

use crate::config::LakeConfig;
use crate::login;

/// Returns the error for a lake that could not be attached.
pub fn attach(config: &LakeConfig, error: &duckdb::Error) -> LakeError {
    let text = error.to_string();
    tracing::debug!(error = text, "attach failed");
    let catalog = config.catalog.to_string();
    if text.contains("creating a new DuckLake is explicitly disabled") {
        return LakeError::from_fault(LakeFault::NoLake { catalog });
    }
    let remedy = if text.contains("does not match existing data path") {
        "omit --data-path, or set the one that the lake was created with"
    } else if text.contains("data_path is not set") {
        "a new lake needs --data-path"
    } else {
        let what = format!("attach the lake: catalog=`{catalog}`");
        return classify(Fallback::Refused, what, &text);
    };
    LakeError::invalid(format!("attach the lake; {remedy}: catalog=`{catalog}`")).because(text)
}

/// Classification of an error that matches no row of [`MESSAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fallback {
    /// Outage: the message may be one that the table does not list.
    Unavailable,
    /// Fault, if a new instance of DuckDB returns the error again.
    Refused,
}

/// Returns the error for a statement that failed before anything was committed: an outage, unless the
/// text shows that a retry cannot succeed.
#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` calls")]
pub fn failed(what: impl Into<String>, error: duckdb::Error) -> LakeError {
    let text = error.to_string();
    tracing::debug!(error = text, "statement failed");
    classify(Fallback::Unavailable, what.into(), &text)
}

/// Like [`failed`], but returns a refusal for a text that [`is_refusal`] recognizes.
#[expect(clippy::needless_pass_by_value, reason = "the signature that `map_err` calls")]
pub fn refused_or_failed(what: impl Into<String>, error: duckdb::Error) -> LakeError {
    let text = error.to_string();
    tracing::debug!(error = text, "statement failed");
    let fallback = if is_refusal(&text) { Fallback::Refused } else { Fallback::Unavailable };
    classify(fallback, what.into(), &text)
}

fn classify(fallback: Fallback, what: String, text: &str) -> LakeError {
    let error = match (cause(text), fallback) {
        (Some(Cause::Outage), _) | (None, Fallback::Unavailable) => LakeError::unavailable(what),
        // A refusal is not final: tables and grants are missing while a catalog is being restored.
        (Some(Cause::Fault), _) | (None, Fallback::Refused) => LakeError::refused(what),
    };
    let reason = reason(text);
    match remedy(&reason) {
        Some(remedy) => error.because(format!("{reason}; {remedy}")),
        None => error.because(reason),
    }
}

/// Retries a refused call, up to 3 attempts at intervals of 200 ms: a lost connection can make DuckDB
/// return an unrelated error, but not on consecutive attempts.
pub fn confirmed<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    const ATTEMPTS: usize = 3;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);
    let mut answer = call();
    for _ in 1..ATTEMPTS {
        match &answer {
            Err(error) if error.is_refusal() => std::thread::sleep(PAUSE),
            _ => break,
        }
        answer = call();
    }
    answer
}

/// Returns true if an error before COMMIT shows that the files or the table are wrong, so that a retry
/// cannot succeed.
#[must_use]
pub fn is_refusal(text: &str) -> bool {
    const PERMANENT: [&str; 5] = [
        "Invalid Input Error",
        "Binder Error",
        "Catalog Error",
        "ducktide refused: malformed",
        "ducktide refused: rows without a lake change",
    ];
    match cause(text) {
        Some(Cause::Outage) => false,
        Some(Cause::Fault) => true,
        None => {
            let (begin, reason) = (text.trim_start(), reason(text));
            PERMANENT.iter().any(|p| begin.starts_with(p) || reason.contains(p))
        }
    }
}

/// Returns true if a statement exceeded its memory limit, even with spilling to disk.
#[must_use]
pub fn is_out_of_memory(text: &str) -> bool {
    text.contains("Out of Memory Error")
}

/// Returns true after a fatal error of DuckDB, which makes the instance unusable.
#[must_use]
pub fn is_instance_broken(text: &str) -> bool {
    text.contains("INTERNAL Error") || text.contains("database has been invalidated")
}

/// Returns true if a SQLite catalog is read-only. A new connection can write once its files are
/// writable.
#[must_use]
pub fn is_readonly_file(text: &str) -> bool {
    text.contains("attempt to write a readonly database")
}

/// Returns true if the catalog is temporarily unreachable or busy.
#[must_use]
pub fn is_outage(text: &str) -> bool {
    cause(text) == Some(Cause::Outage)
}

/// Message of PostgreSQL for a wrong password.
const REFUSED_PASSWORD: &str = "password authentication failed";

/// Messages of libpq, PostgreSQL and SQLite; the first match counts. The comments give the SQLSTATE or
/// result code of each message, which DuckDB does not pass on.
const MESSAGES: [(&str, Cause); 68] = [
    // SQLite
    ("database is locked", Cause::Outage),        // SQLITE_BUSY
    ("database table is locked", Cause::Outage),  // SQLITE_LOCKED
    ("database schema is locked", Cause::Outage), // SQLITE_LOCKED
    ("database or disk is full", Cause::Outage),  // SQLITE_FULL
    ("disk I/O error", Cause::Outage),            // SQLITE_IOERR
    ("unable to open database file", Cause::Outage), // SQLITE_CANTOPEN
    ("locking protocol", Cause::Outage),          // SQLITE_PROTOCOL
    ("attempt to write a readonly database", Cause::Outage), // SQLITE_READONLY
    ("database disk image is malformed", Cause::Fault), // SQLITE_CORRUPT
    ("file is not a database", Cause::Fault),     // SQLITE_NOTADB
    ("no such table:", Cause::Fault),             // SQLITE_ERROR
    // Connection to PostgreSQL
    ("certificate verify failed", Cause::Fault),
    ("does not match host name", Cause::Fault),
    ("server does not support SSL", Cause::Fault),
    (REFUSED_PASSWORD, Cause::Fault), // 28P01
    ("no password supplied", Cause::Fault),
    ("no pg_hba.conf entry", Cause::Fault),          // 28000
    ("is not permitted to log in", Cause::Fault),    // 28000
    ("unsupported startup parameter", Cause::Fault), // 08P01, of pgbouncer
    ("Connection refused", Cause::Outage),
    ("Connection timed out", Cause::Outage),
    ("Connection reset by peer", Cause::Outage),
    ("No route to host", Cause::Outage),
    ("Network is unreachable", Cause::Outage),
    ("Broken pipe", Cause::Outage),
    ("SSL SYSCALL error", Cause::Outage),
    ("SSL connection has been closed", Cause::Outage),
    ("EOF detected", Cause::Outage),
    ("unexpected eof", Cause::Outage),
    ("could not receive data from server", Cause::Outage),
    ("could not send data to server", Cause::Outage),
    ("could not send SSL negotiation packet", Cause::Outage),
    ("could not send startup packet", Cause::Outage),
    ("received invalid response to", Cause::Outage),
    ("connection to server was lost", Cause::Outage),
    ("server closed the connection", Cause::Outage),
    ("no connection to the server", Cause::Outage),
    ("lost synchronization with server", Cause::Outage),
    ("insufficient data in", Cause::Outage),
    ("could not connect", Cause::Outage),
    ("could not translate host name", Cause::Outage),
    ("timeout expired", Cause::Outage),
    ("another command is already in progress", Cause::Outage),
    ("no COPY in progress", Cause::Outage),
    // PostgreSQL
    ("too many clients", Cause::Outage),              // 53300
    ("remaining connection slots", Cause::Outage),    // 53300
    ("too many connections for", Cause::Outage),      // 53300
    ("No space left on device", Cause::Outage),       // 53100
    ("out of shared memory", Cause::Outage),          // 53200
    ("the database system is", Cause::Outage),        // 57P03
    ("database system is", Cause::Outage),            // 57P03
    ("terminating connection", Cause::Outage),        // 57P01, 25P03
    ("canceling statement due to", Cause::Outage),    // 57014, 55P03
    ("could not obtain lock", Cause::Outage),         // 55P03
    ("deadlock detected", Cause::Outage),             // 40P01
    ("could not serialize access", Cause::Outage),    // 40001
    ("in a read-only transaction", Cause::Outage),    // 25006
    ("server conn crashed", Cause::Outage),           // 08P01, of pgbouncer
    ("no more connections allowed", Cause::Outage),   // 08P01, of pgbouncer
    ("server login has been failing", Cause::Outage), // 08P01, of pgbouncer
    ("permission denied for", Cause::Fault),          // 42501
    ("must be owner of", Cause::Fault),               // 42501
    ("ERROR: relation \"", Cause::Fault),             // 42P01 (does not exist)
    ("ERROR: function ", Cause::Fault),               // 42883 (does not exist)
    ("ERROR: schema \"", Cause::Fault),               // 3F000 (does not exist)
    ("ERROR: column \"", Cause::Fault),               // 42703 (does not exist)
    ("FATAL: database \"", Cause::Fault),             // 3D000 (does not exist)
    ("FATAL: role \"", Cause::Fault),                 // 28000 (does not exist)
];

/// Returns the cause of an error by the table of messages; None if no message matches.
#[must_use]
pub fn cause(text: &str) -> Option<Cause> {
    if text.contains("Failed to execute query \"ROLLBACK\"") {
        return Some(Cause::Outage);
    }
    let reason = reason(text);
    let row = MESSAGES.iter().find(|(message, _)| reason.contains(message))?;
    // `relation "x" already exists` is not a fault: another client created it first.
    let is_about_existence = row.0.starts_with("ERROR: ") || row.0.starts_with("FATAL: ");
    let cause = if row.0 == REFUSED_PASSWORD { login::cause_of_refused_password() } else { row.1 };
    (!is_about_existence || reason.contains("does not exist")).then_some(cause)
}

/// Returns true if the server refused the password. An open instance of DuckDB keeps its password.
#[must_use]
pub fn is_refused_password(text: &str) -> bool {
    reason(text).contains(REFUSED_PASSWORD)
}

/// Returns true if the catalog's role lacks a privilege. The text of the statement is ignored.
#[must_use]
pub fn is_permission_denied(text: &str) -> bool {
    reason(text).contains("permission denied")
}

/// Remedies for an operator, by a part of the message.
const REMEDIES: [(&str, &str); 12] = [
    (
        "permission denied for",
        "grant it to the role that DUCKLAKE_CATALOG names, or use the role that created the lake",
    ),
    ("must be owner of", "use the role that created the lake"),
    (
        "does not exist",
        "the catalog is incomplete; restore it from a backup, or, if there is no lake yet, create \
         it with `ducktide init`",
    ),
    (
        "no such table:",
        "the catalog is incomplete; restore it from a backup, or, if there is no lake yet, create \
         it with `ducktide init`",
    ),
    ("password authentication failed", "check DUCKLAKE_CATALOG, PGPASSWORD and ~/.pgpass"),
    ("password missing", "set the password in DUCKLAKE_CATALOG, PGPASSWORD or ~/.pgpass"),
    ("no password supplied", "set the password in DUCKLAKE_CATALOG, PGPASSWORD or ~/.pgpass"),
    ("certificate verify failed", "check sslrootcert and sslmode in DUCKLAKE_CATALOG"),
    ("does not match host name", "connect by the name in the server's certificate"),
    (
        "unsupported startup parameter",
        "DUCKLAKE_CATALOG names a connection pooler; connect to PostgreSQL directly, or add `options` to \
         the pooler's ignore_startup_parameters",
    ),
    ("server does not support SSL", "set sslmode=disable, or enable TLS on the server"),
    (
        "attempt to write a readonly database",
        "make the catalog's file, its -wal and -shm files and their directory writable",
    ),
];

/// Returns the remedy for a fault.
fn remedy(reason: &str) -> Option<&'static str> {
    REMEDIES.iter().find(|(message, _)| reason.contains(message)).map(|(_, remedy)| *remedy)
}

/// Appends the remedy, if there is one, to an error of Ducktide's own connection to the catalog.
#[must_use]
pub fn with_remedy(reason: String) -> String {
    match remedy(&reason) {
        Some(remedy) => format!("{reason}; {remedy}"),
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_errors_are_recognized() {
        let duckdb = duckdb::Connection::open_in_memory().expect("an instance");
        duckdb
            .execute_batch("SET memory_limit = '2MB'; SET temp_directory = ''")
            .expect("settings");
        let too_much = "CREATE TABLE t AS SELECT range::VARCHAR AS v FROM range(10000000)";

        let error = duckdb.execute_batch(too_much).expect_err("2 MB do not hold it").to_string();

        assert!(is_out_of_memory(&error), "{error}");
    }

    #[test]
    fn statement_text_does_not_affect_the_cause() {
        let text = "Failed to execute query \"INSERT INTO t VALUES ('Connection refused')\": ERROR:  \
                    permission denied for table t";
        assert_eq!(cause(text), Some(Cause::Fault));
        assert!(is_refusal(text) && is_permission_denied(text));
        let text = "Failed to execute query \"INSERT INTO t VALUES ('permission denied for')\": \
                    FATAL:  sorry, too many clients already";
        assert_eq!(cause(text), Some(Cause::Outage));
        assert!(!is_permission_denied(text));
    }

    /// Error texts as the databases and their client libraries return them.
    const TEXTS: [(&str, Cause); 66] = [
        ("database is locked", Cause::Outage),
        ("database table is locked: ducktide_ledger", Cause::Outage),
        ("database schema is locked: main", Cause::Outage),
        ("database or disk is full", Cause::Outage),
        ("disk I/O error", Cause::Outage),
        ("unable to open database file", Cause::Outage),
        ("locking protocol", Cause::Outage),
        ("attempt to write a readonly database", Cause::Outage),
        ("database disk image is malformed", Cause::Fault),
        ("file is not a database", Cause::Fault),
        ("no such table: ducktide_meta", Cause::Fault),
        ("SSL error: certificate verify failed", Cause::Fault),
        ("server certificate for \"db\" does not match host name \"127.0.0.1\"", Cause::Fault),
        ("server does not support SSL, but SSL was required", Cause::Fault),
        ("FATAL:  password authentication failed for user \"me\"", Cause::Fault),
        ("fe_sendauth: no password supplied", Cause::Fault),
        (
            "FATAL:  no pg_hba.conf entry for host \"10.0.0.7\", user \"me\", database \"lake\", no \
             encryption",
            Cause::Fault,
        ),
        ("FATAL:  role \"me\" is not permitted to log in", Cause::Fault),
        ("FATAL:  unsupported startup parameter: options", Cause::Fault),
        ("connection to server at \"db\", port 5432 failed: Connection refused", Cause::Outage),
        ("could not connect to server: Connection refused", Cause::Outage),
        ("could not receive data from server: Connection timed out", Cause::Outage),
        ("could not receive data from server: Connection reset by peer", Cause::Outage),
        ("connection to server at \"db\", port 5432 failed: No route to host", Cause::Outage),
        ("connection to server at \"db\", port 5432 failed: Network is unreachable", Cause::Outage),
        ("could not send data to server: Broken pipe", Cause::Outage),
        ("SSL SYSCALL error: EOF detected", Cause::Outage),
        ("SSL connection has been closed unexpectedly", Cause::Outage),
        ("SSL error: unexpected eof while reading", Cause::Outage),
        ("could not send SSL negotiation packet: Broken pipe", Cause::Outage),
        ("could not send startup packet: Broken pipe", Cause::Outage),
        ("received invalid response to SSL negotiation: H", Cause::Outage),
        ("connection to server was lost", Cause::Outage),
        ("server closed the connection unexpectedly", Cause::Outage),
        ("no connection to the server", Cause::Outage),
        (
            "lost synchronization with server: got message type \"1\", length 825110816",
            Cause::Outage,
        ),
        ("insufficient data in \"T\" message", Cause::Outage),
        (
            "could not translate host name \"db\" to address: Name or service not known",
            Cause::Outage,
        ),
        ("connection to server at \"db\", port 5432 failed: timeout expired", Cause::Outage),
        ("another command is already in progress", Cause::Outage),
        ("no COPY in progress", Cause::Outage),
        ("FATAL:  sorry, too many clients already", Cause::Outage),
        (
            "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
            Cause::Outage,
        ),
        ("FATAL:  too many connections for role \"me\"", Cause::Outage),
        ("ERROR:  could not extend file \"base/5/1259\": No space left on device", Cause::Outage),
        ("ERROR:  out of shared memory", Cause::Outage),
        ("FATAL:  the database system is starting up", Cause::Outage),
        ("FATAL:  terminating connection due to administrator command", Cause::Outage),
        ("ERROR:  canceling statement due to lock timeout", Cause::Outage),
        ("ERROR:  could not obtain lock on row in relation \"t\"", Cause::Outage),
        ("ERROR:  deadlock detected", Cause::Outage),
        ("ERROR:  could not serialize access due to concurrent update", Cause::Outage),
        ("ERROR:  cannot execute INSERT in a read-only transaction", Cause::Outage),
        ("FATAL:  server conn crashed?", Cause::Outage),
        ("FATAL:  no more connections allowed (max_client_conn)", Cause::Outage),
        ("FATAL:  server login has been failing, cached error: connect failed", Cause::Outage),
        ("ERROR:  permission denied for table ducktide_meta", Cause::Fault),
        ("ERROR:  must be owner of table ducklake_data_file", Cause::Fault),
        ("ERROR:  relation \"ducktide_meta\" does not exist", Cause::Fault),
        ("ERROR:  function public.ducktide_advance() does not exist", Cause::Fault),
        ("ERROR:  schema \"lake\" does not exist", Cause::Fault),
        ("ERROR:  column \"message\" does not exist", Cause::Fault),
        ("FATAL:  database \"lake\" does not exist", Cause::Fault),
        ("FATAL:  role \"me\" does not exist", Cause::Fault),
        ("ERROR:  ducktide refused: malformed", Cause::Fault),
        ("ERROR:  ducktide refused: rows without a lake change", Cause::Fault),
    ];

    #[test]
    fn every_pattern_has_a_text_with_its_cause() {
        for (text, expected) in TEXTS {
            let error = format!("Failed to execute query \"SELECT 1\": {text}");
            let is_from_a_trigger = text.contains("ducktide refused");
            if !is_from_a_trigger {
                assert_eq!(cause(&error), Some(expected), "{text}");
            }
            assert_eq!(is_refusal(&error), expected == Cause::Fault, "{text}");
        }
        let has_text = |pattern: &str| TEXTS.iter().any(|(text, _)| reason(text).contains(pattern));
        for (pattern, _) in MESSAGES {
            assert!(has_text(pattern), "{pattern}");
        }
        for (pattern, _) in REMEDIES {
            // A message of Ducktide's own client.
            assert!(has_text(pattern) || pattern == "password missing", "{pattern}");
        }
    }

    #[test]
    fn statement_errors_are_refusals() {
        let duckdb = duckdb::Connection::open_in_memory().expect("an instance");
        for (sql, class) in [
            ("SELECT a", "Binder Error"),
            ("FROM missing", "Catalog Error"),
            ("SELECT error('no')", "Invalid Input Error"),
        ] {
            let error = duckdb.execute_batch(sql).expect_err(sql).to_string();
            assert!(error.starts_with(class) && is_refusal(&error), "{error}");
            assert!(!is_instance_broken(&error) && !is_out_of_memory(&error), "{error}");
        }
        assert!(is_instance_broken("INTERNAL Error: Attempted to dereference unique_ptr"));
        assert!(is_instance_broken(
            "FATAL Error: Failed: database has been invalidated because of a previous fatal error"
        ));
    }

    #[test]
    fn missing_objects_are_faults_and_existing_objects_are_not() {
        let failed = |reason: &str| cause(&format!("Failed to execute query \"x\": {reason}"));
        assert_eq!(failed("ERROR:  relation \"a\" already exists"), None);
        assert_eq!(failed("ERROR:  relation \"a\" does not exist"), Some(Cause::Fault));
        assert_eq!(failed("ERROR:  function a() does not exist"), Some(Cause::Fault));
    }
}
