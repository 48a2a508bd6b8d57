//! Maintenance with catalog connections that are closed at any point of an operation.

use std::time::Duration;

use ducktide_lake::{Access, DuckLake};
use ducktide_maintenance::{MaintenanceOutcome, OrphanPolicy, Retention};
use ducktide_protocol::{ErrorKind, Result};
use ducktide_testbed::faults::{CommitFault, CommitProxy};

use super::{
    case::{Case, assert_exact, merge_once, new_database},
    in_an_hour,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Operation of the compactor.
type Operation = fn(&mut DuckLake) -> Result<MaintenanceOutcome>;

/// Runs an operation with connections that are closed after more and more bytes, until it
/// completes; after each attempt runs it again without a fault.
fn break_at_every_byte_count(operation: Operation) {
    let mut case = Case::in_database(&new_database(), "public");
    let proxy = CommitProxy::start(&case.address, CommitFault::CommitLost).unwrap();
    let (mut bytes, mut broken, mut commits) = (400, 0, 0);
    loop {
        // Creates something to merge, expire, remove and coalesce.
        case.fill(100 + commits * 10, 4);
        commits += 4;
        let mut operator = case.behind(&proxy, Access::Operate);
        proxy.cut_after(bytes);
        let outcome = operation(&mut operator);
        let has_cut = proxy.has_cut();
        proxy.disarm();

        let undisturbed = operation(&mut case.operator()).unwrap();
        assert!(matches!(undisturbed, MaintenanceOutcome::Done(_)), "{undisturbed:?}");
        assert_eq!(case.count(), u64::try_from(commits * 10).unwrap(), "after {bytes} bytes");
        match outcome {
            Ok(_) if !has_cut => break,
            // Closed after the operation, or in a query that DuckDB retries.
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
                broken += 1;
            }
        }
        bytes *= 2;
        assert!(bytes < 100 << 20, "it never completes");
    }
    assert!(broken > 0, "no connection was closed during the operation");
    assert_exact(&case);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_merge_with_a_broken_connection_is_repeated() {
    break_at_every_byte_count(merge_once);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn an_expiry_with_a_broken_connection_is_repeated() {
    break_at_every_byte_count(|lake| {
        ducktide_maintenance::expire_snapshots(lake, &Retention::by_age(in_an_hour()), TIMEOUT)
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_cleanup_with_a_broken_connection_is_repeated() {
    break_at_every_byte_count(|lake| {
        merge_once(lake)?;
        ducktide_maintenance::expire_snapshots(lake, &Retention::by_age(in_an_hour()), TIMEOUT)?;
        ducktide_maintenance::cleanup_old_files(lake, in_an_hour(), TIMEOUT)
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_removal_of_orphans_with_a_broken_connection_is_repeated() {
    break_at_every_byte_count(|lake| {
        ducktide_maintenance::remove_orphans(lake, &OrphanPolicy::default(), TIMEOUT)
    });
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_coalescing_with_a_broken_connection_is_repeated() {
    break_at_every_byte_count(|lake| {
        ducktide_maintenance::expire_snapshots(lake, &Retention::by_age(in_an_hour()), TIMEOUT)?;
        ducktide_maintenance::coalesce_ledger(lake, in_an_hour(), TIMEOUT)
    });
}
