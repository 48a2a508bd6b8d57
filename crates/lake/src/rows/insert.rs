//! INSERT statements for rows of catalog tables.

use super::CatalogTable;

/// Builder of an INSERT statement: column names, and rows of SQL expressions.
#[derive(Clone, Debug)]
pub struct Insert {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Insert {
    /// Creates an insert of the rows, with all their columns.
    #[must_use]
    pub fn of<T: CatalogTable>(rows: &[T]) -> Self {
        Self {
            columns: T::COLUMNS.iter().map(|column| (*column).to_owned()).collect(),
            rows: rows.iter().map(T::literals).collect(),
        }
    }

    /// Adds a column with the same SQL expression in each row.
    #[must_use]
    pub fn with(self, column: &str, sql: &str) -> Self {
        let values = vec![sql.to_owned(); self.rows.len()];
        self.with_each(column, values)
    }

    /// Adds a column with one SQL expression per row. Rows beyond the number of `values` are dropped.
    #[must_use]
    pub fn with_each(mut self, column: &str, values: Vec<String>) -> Self {
        self.columns.push(column.to_owned());
        let rows = self.rows.into_iter().zip(values);
        self.rows = rows
            .map(|(mut row, value)| {
                row.push(value);
                row
            })
            .collect();
        self
    }

    /// Returns the statement for a table; None if there are no rows.
    #[must_use]
    pub fn sql(&self, table: &str) -> Option<String> {
        if self.rows.is_empty() {
            return None;
        }
        let rows = self.rows.iter().map(|row| format!("({})", row.join(", ")));
        let rows = rows.collect::<Vec<_>>().join(", ");
        Some(format!("INSERT INTO {table}({}) VALUES {rows}", self.columns.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::row_struct! {
        struct Example from "example" {
            id: i64,
            name: Option<String>,
        }
    }

    #[test]
    fn rows_become_one_statement() {
        let rows = [(1, Some("a".to_owned())), (2, None)].map(|(id, name)| Example { id, name });
        let insert =
            Insert::of(&rows).with("at", "now()").with_each("rowid", vec!["7".into(), "8".into()]);

        let sql = "INSERT INTO example(id, name, at, rowid) \
                   VALUES (1, 'a', now(), 7), (2, NULL, now(), 8)";
        assert_eq!(insert.sql(Example::TABLE).as_deref(), Some(sql));
        assert_eq!(Insert::of::<Example>(&[]).sql("example"), None);
    }
}
