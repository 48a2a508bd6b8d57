//! Names of tables, and their SQL.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Schema of table names without one, as in DuckDB.
const DEFAULT_SCHEMA: &str = "main";

/// Maximum length of a directory's name on common file systems, and so of a table's, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Name of a table with its schema. The catalog is always the attached lake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Schema; `main` if none was given.
    pub schema: String,
    /// Name within the schema.
    pub table: String,
}

/// Text that is not `table` or `schema.table`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "table name must be `table` or `schema.table`, of letters, digits, `_` and `-`, each of at most \
     {MAX_NAME_BYTES} bytes name=`{name}`"
)]
pub struct InvalidTableName {
    name: String,
}

impl TableName {
    /// Returns the name; fails if it is too long for a directory.
    pub fn fit_directory(self) -> Result<Self, InvalidTableName> {
        if self.schema.len().max(self.table.len()) > MAX_NAME_BYTES {
            return Err(InvalidTableName { name: self.to_string() });
        }
        Ok(self)
    }

    /// Returns the name in SQL, schema and table quoted.
    #[must_use]
    pub fn sql(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.table))
    }
}

impl FromStr for TableName {
    type Err = InvalidTableName;

    fn from_str(name: &str) -> Result<Self, InvalidTableName> {
        let (schema, table) = name.split_once('.').unwrap_or((DEFAULT_SCHEMA, name));
        if is_path_safe(schema) && is_path_safe(table) {
            Ok(Self { schema: schema.to_owned(), table: table.to_owned() })
        } else {
            Err(InvalidTableName { name: name.to_owned() })
        }
    }
}

/// Returns true if DuckLake uses the name unchanged as a directory, where it expects the table's files.
fn is_path_safe(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// Quotes an identifier for SQL.
#[must_use]
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_without_a_schema_is_in_main() {
        let name: TableName = "events".parse().unwrap();

        assert_eq!(name.to_string(), "main.events");
        assert_eq!(name.sql(), r#""main"."events""#);
    }

    #[test]
    fn a_qualified_name_keeps_its_schema() {
        let name: TableName = "raw.events".parse().unwrap();

        assert_eq!((name.schema.as_str(), name.table.as_str()), ("raw", "events"));
    }

    #[test]
    fn names_that_could_leave_the_data_path_are_refused() {
        for name in ["", ".", "a.", ".b", "a.b.c", "../x", "a/b", "a\"b", "a b"] {
            assert!(name.parse::<TableName>().is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_a_directory_below_the_data_path_or_refused(
            name in "[a-zA-Zе\\-_.]{0,9}|[./\\\\ '\";\\x00\\n\u{202e}éх]{0,9}|\\PC{0,300}",
        ) {
            let Ok(name) = name.parse::<TableName>() else { return Ok(()) };
            let root = Path::new("/lake");
            let directory = root.join(&name.schema).join(&name.table);
            let parts: Vec<_> = directory.components().collect();
            prop_assert_eq!(parts.len(), 4);
            prop_assert!(parts[1..].iter().all(|part| matches!(part, Component::Normal(_))));
            let fits = name.clone().fit_directory().is_ok();
            prop_assert_eq!(fits, name.schema.len().max(name.table.len()) <= MAX_NAME_BYTES);
        }

        #[test]
        fn a_quoted_identifier_ends_at_its_last_quote(name in "\\PC{0,30}|[\"'; ]{0,9}") {
            let quoted = quote_identifier(&name);
            let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
            prop_assert_eq!(inner.replace("\"\"", ""), name.replace('"', ""));
            prop_assert_eq!(inner.matches('"').count(), 2 * name.matches('"').count());
        }
    }

    #[test]
    fn a_quote_inside_an_identifier_is_doubled() {
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
    }
}
