//! Message of a database without the statement: errors of DuckDB and its extensions repeat the whole
//! statement, with minimum and maximum values of rows, keys and dead letters, before the message. Pure.

/// Texts that precede a statement, or the address of a catalog, in double quotes and then the message.
const QUOTES_FOLLOW: [&str; 7] = [
    "Failed to execute query \"",
    "Failed to execute statement \"",
    "Failed to prepare query \"",
    "Failed to prepare statement \"",
    "Failed to prepare COPY \"",
    "Failed to fetch results for query \"",
    "Unable to connect to Postgres at \"",
];

/// Returns the database's own message within an error's text, in one line.
///
/// The whole text goes to the log at debug level.
pub fn reason(text: &str) -> String {
    let found = QUOTES_FOLLOW.iter().filter_map(|start| Some((text.find(start)?, *start))).min();
    let own_words = match found {
        Some((at, start)) => {
            let quoted = &text[at + start.len()..];
            match quoted.rfind("\": ") {
                Some(end) => &quoted[end + 3..],
                None => &text[..at + start.len() - 2],
            }
        }
        // The address has single quotes only, and the reason follows its end at once.
        None => text
            .split_once("at path + \"")
            .and_then(|(_, address)| address.split_once('"'))
            .map_or(text, |(_, reason)| reason),
    };
    // PostgreSQL's DETAIL and DuckDB's LINE repeat values and statements; the first line is the message.
    // DuckDB breaks some of its own messages, though.
    let lines = own_words.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_message = |line: &&str| {
        !["DETAIL:", "LINE ", "CONTEXT:", "QUERY:", "STATEMENT:", "HINT:"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let line = if found.is_some() {
        lines.into_iter().next().unwrap_or_default().to_owned()
    } else {
        lines.take_while(is_message).collect::<Vec<_>>().join(" ")
    };
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { "no reason was given".to_owned() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_the_server_stays_without_statements_and_values() {
        let flush = "TransactionContext Error: Failed to commit: Failed to commit DuckLake \
                     transaction.\nFailed to flush changes into DuckLake: Failed to execute query \
                     \"INSERT INTO \"public\".ducklake_file_column_stats VALUES (1, 's3cret\": x');\n\
                     INSERT INTO t VALUES ('s3cret')\": ERROR:  permission denied for table t\n\
                     DETAIL:  Key (a)=(s3cret)\n";
        let cases = [
            (flush, "ERROR: permission denied for table t"),
            (
                "Failed to prepare query \"SELECT 's3cret'\": database is locked",
                "database is locked",
            ),
            (
                "IO Error: Failed to attach DuckLake MetaData \"m\" at path + \"postgres:host='db' \
                 password=s3cret\"Unable to connect to Postgres at \"host='db' password=s3cret\": \
                 connection to server at \"127.0.0.1\", port 1 failed: Connection refused\n\tIs the \
                 server running on that host and accepting TCP/IP connections?\n",
                "connection to server at \"127.0.0.1\", port 1 failed: Connection refused",
            ),
            (
                "Binder Error: no column a\n\nLINE 1: INSERT INTO t VALUES ('s3cret')\n   ^",
                "Binder Error: no column a",
            ),
            ("ERROR: duplicate key\nDETAIL:  Key (path)=(s3cret) exists", "ERROR: duplicate key"),
            ("Failed to execute query \"s3cret", "Failed to execute query"),
            (
                "Failed to attach DuckLake MetaData \"m\" at path + \"postgres:s3cret='db'\"no such \"x\"",
                "no such \"x\"",
            ),
            ("plain", "plain"),
            ("", "no reason was given"),
        ];
        for (text, expected) in cases {
            assert_eq!(reason(text), expected);
        }
    }
}
