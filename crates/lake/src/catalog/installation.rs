//! Creation of Ducktide's tables and triggers, by one program at a time.

use std::path::PathBuf;
use std::time::Duration;

use ducktide_protocol::error::{LakeError, Result};

use super::layout::Installed;
use super::lock::LockFile;
use super::{postgres, sqlite};
use crate::config::{CatalogLocation, LakeConfig};

/// Longest wait for another installation. Creating a lake takes one to two seconds.
const INSTALLATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Exclusive right to create a lake, held by one program at a time.
pub(crate) enum Installation {
    Sqlite { path: PathBuf, _lock: LockFile },
    Postgres(Box<postgres::Installer>),
}

impl Installation {
    /// Waits for the installation lock.
    pub(crate) fn begin(config: &LakeConfig) -> Result<Self> {
        match &config.catalog {
            CatalogLocation::Postgres(settings) => {
                postgres::Installer::lock(settings, &config.metadata_schema)
                    .map(|installer| Self::Postgres(Box::new(installer)))
            }
            CatalogLocation::Sqlite(path) => {
                let mut lock = LockFile::next_to(path, "init");
                if lock.lock(INSTALLATION_TIMEOUT)? {
                    return Ok(Self::Sqlite { path: path.clone(), _lock: lock });
                }
                Err(LakeError::unavailable(format!(
                    "another program is making the lake: catalog=`{}`",
                    config.catalog
                )))
            }
        }
    }

    /// Creates Ducktide's tables and triggers in a DuckLake catalog unless they exist, and restores
    /// missing triggers. No DuckDB of this process may have the catalog attached meanwhile.
    ///
    /// The facts become rows of `ducktide_meta`.
    pub(crate) fn install(&mut self, facts: &[(&str, String)]) -> Result<Installed> {
        match self {
            Self::Sqlite { path, .. } => sqlite::install(path, facts),
            Self::Postgres(installer) => installer.install(facts),
        }
    }
}
