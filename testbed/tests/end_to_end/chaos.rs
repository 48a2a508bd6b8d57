//! A short chaos test with each catalog and kind of storage; `cargo xtask chaos` runs longer ones.

#![expect(clippy::print_stdout, reason = "the report explains a failed run")]

use std::time::Duration;

use ducktide_testbed::{
    catalog::CatalogKind,
    chaos::{self, Options},
};

/// Runs a chaos test of 45 seconds. The seed selects the protocol: classic for PostgreSQL, KIP-848
/// for SQLite.
pub(super) fn assert_exact_after_faults(seed: u64, catalog: CatalogKind, in_object_storage: bool) {
    let length = Duration::from_secs(45);
    let options = Options { seed, length, catalog, in_object_storage, consumers: 3, rate: 600 };

    let report = chaos::run(&options, &mut |text| println!("{text}")).unwrap();

    println!("{report}");
    assert!(report.is_exact(), "{report}");
    assert!(report.kills() > 0, "{report}");
    assert!(report.compactor_kills() > 0, "{report}");
    assert!(report.merges() > 0, "{report}");
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn a_postgres_lake_is_exact_after_random_faults() {
    assert_exact_after_faults(42, CatalogKind::Postgres, false);
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_sqlite_lake_is_exact_after_random_faults() {
    assert_exact_after_faults(43, CatalogKind::Sqlite, false);
}
