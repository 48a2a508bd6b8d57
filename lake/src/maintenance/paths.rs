//! How the catalog names directories and files.

use std::path::{Path, PathBuf};

/// `path_is_relative` as a number: the two catalogs show truth values in different words.
pub(super) fn relative_flag(table: &str) -> String {
    format!("CASE WHEN {table}.path_is_relative THEN 1 ELSE 0 END")
}

/// A path of the catalog in full.
pub(super) fn resolve(base: &Path, path: Option<String>, is_relative: bool) -> PathBuf {
    let path = path.unwrap_or_default();
    let path = if is_relative { base.join(path) } else { path.into() };
    // Without the slash at the end, as paths of listed files are made.
    path.components().collect()
}
