//! Statements that `ducktide sql` refuses without `--write`: all that can write a file.
//!
//! DuckDB itself restricts statements to the lake's files and locks its settings. Within the lake it
//! would write files, although the lake is attached read-only: COPY and ATTACH create files, and
//! DuckLake's maintenance writes and removes data files before the catalog rejects the result (measured
//! on 1.5.5). These are refused by the kind of statement and by the function that is called.

use std::path::PathBuf;

use duckdb::Connection;

use super::statements::tokens;
use crate::failure::Failure;

/// Kinds of statements that are allowed. Those that change data can only write to the database in memory.
const ALLOWED: [&str; 29] = [
    "ABORT",
    "ALTER",
    "BEGIN",
    "COMMENT",
    "COMMIT",
    "CREATE",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DROP",
    "FROM",
    "INSERT",
    "MERGE",
    "PIVOT",
    "PRAGMA",
    "RESET",
    "ROLLBACK",
    "SELECT",
    "SET",
    "SHOW",
    "START",
    "SUMMARIZE",
    "TABLE",
    "TRUNCATE",
    "UNPIVOT",
    "UPDATE",
    "USE",
    "VALUES",
    "WITH",
];

/// Functions that write or remove files. Those of DuckLake have its prefix, or belong to the lake:
/// `ducklake_merge_adjacent_files('lake')`, `lake.merge_adjacent_files()`.
const WRITING_FUNCTIONS: [&str; 12] = [
    "add_data_files",
    "cleanup_old_files",
    "commit",
    "delete_orphaned_files",
    "enable_logging",
    "expire_snapshots",
    "flush_inlined_data",
    "force_checkpoint",
    "merge_adjacent_files",
    "rewrite_data_files",
    "set_commit_message",
    "set_option",
];
const DUCKLAKE_PREFIX: &str = "ducklake_";

/// Settings that can be changed: they affect this process only.
const SETTINGS: [&str; 4] = ["memory_limit", "preserve_insertion_order", "threads", "timezone"];

/// Returns the part of a statement that can write files: its kind, or a function.
pub(super) fn find_write(statement: &str) -> Option<String> {
    let tokens = tokens(statement);
    let kind = kind(&tokens)?.to_uppercase();
    if !ALLOWED.contains(&kind.as_str()) {
        return Some(kind);
    }
    let is_call = |two: &&[&str]| two[1] == "(";
    let mut called = tokens.windows(2).filter(is_call).map(|two| two[0].trim_matches('"'));
    let writes = |name: &&str| {
        let name = name.to_lowercase();
        WRITING_FUNCTIONS.contains(&name.strip_prefix(DUCKLAKE_PREFIX).unwrap_or(&name))
    };
    called.find(writes).map(str::to_lowercase)
}

/// Returns the first word of a statement, which is its kind; for `EXPLAIN …`, that of the explained one.
fn kind<'a>(tokens: &[&'a str]) -> Option<&'a str> {
    let at = tokens.iter().position(|token| *token != "(")?;
    let (first, rest) = (tokens[at], &tokens[at + 1..]);
    if !first.eq_ignore_ascii_case("EXPLAIN") {
        return Some(first);
    }
    match rest {
        ["(", option, ..] if !ALLOWED.contains(&option.to_uppercase().as_str()) => {
            let end = rest.iter().position(|token| *token == ")")?;
            kind(&rest[end + 1..])
        }
        [word, rest @ ..] if word.eq_ignore_ascii_case("ANALYZE") => kind(rest),
        _ => kind(rest),
    }
}

/// Restricts a connection to the lake's files and to a few settings, permanently.
pub(super) fn restrict(connection: &Connection, directories: &[PathBuf]) -> Result<(), Failure> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let list =
        |texts: Vec<String>| texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", ");
    let directories = directories.iter().map(|path| format!("{}/", path.display())).collect();
    let settings = SETTINGS.map(str::to_owned).to_vec();
    Ok(connection.execute_batch(&format!(
        "SET allowed_directories = [{}]; SET allowed_configs = [{}]; SET enable_external_access = false; \
         SET lock_configuration = true",
        list(directories),
        list(settings)
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_write_files_are_detected_by_their_kind() {
        for (statement, expected) in [
            ("COPY (FROM events) TO 'x.csv'", Some("COPY")),
            ("/* a */ -- b\n copy events TO 'x'", Some("COPY")),
            ("EXPLAIN ANALYZE COPY events TO 'x'", Some("COPY")),
            ("EXPLAIN (ANALYZE, FORMAT json) COPY events TO 'x'", Some("COPY")),
            ("explain (format json) (SELECT 1)", None),
            ("EXPLAIN (SELECT 1)", None),
            ("EXPLAIN ANALYZE FROM events", None),
            ("export database 'x'", Some("EXPORT")),
            ("ATTACH 'other.db'", Some("ATTACH")),
            ("FORCE INSTALL httpfs", Some("FORCE")),
            ("PREPARE p AS COPY events TO 'x'", Some("PREPARE")),
            ("CALL enable_logging(storage => 'file')", Some("CALL")),
            ("FROM events", None),
            ("SELECT 'COPY', copy FROM events", None),
            ("WITH copy AS (SELECT 1) FROM copy", None),
            ("((SELECT 1))", None),
            ("VALUES (1)", None),
        ] {
            assert_eq!(find_write(statement).as_deref(), expected, "{statement}");
        }
    }

    #[test]
    fn functions_that_write_files_are_detected_by_their_names() {
        for (statement, expected) in [
            ("FROM ducklake_merge_adjacent_files('lake')", Some("ducklake_merge_adjacent_files")),
            ("FROM lake.merge_adjacent_files()", Some("merge_adjacent_files")),
            (
                "SELECT * FROM \"Ducklake_Expire_Snapshots\" ('lake')",
                Some("ducklake_expire_snapshots"),
            ),
            ("FROM enable_logging(storage = 'file')", Some("enable_logging")),
            ("FROM ducklake_snapshots('lake')", None),
            ("FROM snapshots()", None),
            ("SELECT set_option FROM events", None),
            ("SELECT 'set_option(' FROM events", None),
        ] {
            assert_eq!(find_write(statement).as_deref(), expected, "{statement}");
        }
    }
}
