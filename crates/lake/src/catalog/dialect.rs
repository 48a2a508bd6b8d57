//! SQL dialects of the catalog databases.

use std::path::PathBuf;

use crate::config::{CatalogLocation, LakeConfig};
use crate::sql_text::quote;

/// SQL dialect of a catalog database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite.
    Sqlite {
        /// File of the catalog.
        file: PathBuf,
    },
    /// PostgreSQL.
    Postgres {
        /// Schema of the catalog's tables.
        schema: String,
    },
}

impl Dialect {
    /// Returns the dialect of a lake's catalog.
    #[must_use]
    pub(crate) fn of(config: &LakeConfig) -> Self {
        match &config.catalog {
            CatalogLocation::Sqlite(path) => Self::Sqlite { file: path.clone() },
            CatalogLocation::Postgres(_) => {
                Self::Postgres { schema: config.metadata_schema.clone() }
            }
        }
    }

    /// Returns the qualified name of a catalog table. It always includes the schema: without it
    /// PostgreSQL reads `public`, which can belong to another lake.
    #[must_use]
    pub fn table(&self, name: &str) -> String {
        match self {
            Self::Sqlite { .. } => name.to_owned(),
            Self::Postgres { schema } => format!("{schema}.{name}"),
        }
    }

    /// Returns true if the catalog's tables have row IDs and are read in their order (SQLite).
    #[must_use]
    pub const fn has_row_ids(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    /// Returns the expression for the current time, in the format in which DuckLake stores times.
    #[must_use]
    pub const fn now(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "strftime('%Y-%m-%d %H:%M:%f+00')",
            Self::Postgres { .. } => "now()",
        }
    }

    /// Returns the query for the names of the catalog's tables that are LIKE the pattern.
    #[must_use]
    pub fn tables_like_sql(&self, pattern: &str) -> String {
        match self {
            Self::Sqlite { .. } => format!(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE {} ORDER BY name",
                quote(pattern)
            ),
            Self::Postgres { schema } => format!(
                "SELECT tablename FROM pg_tables WHERE schemaname = {} AND tablename LIKE {} \
                 ORDER BY tablename",
                quote(schema),
                quote(pattern)
            ),
        }
    }

    /// Returns the query for the triggers of a lake: name, table, enabled (1 or 0).
    #[must_use]
    pub fn triggers_sql(&self) -> String {
        match self {
            Self::Sqlite { .. } => {
                "SELECT name, tbl_name AS table_name, 1 AS enabled FROM sqlite_master WHERE type = 'trigger'"
                    .to_owned()
            }
            Self::Postgres { schema } => format!(
                "SELECT t.tgname AS name, c.relname AS table_name, CASE WHEN t.tgenabled IN ('A', 'O') THEN 1 ELSE 0 END \
                 AS enabled FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {}",
                quote(schema)
            ),
        }
    }

    /// Returns the expression for the last `count` characters of a text.
    #[must_use]
    pub fn last_characters(&self, column: &str, count: usize) -> String {
        match self {
            Self::Sqlite { .. } => format!("substr({column}, -{count})"),
            Self::Postgres { .. } => format!("right({column}, {count})"),
        }
    }

    /// Returns the expression for the UTC day of a time in a DuckLake table, as `2026-11-24`. SQLite
    /// stores times as text, in the time zone of the client that wrote them; Ducktide writes UTC.
    #[must_use]
    pub fn utc_day(&self, column: &str) -> String {
        match self {
            Self::Sqlite { .. } => format!("substr({column}, 1, 10)"),
            Self::Postgres { .. } => {
                format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD')")
            }
        }
    }
}
