//! Row of a query result, read by column name.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use duckdb::types::ValueRef;
use duckdb::{Connection, Statement};
use ducktide_protocol::error::{LakeError, Result};
use thiserror::Error;

use super::value::{FromValue, ValueError};

/// Row of a query result. Values are texts, in the format of the catalog database.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Rc<[String]>,
    values: Vec<Option<String>>,
    /// Index of the column after the one that was read last. Callers read in the order of the SELECT, so
    /// the first comparison usually finds the name.
    next: Cell<usize>,
}

impl Row {
    /// Returns the value of a column. NULL is an error unless `T` is an `Option`.
    pub fn get<T: FromValue>(&self, column: &str) -> Result<T> {
        self.get_of(None, column)
    }

    /// Returns the value of a column. Errors name the table.
    pub fn get_of<T: FromValue>(&self, table: Option<&'static str>, column: &str) -> Result<T> {
        let value = match self.position(column) {
            Some(index) => self.value(index).map_err(Problem::Value),
            None => Err(Problem::NoColumn),
        };
        value.map_err(|problem| failed(table, column, problem))
    }

    /// Returns the value of the first column, for queries with one column whose name does not matter.
    pub fn first<T: FromValue>(&self) -> Result<T> {
        let column = self.columns.first().map_or("", String::as_str);
        self.get(column)
    }

    fn value<T: FromValue>(&self, index: usize) -> Result<T, ValueError> {
        self.next.set(index + 1);
        T::from_value(self.values[index].as_deref())
    }

    fn position(&self, column: &str) -> Option<usize> {
        let next = self.next.get();
        if self.columns.get(next).is_some_and(|name| name == column) {
            return Some(next);
        }
        self.columns.iter().position(|name| name == column)
    }

    /// Creates a row from column names and values, for tests.
    #[must_use]
    pub fn of(cells: &[(&str, Option<&str>)]) -> Self {
        Self {
            columns: cells.iter().map(|(column, _)| (*column).to_owned()).collect(),
            values: cells.iter().map(|(_, value)| value.map(str::to_owned)).collect(),
            next: Cell::new(0),
        }
    }
}

/// Runs a query and returns all rows.
pub(crate) fn query(connection: &Connection, sql: &str) -> duckdb::Result<Vec<Row>> {
    let mut found = Vec::new();
    each(connection, sql, |row| {
        found.push(row);
        Ok::<_, duckdb::Error>(())
    })?;
    Ok(found)
}

/// Runs a query and passes each row to `take`, until `take` returns an error.
pub(crate) fn each<E: From<duckdb::Error>>(
    connection: &Connection,
    sql: &str,
    mut take: impl FnMut(Row) -> Result<(), E>,
) -> Result<(), E> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut columns: Option<Rc<[String]>> = None;
    while let Some(row) = rows.next()? {
        let names = columns.get_or_insert_with(|| names(row.as_ref()));
        let values = (0..names.len()).map(|index| text(row.get_ref(index)?, index, &names[index]));
        let values = values.collect::<duckdb::Result<_>>()?;
        take(Row { columns: Rc::clone(names), values, next: Cell::new(0) })?;
    }
    Ok(())
}

/// Failure of a query, or of reading one of its rows.
pub(crate) enum QueryError {
    Query(duckdb::Error),
    Row(LakeError),
}

impl From<duckdb::Error> for QueryError {
    fn from(error: duckdb::Error) -> Self {
        Self::Query(error)
    }
}

fn names(statement: &Statement<'_>) -> Rc<[String]> {
    statement.column_names().into()
}

/// Returns a value as text. Types that are not listed are errors: queries cast them to text.
fn text(value: ValueRef<'_>, index: usize, column: &str) -> duckdb::Result<Option<String>> {
    Ok(Some(match value {
        ValueRef::Null => return Ok(None),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Boolean(is_true) => is_true.to_string(),
        ValueRef::TinyInt(number) => number.to_string(),
        ValueRef::SmallInt(number) => number.to_string(),
        ValueRef::Int(number) => number.to_string(),
        ValueRef::BigInt(number) => number.to_string(),
        ValueRef::HugeInt(number) => number.to_string(),
        ValueRef::UInt(number) => number.to_string(),
        ValueRef::UBigInt(number) => number.to_string(),
        other => {
            return Err(duckdb::Error::InvalidColumnType(
                index,
                column.to_owned(),
                other.data_type(),
            ));
        }
    }))
}

