//! Classification of errors into outages and faults: one table for all answers of catalogs and disks.
//!
//! | source | known by | outage: retried | fault: the program ends, exit 4 |
//! |---|---|---|---|
//! | PostgreSQL | SQLSTATE | connection (08), resources and connection slots (53), locks (55P03, 55006), intervention (57), system (58), rollback (40), read-only standby (25006), timeouts (25P03, 25P04), internal (XX000) | login (28; a password that was changed is an outage, see `login` of the lake), no such database (3D), privileges, missing tables and functions (42), everything else |
//! | SQLite | result code | busy, locked, I/O, full, cannot open, read-only, protocol | corrupt, not a database, everything else |
//! | disk | error kind | full, quota, I/O, stale handle, everything else | permission, read-only file system, name too long, not a directory |
//! | DuckDB | text (`duckdb_error`): it has no codes | | |
//!
//! Each retry logs its reason, so an error that this table takes for an outage by mistake is visible.

use std::io;

/// Class of an error: does waiting help?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Ends without a change of this program, automatically or by an operator.
    Outage,
    /// Stays until an operator changes something; the program cannot continue.
    Fault,
}

/// Classifies a PostgreSQL error by its SQLSTATE.
#[must_use]
pub fn of_sqlstate(code: &str) -> Cause {
    const OUTAGES: [&str; 13] = [
        "08",    // connection
        "25006", // read-only transaction: a standby, or a server that ran out of room
        "25P03", // idle in transaction for too long
        "25P04", // transaction for too long
        "40",    // rolled back: serialization, deadlock
        "53",    // resources: connection slots, memory, disk
        "55006", // object in use
        "55P03", // lock not available
        "57P0",  // shutdown, crash, starting up, dropped connection
        "57014", // canceled: a timeout
        "58000", // system error
        "58030", // I/O error
        "XX000", // internal error; connection poolers answer so as well
    ];
    if OUTAGES.iter().any(|class| code.starts_with(class)) { Cause::Outage } else { Cause::Fault }
}

/// Classifies an error of the file system.
#[must_use]
pub fn of_io(error: &io::Error) -> Cause {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::InvalidFilename
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::InvalidInput
        | ErrorKind::Unsupported => Cause::Fault,
        _ => Cause::Outage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_for_postgres() {
        let outages = [
            "08000", "08001", "08003", "08006", "08P01", // connection
            "53100", "53200", "53300", "53400", // disk full, memory, too many connections
            "55006", "55P03", "57014", "57P01", "57P02", "57P03",
            "57P05", // locks, intervention
            "40001", "40P01", "25006", "25P03", "25P04", "58000", "58030", "XX000",
        ];
        for code in outages {
            assert_eq!(of_sqlstate(code), Cause::Outage, "{code}");
        }
        let faults = [
            "28000", "28P01", // not allowed to log in, wrong password
            "3D000", "3F000", // no such database, no such schema
            "42501", "42P01", "42883", "42703",
            "42601", // privilege, table, function, column, syntax
            "0A000", "22023", "54000", "55000", "P0001", "XX001", "XX002",
        ];
        for code in faults {
            assert_eq!(of_sqlstate(code), Cause::Fault, "{code}");
        }
    }

    #[test]
    fn every_row_of_the_table_for_disks() {
        let outages = [
            rustix::io::Errno::NOSPC,
            rustix::io::Errno::DQUOT,
            rustix::io::Errno::IO,
            rustix::io::Errno::STALE,
            rustix::io::Errno::MFILE,
            rustix::io::Errno::NOENT,
        ];
        for errno in outages {
            assert_eq!(of_io(&errno.into()), Cause::Outage, "{errno:?}");
        }
        let faults = [
            rustix::io::Errno::ACCESS,
            rustix::io::Errno::PERM,
            rustix::io::Errno::ROFS,
            rustix::io::Errno::NAMETOOLONG,
            rustix::io::Errno::NOTDIR,
        ];
        for errno in faults {
            assert_eq!(of_io(&errno.into()), Cause::Fault, "{errno:?}");
        }
    }
}
