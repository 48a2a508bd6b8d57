//! Identity of the database that holds a catalog. A copy is in another database.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use ducktide_protocol::error::{LakeError, Result};

use crate::catalog::client::CatalogClient;
use crate::catalog::dialect::Dialect;
use crate::duckdb_error;
use crate::sql_text::quote;

/// Facts that identify a database, by name. Recorded as `database=16384 schema=2200 system=735…`.
///
/// A fact that one side lacks is not compared: `PostgreSQL` does not show its `system` to every role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Database {
    facts: BTreeMap<String, String>,
}

/// Facts of a file, of which one equal fact is enough: a moved file keeps its inode, and a file that was
/// restored from a backup in the same place keeps its path.
const OF_A_FILE: [&str; 2] = ["path", "file"];

crate::row_struct! {
    struct DatabaseRow {
        database_oid: Option<String>,
        schema_oid: Option<String>,
    }
}

impl Database {
    pub(crate) fn of(catalog: &impl CatalogClient) -> Result<Self> {
        match catalog.dialect() {
            Dialect::Sqlite { file } => Self::of_file(file),
            Dialect::Postgres { schema } => Self::of_postgres(catalog, schema),
        }
    }

    /// Reads the facts of a PostgreSQL database. The system identifier is the same in a standby, and
    /// different in another cluster; the OIDs of database and schema differ after a dump was restored.
    fn of_postgres(catalog: &impl CatalogClient, schema: &str) -> Result<Self> {
        let sql = format!(
            "SELECT (SELECT oid FROM pg_database WHERE datname = current_database())::text \
             AS database_oid, (SELECT oid FROM pg_namespace WHERE nspname = {})::text AS schema_oid",
            quote(schema)
        );
        let found: Vec<DatabaseRow> = catalog.catalog_query(&sql)?;
        let mut facts = BTreeMap::new();
        for DatabaseRow { database_oid, schema_oid } in found {
            facts.extend(database_oid.map(|oid| ("database".to_owned(), oid)));
            facts.extend(schema_oid.map(|oid| ("schema".to_owned(), oid)));
        }
        let system = catalog.catalog_scalar::<Option<String>>(
            "SELECT system_identifier::text FROM pg_control_system()",
        );
        match system {
            Ok(system) => facts.extend(system.map(|number| ("system".to_owned(), number))),
            Err(error) if duckdb_error::is_permission_denied(&error.chain()) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { facts })
    }

    fn of_file(path: &Path) -> Result<Self> {
        let unreadable = |error| {
            LakeError::unavailable(format!("read the catalog file: path=`{}`", path.display()))
                .because(error)
        };
        let real = path.canonicalize().map_err(unreadable)?;
        let found = real.metadata().map_err(unreadable)?;
        // An inode number is reused; together with the creation time it is unique.
        let born = found.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born = born.map_or(0, |since| since.as_nanos());
        let file = format!("{}-{born}", found.ino());
        let path = real.to_string_lossy().into_owned();
        Ok(Self { facts: BTreeMap::from([("path".to_owned(), path), ("file".to_owned(), file)]) })
    }

    /// Parses recorded facts.
    pub(crate) fn parse(text: &str) -> Self {
        // The path comes last, because it may contain spaces.
        let (rest, path) = match text.split_once("path=") {
            Some((rest, path)) => (rest, Some(path)),
            None => (text, None),
        };
        let pairs = rest.split_whitespace().filter_map(|pair| pair.split_once('='));
        let pairs = pairs.chain(path.map(|path| ("path", path)));
        Self { facts: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect() }
    }

    /// Returns whether no fact shows that these are two databases.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let compare = |key: &str| Some(self.facts.get(key)? == other.facts.get(key)?);
        let of_a_file: Vec<bool> = OF_A_FILE.iter().filter_map(|key| compare(key)).collect();
        let mut others = self.facts.keys().filter(|key| !OF_A_FILE.contains(&key.as_str()));
        (of_a_file.is_empty() || of_a_file.contains(&true))
            && others.all(|key| compare(key) != Some(false))
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `path` sorts after `file`, and only files have these two facts.
        for (index, (key, value)) in self.facts.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_facts_are_parsed() {
        for text in ["database=5 schema=2200 system=73", "file=12-99 path=/my lake/a=b path=c"] {
            let database = Database::parse(text);
            assert_eq!(database.to_string(), text);
            assert!(database.is_same(&Database::parse(text)));
        }
    }

    #[test]
    fn copies_are_distinguished_from_originals() {
        let is_same = |a: &str, b: &str| Database::parse(a).is_same(&Database::parse(b));
        let original = "database=5 schema=2200 system=73";

        assert!(!is_same(original, "database=6 schema=2200 system=73"), "pg_dump next to it");
        assert!(!is_same(original, "database=5 schema=2201 system=73"), "another schema");
        assert!(!is_same(original, "database=5 schema=2200 system=74"), "another cluster");
        assert!(is_same(original, "database=5 schema=2200"), "system identifier hidden");

        let file = "file=12-99 path=/a.sqlite";
        assert!(!is_same(file, "file=13-99 path=/b.sqlite"), "cp");
        assert!(is_same(file, "file=12-99 path=/b.sqlite"), "mv, or another mount point");
        assert!(is_same(file, "file=13-99 path=/a.sqlite"), "restored in the same place");
    }

    #[test]
    fn a_copied_file_is_another_database() {
        let folder = tempfile::tempdir().unwrap();
        let (original, copy) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&original, "catalog").unwrap();
        std::fs::copy(&original, &copy).unwrap();
        let was = Database::of_file(&original).unwrap();

        assert!(!was.is_same(&Database::of_file(&copy).unwrap()));
        std::fs::rename(&original, folder.path().join("c")).unwrap();
        assert!(was.is_same(&Database::of_file(&folder.path().join("c")).unwrap()));
    }
}
