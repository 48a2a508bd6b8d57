//! The folder of a staged file.

/// Folder of a file within the folder of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Folder {
    /// The folder of the table: the table is not partitioned.
    Table,
    /// The folder of a date, in days since 1970-01-01, or of rows without a date.
    Date(Option<i32>),
}
