//! Names of any characters are stored as they are, on both catalogs: no name ends a literal or an
//! identifier in a statement, or is a part of a path.

use std::time::Duration;

use ducktide_protocol::position::{Offset, Partition};
use ducktide_protocol::table::Column;
use ducktide_protocol::{Lake as _, SourceSpec};
use ducktide_testbed::catalog::CatalogKind;
use ducktide_testbed::on_both_catalogs;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

use crate::hazards::case::{Case, assert_exact, is_committed, merge};

on_both_catalogs!(names_of_any_characters_are_stored_as_they_are);

/// Parts of names: quotes of SQL and of shells, ends of statements and comments, separators of paths,
/// line breaks, letters that look like others, and the longest name.
const PARTS: [&str; 22] = [
    "'",
    "''",
    "\"",
    "\\",
    ";",
    "--",
    "/*",
    "*/",
    "$$",
    "\n",
    "\r\n",
    "\t",
    "/",
    "../",
    "%27",
    "{}",
    "`",
    "е",
    "\u{200b}",
    "\u{202e}",
    "Ω",
    "DROP TABLE ducktide_ledger",
];

/// Number of random names, in addition to the fixed ones.
const RANDOM: usize = 12;

/// Seed of these names.
const SEED: u64 = 20;

fn names() -> Vec<String> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut names: Vec<_> = [
        "'); DROP TABLE ducktide_progress; --",
        "\"; DROP TABLE ducktide_progress; --",
        "../../etc/passwd",
        "$1",
        "events\u{0}",
        // Cyrillic letters that look like Latin ones.
        "еvеnts",
    ]
    .map(str::to_owned)
    .into();
    names.push("x".repeat(255));
    names.push("é".repeat(127));
    names.extend((0..RANDOM).map(|_| {
        let parts = random.random_range(1..6);
        (0..parts).map(|_| PARTS[random.random_range(0..PARTS.len())]).collect::<String>()
    }));
    names.sort();
    names.dedup();
    names
}

fn names_of_any_characters_are_stored_as_they_are(kind: CatalogKind) {
    let mut case = Case::filled(kind, 2);
    let mut added = 0;
    for name in names() {
        check_source(&mut case, &name);
        check_pin(&mut case, &name);
        added += usize::from(check_column(&mut case, &name));
    }
    assert!(added > 8, "only {added} names are columns");

    // The columns are in files, statistics and merges.
    case.fill(120, 2);
    merge(&mut case.operator());
    let commit = case.rows(1, 0, 5);
    assert!(is_committed(case.send(&commit)));
    assert_eq!(case.count(), 45);
    assert_exact(&case);
}

/// Registers a source with this name everywhere, and its group.
fn check_source(case: &mut Case, name: &str) {
    let spec = SourceSpec {
        table: "events".parse().unwrap(),
        topic: name.to_owned(),
        pipeline: name.to_owned(),
        cluster_id: Some(name.to_owned()),
        topic_id: Some(name.to_owned()),
    };
    let registered = case.lake().register_source(&spec, &[(Partition(0), Offset(0))]);
    if name.contains('\0') {
        // Neither catalog stores it; topics cannot contain it.
        assert!(registered.is_err(), "{name:?}");
        return;
    }
    let source = registered.unwrap_or_else(|error| panic!("{name:?}: {}", error.chain()));
    case.lake().record_group(source.id, name).unwrap();

    let sources = case.lake().sources().unwrap();
    let found = sources.iter().find(|found| found.id == source.id).unwrap();
    assert_eq!(found.spec, spec, "{name:?}");
    assert_eq!(case.lake().groups().unwrap()[&source.id], name);
}

/// Pins a snapshot under this name, unless the name is refused.
fn check_pin(case: &mut Case, name: &str) {
    let mut operator = case.operator();
    if operator.pin(name, None, Duration::from_secs(5)).is_err() {
        return;
    }
    assert!(operator.pins().unwrap().iter().any(|pin| pin.name == name), "{name:?}");
    operator.unpin(name).unwrap();
}

/// Adds a column of this name, unless the name is refused.
fn check_column(case: &mut Case, name: &str) -> bool {
    let text = case.table.shape.columns[1].column_type.clone();
    let table = "events".parse().unwrap();
    let added = case.lake().add_columns(&table, &[Column::new(name, text)]);
    let is_added = added.is_ok();
    case.table = case.lake().find_table(&table).unwrap().unwrap();
    let has_column = case.table.shape.columns.iter().any(|column| column.name == name);
    assert_eq!(is_added, has_column, "{name:?}: {:?}", added.err().map(|error| error.chain()));
    is_added
}
