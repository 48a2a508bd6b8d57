//! Runs one statement and passes its result on as text.

use std::io;
use std::time::{Duration, Instant};

use duckdb::Connection;
use duckdb::types::Value;

use super::value;
use crate::failure::Failure;

/// One column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResultColumn {
    pub(crate) name: String,
    /// The type of the column is numeric.
    pub(crate) is_number: bool,
}

/// Format to which cells are converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CellFormat {
    /// Text as DuckDB casts it.
    Text,
    /// JSON values.
    Json,
}

/// One row; None is NULL.
pub(crate) type Row = Vec<Option<String>>;

/// Receiver of a result.
pub(crate) trait ResultSink {
    /// Starts a result with these columns. Not called for a statement without a result.
    fn start(&mut self, columns: Vec<ResultColumn>) -> io::Result<()>;
    fn row(&mut self, row: Row) -> io::Result<()>;
    fn finish(&mut self, elapsed: Duration) -> io::Result<()>;
}

/// Runs one statement.
///
/// A statement that can be part of a FROM clause is wrapped in a query that casts each column, so that
/// DuckDB formats all types. Others (SET, EXPLAIN, CALL, INSERT, …) run unchanged.
pub(crate) fn run(
    connection: &Connection,
    statement: &str,
    cells: CellFormat,
    sink: &mut dyn ResultSink,
) -> Result<(), Failure> {
    let started = Instant::now();
    match describe(connection, statement) {
        Some(columns) => run_cast(connection, statement, columns, cells, sink)?,
        None => run_unchanged(connection, statement, cells, sink)?,
    }
    Ok(sink.finish(started.elapsed())?)
}

/// Returns the columns of a statement; None if it cannot be part of a query or is wrong: DuckDB's error
/// is then about the statement of the user.
fn describe(connection: &Connection, statement: &str) -> Option<Vec<ResultColumn>> {
    // The line break ends a comment at the end of the statement.
    let sql = format!("DESCRIBE SELECT * FROM ({statement}\n)");
    let mut prepared = connection.prepare(&sql).ok()?;
    let columns = prepared.query_map([], |row| {
        let (name, column_type): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(ResultColumn { name, is_number: is_number(&column_type) })
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
    columns: Vec<ResultColumn>,
    cells: CellFormat,
    sink: &mut dyn ResultSink,
) -> Result<(), Failure> {
    let cast = match cells {
        CellFormat::Text => "COLUMNS(*)::VARCHAR",
        CellFormat::Json => "to_json(COLUMNS(*))::VARCHAR",
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

fn run_unchanged(
    connection: &Connection,
    statement: &str,
    cells: CellFormat,
    sink: &mut dyn ResultSink,
) -> Result<(), Failure> {
    let mut prepared = connection.prepare(statement)?;
    let mut rows = prepared.query([])?;
    let columns = rows.as_ref().map(columns_of).unwrap_or_default();
    let width = columns.len();
    let mut columns = Some(columns);
    while let Some(row) = rows.next()? {
        // Statements without a result have a column too, but no rows.
        if let Some(columns) = columns.take() {
            sink.start(columns)?;
        }
        let value = |column| row.get(column).map(|value: Value| cell(&value, cells));
        sink.row((0..width).map(value).collect::<duckdb::Result<_>>()?)?;
    }
    Ok(())
}

fn columns_of(statement: &duckdb::Statement<'_>) -> Vec<ResultColumn> {
    let names = statement.column_names().into_iter().enumerate();
    names
        .map(|(index, name)| ResultColumn {
            name,
            is_number: statement.column_type(index).is_numeric(),
        })
        .collect()
}

fn cell(value: &Value, cells: CellFormat) -> Option<String> {
    let text = value::text(value)?;
    Some(match cells {
        CellFormat::Json if !value::is_json_literal(value) => {
            serde_json::Value::from(text).to_string()
        }
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct RecordedResult {
        columns: Vec<ResultColumn>,
        rows: Vec<Row>,
    }

    impl ResultSink for RecordedResult {
        fn start(&mut self, columns: Vec<ResultColumn>) -> io::Result<()> {
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

    fn run_recorded(sql: &str, cells: CellFormat) -> Result<RecordedResult, Failure> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch("SET TimeZone = 'UTC'; CREATE TABLE t (i INTEGER)")?;
        let mut result = RecordedResult::default();
        run(&connection, sql, cells, &mut result)?;
        Ok(result)
    }

    fn texts(sql: &str) -> Vec<String> {
        let result = run_recorded(sql, CellFormat::Text).unwrap();
        let cells = result.rows.into_iter().flatten();
        cells.map(|cell| cell.unwrap_or("NULL".to_owned())).collect()
    }

    #[test]
    fn duckdb_formats_all_of_its_types() {
        let row = texts("FROM test_all_types() LIMIT 1");

        assert!(row.len() > 40, "{row:?}");
    }

    #[test]
    fn json_is_typed_and_nested() {
        let sql = "SELECT 1 AS a, 'x' AS b, [1, NULL] AS c, {'k': true} AS d, NULL AS e -- end";
        let result = run_recorded(sql, CellFormat::Json).unwrap();
        let row: Vec<_> = result.rows[0].iter().map(Option::as_deref).collect();

        let expected = [Some("1"), Some("\"x\""), Some("[1,null]"), Some("{\"k\":true}"), None];
        assert_eq!(row, expected);
    }

    #[test]
    fn numeric_columns_are_detected() {
        let sql = "SELECT 1 AS a, 1.5 AS b, 'x' AS c, [1.5] AS d, 2::DOUBLE AS e";
        let result = run_recorded(sql, CellFormat::Text).unwrap();
        let numbers: Vec<_> = result.columns.iter().map(|column| column.is_number).collect();

        assert_eq!(numbers, [true, true, false, false, true]);
    }

    #[test]
    fn statements_other_than_queries_run_unchanged() {
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
    fn an_error_is_about_the_statement_of_the_user() {
        let error =
            run_recorded("SELECT nothing FROM t", CellFormat::Text).err().unwrap().to_string();

        assert!(error.contains("nothing") && error.contains("SELECT nothing FROM t"), "{error}");
        assert!(!error.contains("COLUMNS"), "{error}");
    }
}
