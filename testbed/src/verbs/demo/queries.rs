//! Typical queries of the lake, each with its SQL and its result.

use anyhow::{Context as _, Result};
use ducktide_testbed::duckdb_cli::quoted;
use serde::Deserialize;

use super::{
    catalog_watch::{CatalogWatch, LakeState},
    context::{DemoContext, TABLE},
};
use crate::verbs::terminal::{Terminal, grouped};

/// Query with its title.
struct Query {
    text: String,
    sql: String,
    answer: ResultFormat,
}

/// Part of a result that is printed.
enum ResultFormat {
    Full,
    /// Number of files read, from an executed plan.
    FilesRead,
}

/// Values from the lake for the queries.
#[derive(Debug, Deserialize)]
struct QueryValues {
    /// User with the most events; None if no event has a user.
    user: Option<String>,
    /// First day that is complete.
    day: String,
}

/// Runs and prints all queries.
pub(super) fn run_all(
    terminal: &mut Terminal,
    context: &DemoContext,
    killed: &LakeState,
) -> Result<()> {
    terminal.step("Query the lake");
    let newest = CatalogWatch::open(&context.catalog_file())?.read()?;
    let query_values = query_values(context)?;
    for query in queries(killed, newest.snapshot_id, &query_values) {
        run_query(terminal, context, &query)?;
    }
    Ok(())
}

fn query_values(context: &DemoContext) -> Result<QueryValues> {
    let lake = context.lake()?;
    let rows = lake.query(&format!(
        "SELECT (SELECT details->>'user_id' AS user FROM {TABLE} WHERE user IS NOT NULL
                 GROUP BY ALL ORDER BY count(*) DESC, user LIMIT 1) AS user,
             (SELECT min(event_date) + 1 FROM {TABLE})::VARCHAR AS day"
    ))?;
    let query_values = rows.into_iter().next().context("read values for queries: no result")?;
    serde_json::from_value(query_values).context("parse values for queries")
}

fn run_query(terminal: &mut Terminal, context: &DemoContext, query: &Query) -> Result<()> {
    terminal.query(&query.text);
    let answer = context.run(terminal, "ducktide", &["sql", &query.sql], "sql")?;
    match query.answer {
        ResultFormat::Full => terminal.print(&answer),
        ResultFormat::FilesRead => terminal.print(&files_read(&answer)),
    }
    Ok(())
}

/// Returns the lines of a plan with the number of files, without the frame.
fn files_read(plan: &str) -> String {
    let lines = plan.lines().map(|line| line.trim_matches(['│', '║', ' ']));
    let found: Vec<_> = lines.filter(|line| line.contains("Files Read")).collect();
    if found.is_empty() { plan.to_owned() } else { format!("... {} ...", found.join(", ")) }
}

fn queries(killed: &LakeState, newest: i64, query_values: &QueryValues) -> Vec<Query> {
    let whole = |text: &str, sql| Query { text: text.to_owned(), sql, answer: ResultFormat::Full };
    vec![
        whole("Events of each type in the last hour", by_type()),
        whole(
            &format!(
                "Rows in the lake when the consumer was killed, by snapshot ({} were counted then)",
                grouped(killed.rows)
            ),
            at(&format!("VERSION => {}", killed.snapshot_id)),
        ),
        whole(
            "Rows in the lake when the consumer was killed, by time",
            at(&format!("TIMESTAMP => {}", quoted(&killed.snapshot_time))),
        ),
        whole(
            "Critical errors of each service in the next two snapshots",
            critical_errors(killed.snapshot_id, newest),
        ),
        whole(
            "Last events of one user (the parentheses around ->> are required)",
            journey(query_values),
        ),
        whole("Column statistics from the catalog, without reading data files", statistics()),
        whole("Files and rows of each day", files_by_day()),
        Query {
            text: "Files that a query for one day reads".to_owned(),
            sql: one_day(&query_values.day),
            answer: ResultFormat::FilesRead,
        },
    ]
}

fn by_type() -> String {
    format!(
        "SELECT event_type, count(*) AS events
FROM {TABLE}
WHERE event_timestamp > now() - INTERVAL 1 HOUR
GROUP BY event_type ORDER BY events DESC"
    )
}

fn at(moment: &str) -> String {
    format!("SELECT count(*) AS rows FROM {TABLE} AT ({moment})")
}

/// Returns the query for the changes of at most two snapshots after the kill. The snapshot IDs are
/// literals: the function accepts nothing else.
fn critical_errors(killed: i64, newest: i64) -> String {
    let (first, last) = ((killed + 1).min(newest), (killed + 2).min(newest));
    format!(
        "SELECT details->>'service' AS service, count(*) AS critical_errors,
    min(snapshot_id) AS first_in_snapshot
FROM table_changes('{TABLE}', {first}, {last})
WHERE change_type = 'insert' AND (details->>'severity') = 'critical'
GROUP BY service ORDER BY critical_errors DESC"
    )
}

fn journey(query_values: &QueryValues) -> String {
    let user = quoted(query_values.user.as_deref().unwrap_or("user_1234"));
    format!(
        "SELECT event_timestamp, event_type,
    coalesce(details->>'login_method', details->>'feature_name') AS what
FROM {TABLE}
WHERE (details->>'user_id') = {user}
ORDER BY event_timestamp DESC LIMIT 5"
    )
}

fn statistics() -> String {
    "SELECT column_name, min_value, max_value, contains_null::BOOLEAN AS has_nulls
FROM __ducklake_metadata_lake.ducklake_table_column_stats
JOIN __ducklake_metadata_lake.ducklake_column USING (table_id, column_id)
WHERE end_snapshot IS NULL AND min_value IS NOT NULL
ORDER BY column_order"
        .to_owned()
}

fn files_by_day() -> String {
    "SELECT partition_value AS event_date, count(*) AS files, sum(record_count) AS rows
FROM __ducklake_metadata_lake.ducklake_data_file
JOIN __ducklake_metadata_lake.ducklake_file_partition_value USING (data_file_id)
WHERE end_snapshot IS NULL
GROUP BY event_date ORDER BY event_date"
        .to_owned()
}

fn one_day(day: &str) -> String {
    format!("EXPLAIN ANALYZE SELECT count(event_id) FROM {TABLE} WHERE event_date = '{day}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_plan_only_the_files_that_were_read_are_shown() {
        let plan = "┌──┐\n│       Total Files Read: 7      │\n│   0.02s   │\n└──┘\n";
        assert_eq!(files_read(plan), "... Total Files Read: 7 ...");
        assert_eq!(files_read("another plan"), "another plan");
    }

    #[test]
    fn changes_are_asked_of_snapshots_that_exist() {
        assert!(critical_errors(7, 30).contains("'events', 8, 9)"));
        assert!(critical_errors(7, 7).contains("'events', 7, 7)"));
    }
}