/// Error of a column that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct RowError {
    table: Option<&'static str>,
    column: String,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    NoColumn,
    Value(ValueError),
}

fn failed(table: Option<&'static str>, column: &str, problem: Problem) -> LakeError {
    let error = match problem {
        // A lost connection truncates the result: a value is missing in a column that is never NULL.
        Problem::Value(ValueError::Null) => LakeError::unavailable,
        Problem::NoColumn | Problem::Value(ValueError::Malformed { .. }) => LakeError::invalid,
    };
    error("read the catalog").because(RowError { table, column: column.to_owned(), problem })
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::NoColumn => f.write_str("the answer lacks a column:")?,
            Problem::Value(ValueError::Null) => f.write_str("the answer lacks a value:")?,
            Problem::Value(ValueError::Malformed { expected, .. }) => {
                write!(f, "the catalog holds a value that is not {expected}:")?;
            }
        }
        if let Some(table) = self.table {
            write!(f, " table=`{table}`")?;
        }
        write!(f, " column=`{}`", self.column)?;
        match &self.problem {
            Problem::Value(ValueError::Malformed { value, .. }) => write!(f, " value=`{value}`"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{CatalogTable as _, FromRow as _};
    use ducktide_protocol::ErrorKind;

    crate::row_struct! {
        struct Example from "ducklake_example" {
            id: i64,
            name: Option<String>,
            is_relative: bool,
        }
    }

    fn error(cells: &[(&str, Option<&str>)]) -> LakeError {
        Example::from_row(&Row::of(cells)).unwrap_err()
    }

    #[test]
    fn columns_are_read_by_name_in_any_order() {
        let row = Row::of(&[("other", None), ("is_relative", Some("1")), ("id", Some("7"))]);

        assert_eq!(row.get::<i64>("id").unwrap(), 7);
        assert!(row.get::<bool>("is_relative").unwrap());
        assert_eq!(row.get::<Option<String>>("other").unwrap(), None);
        assert_eq!(row.first::<Option<i64>>().unwrap(), None);
        assert_eq!(Example::columns_of("e"), "e.id, e.name, e.is_relative");
    }

    #[test]
    fn an_error_names_table_and_column() {
        let complete = [("id", Some("7")), ("name", None), ("is_relative", Some("f"))];
        let example = Example { id: 7, name: None, is_relative: false };
        assert_eq!(Example::from_row(&Row::of(&complete)).unwrap(), example);

        let null = error(&[("id", None)]);
        assert_eq!(null.kind(), ErrorKind::Unavailable, "the answer was cut off");
        assert!(null.chain().ends_with("table=`ducklake_example` column=`id`"), "{}", null.chain());
        let text = error(&[("id", Some("seven"))]);
        assert_eq!(text.kind(), ErrorKind::Invalid);
        assert!(text.chain().ends_with("column=`id` value=`seven`"), "{}", text.chain());
        let missing = error(&[("id", Some("7"))]);
        assert_eq!(missing.kind(), ErrorKind::Invalid);
        assert!(missing.chain().contains("lacks a column"), "{}", missing.chain());
    }

    #[test]
    fn values_of_all_types_are_read_as_text() {
        let duckdb = Connection::open_in_memory().unwrap();
        let sql = "SELECT 1::INTEGER AS a, 2::HUGEINT AS b, true AS c, NULL AS d, 'x' AS e UNION ALL \
                   SELECT 3, 4, false, NULL, 'y' ORDER BY a";
        let rows = query(&duckdb, sql).unwrap();

        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1].get::<i64>("a").unwrap(), 3);
        assert_eq!(rows[1].get::<u64>("b").unwrap(), 4);
        let truth = [&rows[0], &rows[1]].map(|row| row.get::<bool>("c").unwrap());
        assert_eq!(truth, [true, false]);
        assert_eq!(rows[0].get::<Option<i64>>("d").unwrap(), None);
        assert_eq!(rows[1].get::<String>("e").unwrap(), "y");
        assert!(query(&duckdb, "SELECT 1.5::DOUBLE AS a").is_err());
    }
}
