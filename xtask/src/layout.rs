//! Where things lie in the workspace.

use std::path::{Path, PathBuf};

/// The workspace's root folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies inside the workspace")
}

/// The git-ignored folder of everything that is downloaded.
pub(crate) fn cache() -> PathBuf {
    root().join(".ducktide")
}

/// A program that [`crate::parts`] put into the cache for the checks.
pub(crate) fn tool(name: &str) -> PathBuf {
    cache().join("tools").join(name)
}
