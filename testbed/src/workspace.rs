//! Paths of the workspace's programs and downloads.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// Returns the workspace's root folder at compile time.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testbed lies inside the workspace")
}

/// Returns the path of a file that `cargo xtask setup` has installed; an error if it does not
/// exist.
pub fn downloaded(path: &str) -> Result<PathBuf> {
    let found = root().join(".ducktide").join(path);
    ensure!(found.exists(), "missing; run `cargo xtask setup` path=`{}`", found.display());
    Ok(found)
}

/// Returns the path of a DuckDB extension.
pub fn extension(name: &str) -> Result<PathBuf> {
    downloaded(&format!("extensions/{name}.duckdb_extension"))
}

/// Returns the path of a program of the workspace, in the target folder of the running program.
pub fn program(name: &str) -> Result<PathBuf> {
    let running = env::current_exe().context("find the running program")?;
    let folder = running.parent().context("find the running program's folder")?;
    // Test programs lie one folder deeper.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let found = folder.join(name);
    ensure!(
        found.exists(),
        "missing; run `cargo build --release --workspace --lib --bins --examples` path=`{}`",
        found.display()
    );
    Ok(found)
}
