//! Object stores in which tests create buckets.

use anyhow::Result;

/// Started object store.
pub trait BucketStore {
    /// Returns the port of the store.
    fn port(&self) -> u16;

    /// Creates an empty bucket and returns its URL.
    fn create_bucket(&self, name: &str) -> Result<String>;

    /// Returns the environment variables with which programs find the store at a port, which can be that of
    /// a proxy.
    fn settings_at(&self, port: u16) -> Vec<(&'static str, String)>;

    /// Returns the statements with which DuckDB's command line reads the store.
    fn duckdb_setup(&self) -> Result<String>;

    /// Returns the environment variables with which programs find the store.
    fn settings(&self) -> Vec<(&'static str, String)> {
        self.settings_at(self.port())
    }
}
