//! Runs one statement and hands its answer on as text.

use std::io;
use std::time::{Duration, Instant};

use duckdb::Connection;
use duckdb::types::Value;

use super::value;
use crate::failure::Failure;

/// One column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Whether it holds numbers.
    pub(crate) is_number: bool,
}

/// What cells are made into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cells {
    /// Text as DuckDB casts it.
    Text,
    /// JSON values.
    Json,
}

/// One row; None is NULL.
pub(crate) type Row = Vec<Option<String>>;

/// Takes an answer.
pub(crate) trait Sink {
    /// What follows has these columns. Not called for a statement without an answer.
    fn start(&mut self, columns: Vec<Column>) -> io::Result<()>;
    fn row(&mut self, row: Row) -> io::Result<()>;
    fn finish(&mut self, elapsed: Duration) -> io::Result<()>;
}

/// Runs one statement.
///
/// What can stand in a FROM clause is wrapped in a query that casts each column, so that DuckDB
/// itself writes every type it knows. The rest (SET, EXPLAIN, CALL, INSERT, …) runs as it is.
pub(crate) fn run(
    connection: &Connection,
    statement: &str,
    cells: Cells,
    sink: &mut dyn Sink,
) -> Result<(), Failure> {
    let started = Instant::now();
    match describe(connection, statement) {
        Some(columns) => run_cast(connection, statement, columns, cells, sink)?,
        None => run_as_it_is(connection, statement, cells, sink)?,
    }
    Ok(sink.finish(started.elapsed())?)
}

/// The columns that a statement returns; None when it cannot be part of a query, or is wrong: then
/// DuckDB's words should be about what the user wrote.
fn describe(connection: &Connection, statement: &str) -> Option<Vec<Column>> {
    // The line break ends a comment at the end of the statement.
    let sql = format!("DESCRIBE SELECT * FROM ({statement}\n)");
    let mut prepared = connection.prepare(&sql).ok()?;
    let columns = prepared.query_map([], |row| {
        let (name, column_type): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(Column { name, is_number: is_number(&column_type) })
    });
    columns.ok()?.collect::<duckdb::Result<_>>().ok()
}

fn is_number(column_type: &str) -> bool {
    const INTEGERS: [&str; 10] = [
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "HUGEINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "UHUGEINT",
    ];
    let is_list = column_type.ends_with(']');
    INTEGERS.contains(&column_type)
        || ["FLOAT", "DOUBLE", "BIGNUM"].contains(&column_type)
        || column_type.starts_with("DECIMAL") && !is_list
}

fn run_cast(
    connection: &Connection,
    statement: &str,
    columns: Vec<Column>,
    cells: Cells,
    sink: &mut dyn Sink,
) -> Result<(), Failure> {
    let cast = match cells {
        Cells::Text => "COLUMNS(*)::VARCHAR",
        Cells::Json => "to_json(COLUMNS(*))::VARCHAR",
    };
    let width = columns.len();
    let mut prepared = connection.prepare(&format!("SELECT {cast} FROM ({statement}\n)"))?;
    let mut rows = prepared.query([])?;
    sink.start(columns)?;
    while let Some(row) = rows.next()? {
        sink.row((0..width).map(|column| row.get(column)).collect::<duckdb::Result<_>>()?)?;
    }
    Ok(())
}

fn run_as_it_is(
    connection: &Connection,
    statement: &str,
    cells: Cells,
    sink: &mut dyn Sink,
) -> Result<(), Failure> {
    let mut prepared = connection.prepare(statement)?;
    let mut rows = prepared.query([])?;
    let columns = rows.as_ref().map(columns_of).unwrap_or_default();
    let width = columns.len();
    let mut columns = Some(columns);
    while let Some(row) = rows.next()? {
        // Statements that return nothing have a column too, but no rows.
        if let Some(columns) = columns.take() {
            sink.start(columns)?;
        }
        let value = |column| row.get(column).map(|value: Value| cell(&value, cells));
        sink.row((0..width).map(value).collect::<duckdb::Result<_>>()?)?;
    }
    Ok(())
}

fn columns_of(statement: &duckdb::Statement<'_>) -> Vec<Column> {
    let names = statement.column_names().into_iter().enumerate();
    names
        .map(|(index, name)| Column { name, is_number: statement.column_type(index).is_numeric() })
        .collect()
}

fn cell(value: &Value, cells: Cells) -> Option<String> {
    let text = value::text(value)?;
    Some(match cells {
        Cells::Json if !value::is_json_literal(value) => serde_json::Value::from(text).to_string(),
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Taken {
        columns: Vec<Column>,
        rows: Vec<Row>,
    }

    impl Sink for Taken {
        fn start(&mut self, columns: Vec<Column>) -> io::Result<()> {
            self.columns = columns;
            Ok(())
        }

        fn row(&mut self, row: Row) -> io::Result<()> {
            self.rows.push(row);
            Ok(())
        }

        fn finish(&mut self, _: Duration) -> io::Result<()> {
            Ok(())
        }
    }

    fn taken(sql: &str, cells: Cells) -> Result<Taken, Failure> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch("SET TimeZone = 'UTC'; CREATE TABLE t (i INTEGER)")?;
        let mut taken = Taken::default();
        run(&connection, sql, cells, &mut taken)?;
        Ok(taken)
    }

    fn texts(sql: &str) -> Vec<String> {
        let taken = taken(sql, Cells::Text).unwrap();
        let cells = taken.rows.into_iter().flatten();
        cells.map(|cell| cell.unwrap_or("NULL".to_owned())).collect()
    }

    #[test]
    fn duckdb_writes_every_type_it_knows() {
        let row = texts("FROM test_all_types() LIMIT 1");

        assert!(row.len() > 40, "{row:?}");
    }

    #[test]
    fn json_is_typed_and_nested() {
        let sql = "SELECT 1 AS a, 'x' AS b, [1, NULL] AS c, {'k': true} AS d, NULL AS e -- end";
        let taken = taken(sql, Cells::Json).unwrap();
        let row: Vec<_> = taken.rows[0].iter().map(Option::as_deref).collect();

        let expected = [Some("1"), Some("\"x\""), Some("[1,null]"), Some("{\"k\":true}"), None];
        assert_eq!(row, expected);
    }

    #[test]
    fn numbers_are_told_from_other_columns() {
        let sql = "SELECT 1 AS a, 1.5 AS b, 'x' AS c, [1.5] AS d, 2::DOUBLE AS e";
        let taken = taken(sql, Cells::Text).unwrap();
        let numbers: Vec<_> = taken.columns.iter().map(|column| column.is_number).collect();

        assert_eq!(numbers, [true, true, false, false, true]);
    }

    #[test]
    fn statements_that_are_no_queries_run_too() {
        assert_eq!(texts("INSERT INTO t VALUES (1), (2)"), ["2"]);
        assert_eq!(
            texts("INSERT INTO t VALUES (7) RETURNING i, DATE '2026-11-01'"),
            ["7", "2026-11-01"]
        );
        assert!(texts("SET threads = 1").is_empty());
        assert!(texts("EXPLAIN SELECT 1")[1].contains("PROJECTION"));
        assert_eq!(texts("DESCRIBE t")[..2], ["i", "INTEGER"]);
    }

    #[test]
    fn a_refusal_is_about_what_was_written() {
        let error = taken("SELECT nothing FROM t", Cells::Text).err().unwrap().to_string();

        assert!(error.contains("nothing") && error.contains("SELECT nothing FROM t"), "{error}");
        assert!(!error.contains("COLUMNS"), "{error}");
    }
}
