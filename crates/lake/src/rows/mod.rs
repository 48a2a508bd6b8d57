//! Typed rows of the catalog: one struct per table, with its columns as fields.
//!
//! | to read | use |
//! |---|---|
//! | rows of one table | a struct of this module: [`CatalogClient::select`](crate::CatalogClient::select) |
//! | a join, or computed columns | a struct of the caller, declared with [`row_struct!`](crate::row_struct), or [`Row::get`] by name |
//! | one value | [`CatalogClient::catalog_scalar`](crate::CatalogClient::catalog_scalar) |
//!
//! The fields of a struct have the names of the columns. A column that can be NULL is an `Option`; NULL
//! in any other column is an error that names table and column. Booleans and times are read in the
//! formats of both catalog databases. [`Insert`] writes rows.

mod catalog_table;
mod ducktide;
mod file;
mod insert;
mod row;
mod schema;
mod snapshot;
mod value;

pub use self::catalog_table::{CatalogTable, FromRow};
pub use self::ducktide::{IntentRow, MetaRow, PinRow, ProgressRow, SourceRow};
pub use self::file::{
    DataFileRow, DeleteFileRow, FileColumnStatsRow, FilePartitionValueRow, ScheduledFileRow,
};
pub use self::insert::Insert;
pub(crate) use self::row::{QueryError, each, query};
pub use self::row::{Row, RowError};
pub use self::schema::{ColumnRow, MetadataRow, NameMappingRow, SchemaRow, TableRow};
pub use self::snapshot::{SchemaVersionRow, SnapshotChangesRow, SnapshotRow};
pub use self::value::{FromValue, ToLiteral, ValueError};
