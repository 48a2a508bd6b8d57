//! Reads of the catalog: sources, progress, the ledger's position and the directories of files.

use std::path::PathBuf;

use ducktide_protocol::Source;
use ducktide_protocol::error::Result;
use ducktide_protocol::position::SourceId;

use super::DuckLake;
use crate::catalog::{self, PartitionProgress, ledger};
use crate::data_path::DataPath;

impl DuckLake {
    /// Returns all sources of the lake.
    pub fn sources(&mut self) -> Result<Vec<Source>> {
        catalog::sources(&self.catalog()?)
    }

    /// Returns the progress of a source's partitions, as `status` shows it.
    pub fn progress(&mut self, source: SourceId) -> Result<Vec<PartitionProgress>> {
        catalog::progress(&self.catalog()?, source)
    }

    /// Returns the ID of the ledger's newest row, 0 for none. Each range that a commit advances uses one
    /// or more IDs, so the difference of two values shows the commit rate of the workers.
    pub fn newest_ledger_id(&mut self) -> Result<i64> {
        ledger::newest_id(self.session()?)
    }

    /// Returns the directories of the lake's files: the data path, and the directories of files that
    /// other clients registered outside of it.
    pub fn file_directories(&mut self) -> Result<Vec<PathBuf>> {
        let session = self.session()?;
        let data_path = DataPath::read(session)?;
        let absolute = |table: &str| {
            format!("SELECT path FROM {} WHERE NOT path_is_relative", session.catalog_table(table))
        };
        let sql = format!(
            "SELECT DISTINCT parse_dirpath(path) AS path FROM ({} UNION ALL {}) \
             UNION SELECT DISTINCT path FROM ({} UNION ALL {})",
            absolute("ducklake_data_file"),
            absolute("ducklake_delete_file"),
            absolute("ducklake_table"),
            absolute("ducklake_schema"),
        );
        let found: Vec<Directory> = session.read(&sql)?;
        let elsewhere = found.into_iter().filter_map(|row| row.path).map(PathBuf::from);
        let elsewhere = elsewhere.filter(|path| !data_path.contains(path));
        Ok([data_path.root().to_owned()].into_iter().chain(elsewhere).collect())
    }
}

crate::row_struct! {
    struct Directory {
        path: Option<String>,
    }
}
