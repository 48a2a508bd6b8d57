//! Tests of hazards for the guarantee: each test provokes one, and is named for the expected
//! result.
//!
//! `workers` and `records` run the real consumers, `compactors` the real compactor. All other
//! modules call the lake directly, on both catalogs; `broken_catalog` uses connections that are
//! closed during an operation.

mod broken_catalog;
pub(crate) mod case;
mod catalogs;
mod commits;
mod compactors;
mod maintenance;
mod merges;
mod messages;
mod missing_files;
mod paths;
mod postgres;
mod records;
mod remedies;
mod replays;
mod retention;
mod spliced_merges;
mod tables;
mod workers;

use std::time::Duration;

use jiff::Timestamp;

use self::case::Case;

/// Generates two tests of each named function of a module, one for each catalog.
macro_rules! on_both_lakes {
    ($($test:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[test]
            #[ignore = "runs with those that need services"]
            fn $test() {
                super::$test(ducktide_testbed::catalog::CatalogKind::Sqlite);
            })+
        }

        mod on_postgres {
            $(#[test]
            #[ignore = "needs PostgreSQL"]
            fn $test() {
                super::$test(ducktide_testbed::catalog::CatalogKind::Postgres);
            })+
        }
    };
}
use on_both_lakes;

/// Returns a time that is later than all snapshots and files.
fn in_an_hour() -> Timestamp {
    Timestamp::now() + Duration::from_hours(1)
}

/// Returns the number of live data files of all tables.
fn live_files(case: &mut Case) -> i64 {
    let files = case.own("ducklake_data_file");
    case.number(&format!("SELECT count(*) FROM {files} WHERE end_snapshot IS NULL"))
}
