//! A short attack on each catalog; `cargo xtask chaos` makes longer ones.

#![expect(clippy::print_stdout, reason = "the report tells what a failing run was like")]

use std::time::Duration;

use ducktide_testbed::{
    catalog::CatalogKind,
    chaos::{self, Options},
};

/// The seeds choose the protocol: classic for PostgreSQL, KIP-848 for SQLite.
fn survive(seed: u64, catalog: CatalogKind) {
    let length = Duration::from_secs(45);
    let options = Options { seed, length, catalog, consumers: 3, rate: 1_500 };

    let report = chaos::run(&options, &mut |text| println!("{text}")).unwrap();

    println!("{report}");
    assert!(report.is_exact(), "{report}");
    assert!(report.kills() > 0, "{report}");
    assert!(report.compactor_kills() > 0, "{report}");
    assert!(report.merges() > 0, "{report}");
}

#[test]
#[ignore = "needs Kafka, the schema registry and PostgreSQL"]
fn a_short_attack_on_a_lake_in_postgres_leaves_it_exact() {
    survive(42, CatalogKind::Postgres);
}

#[test]
#[ignore = "needs Kafka and the schema registry"]
fn a_short_attack_on_a_lake_in_sqlite_leaves_it_exact() {
    survive(43, CatalogKind::Sqlite);
}
