//! What would break a careless lake, provoked: each test is named after what it prevents.
//!
//! `messages`, `commits`, `catalogs`, `paths`, `retention` and `postgres` speak to the lake itself, on both catalogs;
//! `broken_catalog` does so over connections that break; `workers` and `records` provoke with the real
//! programs.

mod broken_catalog;
mod case;
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

/// Makes two tests of each named function of a module, one for each catalog.
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
