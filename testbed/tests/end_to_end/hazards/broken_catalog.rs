//! Maintenance on a catalog whose connections break, wherever in an operation that is.

use std::time::Duration;

use ducktide_lake::{Access, DuckLake};
use ducktide_maintenance::{Maintained, OrphanPolicy, Retention};
use ducktide_protocol::{ErrorKind, Result};
use ducktide_testbed::faults::{CommitFault, CommitProxy};
use jiff::Timestamp;

use super::case::{Case, assert_exact, merge_once, new_database};

const TIMEOUT: Duration = Duration::from_secs(5);

/// One of the compactor's operations, and what has to be left for it to do.
type Operation = fn(&mut DuckLake) -> Result<Maintained>;

/// Has the operation run into a connection that breaks after ever more bytes, until none breaks any
/// more; after each it is done again, undisturbed.
fn break_at_every_byte_count(operation: Operation) {
    let mut case = Case::in_database(&new_database(), "public");
    let proxy = CommitProxy::start(&case.address, CommitFault::CommitLost).unwrap();
    let (mut bytes, mut broken, mut commits) = (400, 0, 0);
    loop {
        // Something to merge, to expire, to remove, to coalesce.
        case.fill(100 + commits * 10, 4);
        commits += 4;
        let mut operator = case.behind(&proxy, Access::Operate);
        proxy.cut_after(bytes);
        let outcome = operation(&mut operator);
        let has_cut = proxy.has_cut();
        proxy.disarm();

        let undisturbed = operation(&mut case.operator()).unwrap();
        assert!(matches!(undisturbed, Maintained::Done(_)), "{undisturbed:?}");
        assert_eq!(case.count(), u64::try_from(commits * 10).unwrap(), "after {bytes} bytes");
        match outcome {
            Ok(_) if !has_cut => break,
            // What came after the operation itself was cut, or what DuckDB asks again by itself.
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
                broken += 1;
            }
        }
        bytes *= 2;
        assert!(bytes < 100 << 20, "it never gets through");
    }
    assert!(broken > 0, "it was broken in the middle");
    assert_exact(&case);
}

/// What nothing is younger than.
fn soon() -> Timestamp {
    Timestamp::now() + Duration::from_hours(1)
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_merge_with_a_broken_connection_is_repeated() {
    break_at_every_byte_count(merge_once);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn an_expiry_with_a_broken_connection_is_repeated() {
    break_at_every_byte_count(|lake| lake.expire_snapshots(&Retention::by_age(soon()), TIMEOUT));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_cleanup_with_a_broken_connection_is_repeated() {
    break_at_every_byte_count(|lake| {
        merge_once(lake)?;
        lake.expire_snapshots(&Retention::by_age(soon()), TIMEOUT)?;
        lake.cleanup_old_files(soon(), TIMEOUT)
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_removal_of_orphans_with_a_broken_connection_is_repeated() {
    break_at_every_byte_count(|lake| lake.remove_orphans(&OrphanPolicy::default(), TIMEOUT));
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_coalescing_with_a_broken_connection_is_repeated() {
    break_at_every_byte_count(|lake| {
        lake.expire_snapshots(&Retention::by_age(soon()), TIMEOUT)?;
        lake.coalesce_ledger(soon(), TIMEOUT)
    });
}
