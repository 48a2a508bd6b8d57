//! Data path, the directory of a lake's files: its owner, its availability and its files.

mod claim;
mod database;
mod file_name;
mod owner;

use std::path::{Component, Path, PathBuf};

use ducktide_protocol::error::{LakeError, Result};
use ducktide_storage::{Storage, normalize};

pub use self::claim::NAME as CLAIM_NAME;
pub use self::claim::is_claimed;
pub use self::file_name::is_file_of_a_lake;
pub use self::owner::{DataPathCheck, Owner, OwnerRole, check_free, check_lake, identity};
use crate::catalog::client::CatalogClient;

/// Data path of a lake, as in its catalog, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPath {
    root: PathBuf,
}

impl DataPath {
    /// Reads the path from the catalog, in its own transaction.
    pub fn read(catalog: &impl CatalogClient) -> Result<Self> {
        let metadata = catalog.native_table("ducklake_metadata");
        let sql = format!("SELECT value FROM {metadata} WHERE key = 'data_path' AND scope IS NULL");
        let path: Option<String> = catalog.catalog_scalar(&sql)?;
        path.map(|path| Self::new(&path))
            .ok_or_else(|| LakeError::invalid("the catalog has no data path"))
    }

    /// Creates a data path without the trailing slash.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { root: normalize(path.as_ref()) }
    }

    /// Returns the storage of its files.
    pub fn storage(&self) -> Result<Storage> {
        storage_of(&self.root)
    }

    /// Checks at the start of a program that it can write and read the files, where that is not known
    /// otherwise: in object storage.
    pub fn check_access(&self) -> Result<()> {
        let what =
            || format!("use the data path (--data-path): data_path=`{}`", self.root.display());
        let checked = self.storage()?.check_access(&self.root);
        checked.map_err(|error| LakeError::of_io(what(), error))
    }

    /// Directory of the data path, or its URL.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns whether a path is below the data path: neither the data path itself, nor a path that
    /// leaves it by `..`.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.root) else { return false };
        let mut parts = below.components().peekable();
        parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
    }

    /// Refuses a path that is not below the data path, before it is written or removed.
    pub fn check(&self, path: &Path) -> Result<()> {
        if self.contains(path) {
            return Ok(());
        }
        Err(LakeError::invalid(format!(
            "the path is not below the lake's data path; nothing is written or removed there: \
             path=`{}` data_path=`{}`",
            path.display(),
            self.root.display()
        )))
    }
}

/// Returns the storage of a data path.
pub(crate) fn storage_of(root: &Path) -> Result<Storage> {
    Storage::of(root).map_err(|error| {
        let what = format!(
            "use the storage of the data path (--data-path): data_path=`{}`",
            root.display()
        );
        LakeError::of_io(what, error)
    })
}

/// Returns the full path of a path in the catalog.
#[must_use]
pub fn resolve(base: &Path, path: Option<String>, is_relative: bool) -> PathBuf {
    let path = path.unwrap_or_default();
    let path: PathBuf = if is_relative { base.join(path) } else { path.into() };
    // Without the trailing slash, like the paths of listed files.
    normalize(&path)
}

crate::row_struct! {
    /// Path of a file in three parts: schema, table and file.
    struct FilePath {
        schema_path: Option<String>,
        schema_is_relative: Option<bool>,
        table_path: Option<String>,
        table_is_relative: Option<bool>,
        file_path: Option<String>,
        file_is_relative: Option<bool>,
    }
}

impl FilePath {
    fn resolve(self, data_path: &Path) -> PathBuf {
        let parts = [
            (self.schema_path, self.schema_is_relative),
            (self.table_path, self.table_is_relative),
            (self.file_path, self.file_is_relative),
        ];
        parts.into_iter().fold(data_path.to_owned(), |base, (path, is_relative)| {
            resolve(&base, path, is_relative == Some(true))
        })
    }
}

/// Returns the paths of the newest live data files below the data path, at most `limit`.
fn live_files(
    catalog: &impl CatalogClient,
    data_path: &DataPath,
    limit: usize,
) -> Result<Vec<PathBuf>> {
    let sql = format!(
        "SELECT s.path AS schema_path, s.path_is_relative AS schema_is_relative, \
         t.path AS table_path, t.path_is_relative AS table_is_relative, \
         f.path AS file_path, f.path_is_relative AS file_is_relative \
         FROM {} f JOIN {} t ON t.table_id = f.table_id AND t.end_snapshot IS NULL \
         JOIN {} s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL \
         WHERE f.end_snapshot IS NULL ORDER BY f.data_file_id DESC LIMIT {limit}",
        catalog.native_table("ducklake_data_file"),
        catalog.native_table("ducklake_table"),
        catalog.native_table("ducklake_schema"),
    );
    let found: Vec<FilePath> = catalog.catalog_query(&sql)?;
    let paths = found.into_iter().map(|file| file.resolve(data_path.root()));
    Ok(paths.filter(|path| data_path.contains(path)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_below_the_data_path_pass_the_check() {
        for root in ["/lake/data", "/lake/data/", "/lake//data/./"] {
            let path = DataPath::new(root);
            for inside in ["/lake/data/main/events/f.parquet", "/lake/data/f", "/lake/data//f"] {
                path.check(Path::new(inside)).unwrap();
            }
            for outside in [
                "/lake/data",
                "/lake/data/",
                "/lake/data/../f",
                "/lake/data/main/../../../etc/f",
                "/lake/database/f",
                "/lake/data2/f",
                "/etc/passwd",
                "main/events/f",
                "",
                "s3://bucket/lake/data/f",
            ] {
                let refused = path.check(Path::new(outside)).unwrap_err().to_string();
                assert!(refused.contains("is not below the lake's data path"), "{refused}");
            }
        }
    }
}
