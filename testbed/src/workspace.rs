//! Where the workspace keeps its programs and its downloads.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// The workspace's root folder, where it was when this was compiled.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testbed lies inside the workspace")
}

/// Something that `cargo xtask setup` brings, by its path below the cache.
pub fn downloaded(path: &str) -> Result<PathBuf> {
    let found = root().join(".ducktide").join(path);
    ensure!(found.exists(), "missing; run `cargo xtask setup` path=`{}`", found.display());
    Ok(found)
}

/// A DuckDB extension's file.
pub fn extension(name: &str) -> Result<PathBuf> {
    downloaded(&format!("extensions/{name}.duckdb_extension"))
}

/// A program of the workspace, in the target folder that the running program comes from.
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
