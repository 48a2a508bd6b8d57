//! DuckDB's errors are known by their text only: this file is where they are told apart.
//!
//! No decision about a commit's outcome is ever made here; that is read from progress. The text
//! only tells whether waiting can help.

use crate::config::{CatalogLocation, LakeConfig};
use crate::error::LakeError;

/// Why the lake could not be attached, without the password that DuckDB repeats in its text.
pub(crate) fn attach(config: &LakeConfig, error: &duckdb::Error) -> LakeError {
    let mut text = error.to_string();
    if let CatalogLocation::Postgres(url) = &config.catalog {
        text = text.replace(url.as_str(), &config.catalog.to_string());
    }
    let context = format!("attach the lake: catalog=`{}`", config.catalog);
    let remedy = if text.contains("creating a new DuckLake is explicitly disabled") {
        "there is no lake; make it with `ducktide init`"
    } else if text.contains("does not match existing data path") {
        "leave --data-path away, or give the one that the lake was made with"
    } else if text.contains("data_path is not set") {
        "a new lake needs --data-path"
    } else if is_outage(&text) {
        return LakeError::unavailable(context).because(text);
    } else {
        return LakeError::invalid(context).because(text);
    };
    LakeError::invalid(format!("{remedy}: {context}")).because(text)
}

/// Whether an error before COMMIT says that the files or the table are wrong, so that sending the
/// same again cannot succeed.
pub(crate) fn is_refusal(text: &str) -> bool {
    const PERMANENT: [&str; 5] = [
        "Invalid Input Error",
        "Binder Error",
        "Catalog Error",
        "ducktide refused: malformed",
        "ducktide refused: rows without a lake change",
    ];
    !is_outage(text) && PERMANENT.iter().any(|pattern| text.contains(pattern))
}

/// Whether a statement needs more memory than it may have, spilling to disk included.
pub(crate) fn is_out_of_memory(text: &str) -> bool {
    text.contains("Out of Memory Error")
}

/// Whether DuckDB itself is broken: nothing works in this instance any more.
pub(crate) fn is_instance_broken(text: &str) -> bool {
    text.contains("INTERNAL Error") || text.contains("database has been invalidated")
}

/// Whether the catalog cannot be reached, or is busy, for the time being.
pub(crate) fn is_outage(text: &str) -> bool {
    const PASSING: [&str; 12] = [
        "Connection refused",
        "connection to server was lost",
        "could not connect",
        "could not translate host name",
        "database is locked",
        "database system is",
        "server closed the connection",
        "terminating connection",
        "timeout expired",
        "too many clients",
        "no connection to the server",
        "Failed to execute query \"ROLLBACK\"",
    ];
    PASSING.iter().any(|pattern| text.contains(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_that_needs_more_memory_says_so() {
        let duckdb = duckdb::Connection::open_in_memory().expect("an instance");
        duckdb
            .execute_batch("SET memory_limit = '2MB'; SET temp_directory = ''")
            .expect("settings");
        let too_much = "CREATE TABLE t AS SELECT range::VARCHAR AS v FROM range(10000000)";

        let error = duckdb.execute_batch(too_much).expect_err("2 MB do not hold it").to_string();

        assert!(is_out_of_memory(&error), "{error}");
    }
}
