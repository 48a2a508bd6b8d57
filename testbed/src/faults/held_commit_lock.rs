//! Worker that holds the commit lock and does not continue.

use std::fs::File;

use anyhow::{Context as _, Result};

use crate::catalog::Catalog;

/// Commit lock of a lake, held until dropped.
pub struct HeldCommitLock {
    _handle: LockHandle,
}

/// Owner of the lock: a file or a database session.
#[expect(dead_code, reason = "held until dropped")]
enum LockHandle {
    File(File),
    Session(Box<Catalog>),
}

/// Advisory lock of the lake whose metadata is in the schema `public`.
const KEY: &str = "hashtextextended('ducktide commit ' || current_database() || '.public', 0)";

impl HeldCommitLock {
    /// Waits for the commit lock of the lake with this catalog, and takes it.
    pub fn take(catalog: &str) -> Result<Self> {
        let handle = match catalog.strip_prefix("sqlite:") {
            Some(path) => LockHandle::File(lock_file(path)?),
            None => LockHandle::Session(Box::new(lock_session(catalog)?)),
        };
        Ok(Self { _handle: handle })
    }
}

fn lock_file(catalog: &str) -> Result<File> {
    let path = format!("{catalog}.commit-lock");
    let file = File::options().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("open {path}"))?;
    file.lock().with_context(|| format!("lock {path}"))?;
    Ok(file)
}

fn lock_session(url: &str) -> Result<Catalog> {
    let mut session = Catalog::at(url)?;
    session.execute(&format!("SELECT pg_advisory_lock({KEY})"))?;
    Ok(session)
}
