//! Traits of typed rows, and the macro that implements them.

use ducktide_protocol::error::Result;

use super::Row;

/// A type that is read from the columns of a row, by name.
pub trait FromRow: Sized {
    /// Reads the columns of this type; additional columns are ignored.
    fn from_row(row: &Row) -> Result<Self>;
}

/// Returns the row itself, for callers that read columns by name.
impl FromRow for Row {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(row.clone())
    }
}

/// A row of one catalog table.
pub trait CatalogTable: FromRow {
    /// Name of the table, without a schema.
    const TABLE: &'static str;

    /// Names of the columns that are read and written, in the order of the fields.
    const COLUMNS: &'static [&'static str];

    /// Returns the values as SQL literals, in the order of [`COLUMNS`](Self::COLUMNS).
    fn literals(&self) -> Vec<String>;

    /// Returns the columns for a SELECT.
    #[must_use]
    fn columns() -> String {
        Self::COLUMNS.join(", ")
    }

    /// Returns the columns for a SELECT from several tables, this one under an alias.
    #[must_use]
    fn columns_of(alias: &str) -> String {
        let columns = Self::COLUMNS.iter().map(|column| format!("{alias}.{column}"));
        columns.collect::<Vec<_>>().join(", ")
    }
}

/// Declares a struct that is read from a row: each field is the column of the same name.
///
/// With `from "table"` the struct is a row of that table and also implements [`CatalogTable`]; without
/// it, the struct is a row of any query.
///
/// ```
/// ducktide_lake::row_struct! {
///     /// Size of a table.
///     pub struct TableSize {
///         /// Name of the table.
///         pub table_name: String,
///         /// Sum of its files' sizes, in bytes.
///         pub bytes: u64,
///         /// Its partition key, if it has one.
///         pub partition_id: Option<i64>,
///     }
/// }
/// ```
#[macro_export]
macro_rules! row_struct {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident from $table:literal {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)+
        }
    ) => {
        $crate::row_struct! {
            @define Some($table);
            $(#[$meta])*
            $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type,)+ }
        }

        impl $crate::rows::CatalogTable for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),+];

            fn literals(&self) -> Vec<String> {
                vec![$($crate::rows::ToLiteral::to_literal(&self.$field)),+]
            }
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)+
        }
    ) => {
        $crate::row_struct! {
            @define None;
            $(#[$meta])*
            $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type,)+ }
        }
    };
    (
        @define $table:expr;
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(clippy::struct_field_names, reason = "fields have the names of columns")]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type,)+
        }

        impl $crate::rows::FromRow for $name {
            fn from_row(row: &$crate::rows::Row) -> ::ducktide_protocol::error::Result<Self> {
                Ok(Self { $($field: row.get_of($table, stringify!($field))?,)+ })
            }
        }
    };
}
