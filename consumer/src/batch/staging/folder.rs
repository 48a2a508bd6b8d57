//! The folder of a staged file.

/// Where a file lies within the table's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Folder {
    /// In the folder itself: the table is not partitioned.
    Table,
    /// In that of a date, as days since 1970-01-01, or of no date.
    Date(Option<i32>),
}
