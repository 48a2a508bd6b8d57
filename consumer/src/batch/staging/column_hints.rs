//! Hints about the encoding of columns.

/// Hints for the Parquet encoding of a table that do not follow from the types of its columns.
#[derive(Clone, Debug, Default)]
pub struct ColumnHints {
    /// Columns of enum symbols ([`ducktide_decoder::RecordDecoder::enum_columns`]), which get a
    /// dictionary and statistics.
    pub enums: Vec<String>,
    /// Text columns that get statistics (`--statistics`). Other text columns have none: statistics
    /// are stored in the catalog and appear in the log of PostgreSQL.
    pub statistics: Vec<String>,
    /// Columns of numbers or dates without statistics, because they contain bytes of payloads.
    pub no_statistics: Vec<String>,
    /// Columns by which the rows of each file are sorted (`--sort-by`). Such rows are held in
    /// memory until their file is written.
    pub sort_by: Vec<String>,
    /// True if all files are written to the folder of the table itself, whatever its columns.
    pub one_folder: bool,
}
