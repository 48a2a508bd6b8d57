//! Hints about the encoding of columns.

/// What the types of a table's columns do not say about their Parquet encoding.
#[derive(Clone, Debug, Default)]
pub struct ColumnHints {
    /// Columns of enum symbols ([`ducktide_decoder::RecordDecoder::enum_columns`]): they get a
    /// dictionary and statistics.
    pub enums: Vec<String>,
    /// Columns of text that are to have statistics all the same (`--statistics`). They end up in the
    /// catalog and in PostgreSQL's log, so none have them unasked.
    pub statistics: Vec<String>,
    /// Columns of numbers or dates that are to have none, as they hold bytes of payloads.
    pub no_statistics: Vec<String>,
    /// Columns by which the rows of each file are sorted (`--sort-by`). Such rows wait in memory until
    /// their file is finished.
    pub sort_by: Vec<String>,
    /// Whether all files go to the table's own folder, whatever columns it has.
    pub one_folder: bool,
}
