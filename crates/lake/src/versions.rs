//! Versions of DuckDB and its extensions; no lake is opened.

use std::path::PathBuf;

use duckdb::Connection;
use ducktide_protocol::error::{LakeError, Result};

use crate::extensions::Extensions;
use crate::session::open_duckdb;

/// Version of a library or extension; None if the extension's file is not on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentVersion {
    /// Name, such as `ducklake`.
    pub name: &'static str,
    /// Version as the component reports it.
    pub version: Option<String>,
}

/// Versions of DuckDB and of the extensions that lakes need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Version and source revision of the DuckDB library.
    pub duckdb: String,
    /// Versions of the extensions.
    pub extensions: Vec<ComponentVersion>,
}

/// Extensions that are loaded together: those of a lake with each kind of catalog.
const PAIRS: [[&str; 2]; 2] = [["ducklake", "sqlite_scanner"], ["ducklake", "postgres_scanner"]];

impl Versions {
    /// Loads the extensions from a folder, or from next to the program, and reads all versions.
    pub fn read(extension_dir: Option<&PathBuf>) -> Result<Self> {
        let mut versions = Self { duckdb: String::new(), extensions: Vec::new() };
        for names in PAIRS {
            let extensions = Extensions::named(names, extension_dir.cloned());
            let connection = open_duckdb(&extensions)?;
            versions.duckdb = text(&connection, DUCKDB_SQL)?;
            if extensions.are_local() {
                extensions.load(&connection)?;
            }
            for name in extensions.names() {
                versions.add(name, &extensions, &connection)?;
            }
        }
        Ok(versions)
    }

    fn add(
        &mut self,
        name: &'static str,
        extensions: &Extensions,
        connection: &Connection,
    ) -> Result<()> {
        if self.extensions.iter().any(|known| known.name == name) {
            return Ok(());
        }
        let version = extensions.are_local().then(|| {
            let sql = format!(
                "SELECT extension_version FROM duckdb_extensions() WHERE extension_name = '{name}'"
            );
            text(connection, &sql)
        });
        self.extensions.push(ComponentVersion { name, version: version.transpose()? });
        Ok(())
    }
}

const DUCKDB_SQL: &str = "SELECT library_version || ' (' || source_id || ')' FROM pragma_version()";

fn text(connection: &Connection, sql: &str) -> Result<String> {
    let row = connection.query_row(sql, [], |row| row.get(0));
    row.map_err(|error| LakeError::invalid("read the versions of DuckDB").because(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_library_and_of_each_extension_are_read() {
        let versions = Versions::read(None).unwrap();

        assert!(versions.duckdb.starts_with("v1.5.5 ("), "{}", versions.duckdb);
        let names: Vec<_> = versions.extensions.iter().map(|extension| extension.name).collect();
        assert_eq!(names, ["ducklake", "sqlite_scanner", "postgres_scanner"]);
        for extension in &versions.extensions {
            assert!(
                extension.version.as_ref().is_some_and(|text| !text.is_empty()),
                "{extension:?}"
            );
        }
    }
}
