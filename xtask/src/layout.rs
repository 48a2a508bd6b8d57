//! Paths in the workspace.

use std::{
    env,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Result, anyhow};

/// Path of this process's program at startup.
static BINARY: LazyLock<Result<PathBuf, String>> =
    LazyLock::new(|| env::current_exe().map_err(|error| error.to_string()));

/// Returns the root folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is in the workspace")
}

/// Returns the git-ignored folder of all downloads.
pub(crate) fn cache() -> PathBuf {
    root().join(".ducktide")
}

/// Returns the path of the xtask binary; cargo puts the other programs of the workspace next to it.
///
/// Must be called once before anything is built: a build may replace the file of the running
/// process, and the kernel then returns its name with the suffix `" (deleted)"`.
///
/// # Errors
///
/// If the system does not provide the path.
pub(crate) fn binary() -> Result<&'static Path> {
    BINARY.as_deref().map_err(|error| anyhow!("find the xtask binary: {error}"))
}

/// Returns the path of a program that [`crate::artifacts`] installed into the cache.
pub(crate) fn tool(name: &str) -> PathBuf {
    cache().join("tools").join(name)
}
