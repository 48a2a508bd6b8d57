//! Where things lie in the workspace.

use std::{
    env,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use anyhow::{Result, anyhow};

/// Where this process's program was when it started.
static BINARY: LazyLock<Result<PathBuf, String>> =
    LazyLock::new(|| env::current_exe().map_err(|error| error.to_string()));

/// The workspace's root folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies inside the workspace")
}

/// The git-ignored folder of everything that is downloaded.
pub(crate) fn cache() -> PathBuf {
    root().join(".ducktide")
}

/// xtask's own binary; cargo puts the workspace's other programs beside it.
///
/// Must be called once before anything is built: a build may replace the file under the running
/// process, and the kernel then names it with `" (deleted)"` at its end.
///
/// # Errors
///
/// If the system does not tell.
pub(crate) fn binary() -> Result<&'static Path> {
    BINARY.as_deref().map_err(|error| anyhow!("find xtask's binary: {error}"))
}

/// A program that [`crate::parts`] put into the cache for the checks.
pub(crate) fn tool(name: &str) -> PathBuf {
    cache().join("tools").join(name)
}
