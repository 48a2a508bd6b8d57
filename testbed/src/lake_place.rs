//! Place of a lake's files: a folder, or a bucket of its own.

use std::path::PathBuf;

use anyhow::Result;

use crate::{duckdb_cli::Lake, services::BucketStore};

/// Place of a lake's files, and how programs and DuckDB's command line reach it.
#[derive(Debug, Clone)]
pub struct LakePlace {
    /// Folder, or URL of a prefix in a bucket.
    pub data_path: PathBuf,
    /// Environment variables of programs that open the lake.
    pub settings: Vec<(&'static str, String)>,
    /// Statements of DuckDB's command line before it attaches the lake.
    duckdb_setup: String,
}

impl LakePlace {
    /// Returns the place of a lake in a folder.
    #[must_use]
    pub const fn folder(path: PathBuf) -> Self {
        Self { data_path: path, settings: Vec::new(), duckdb_setup: String::new() }
    }

    /// Creates a bucket for a lake. Programs find the store at a port, which can be that of a proxy;
    /// DuckDB's command line uses no proxy.
    pub fn new_bucket(store: &dyn BucketStore, name: &str, port: u16) -> Result<Self> {
        let data_path = format!("{}/lake", store.create_bucket(name)?).into();
        let (settings, duckdb_setup) = (store.settings_at(port), store.duckdb_setup()?);
        Ok(Self { data_path, settings, duckdb_setup })
    }

    /// Returns the lake with this catalog, for queries with DuckDB's command line.
    pub fn lake(&self, catalog: &str) -> Result<Lake> {
        let lake = Lake::at(catalog, &self.data_path.display().to_string())?;
        Ok(lake.with_setup(self.duckdb_setup.clone()))
    }
}
