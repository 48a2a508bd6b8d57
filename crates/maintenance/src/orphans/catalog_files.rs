//! Files of the catalog: the directories of tables, and the names of files.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use ducktide_lake::CatalogClient as _;
use ducktide_lake::data_path::{DataPath, resolve};
use ducktide_lake::row_struct;
use ducktide_lake::session::Session;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_storage::Storage;

/// Directories of all tables of the catalog, including dropped ones that old snapshots still show. Those of
/// another lake on the same data path are not among them, unless its tables have the same names.
pub(super) struct TableDirectories {
    pub(super) data_path: DataPath,
    pub(super) directories: BTreeSet<PathBuf>,
    /// Directories of each table, by its ID: one for each row that it has in the catalog.
    of_tables: BTreeMap<i64, Vec<PathBuf>>,
}

impl TableDirectories {
    pub(super) fn read(session: &Session) -> Result<Self> {
        let data_path = data_path(session)?;
        let mut of_tables: BTreeMap<i64, Vec<PathBuf>> = BTreeMap::new();
        for (table, directory) in table_directories(session, data_path.root())? {
            of_tables.entry(table).or_default().push(directory);
        }
        // Directories elsewhere were chosen by another client and may hold other files too.
        let within = |directory: &&PathBuf| data_path.contains(directory);
        let directories = of_tables.values().flatten().filter(within).cloned().collect();
        Ok(Self { data_path, directories, of_tables })
    }
}

/// Returns the lake's data path, and refuses all but a canonical one: otherwise a file could not be matched
/// with its name in the catalog.
fn data_path(session: &Session) -> Result<DataPath> {
    let metadata = session.native_table("ducklake_metadata");
    let sql = format!("SELECT value FROM {metadata} WHERE key = 'data_path' AND scope IS NULL");
    let text: Option<String> = session.catalog_scalar(&sql)?;
    let text = text.unwrap_or_default();
    let refuse = |why: &str| {
        LakeError::invalid(format!(
            "orphans cannot be distinguished from other files, so none is removed; create lakes with a \
             canonical absolute --data-path: {why}: data_path=`{text}`"
        ))
    };
    let path = PathBuf::from(text.strip_suffix('/').unwrap_or(&text));
    // A path that does not exist yet has no files; if the catalog has live files, `check_live_files` reports
    // it.
    match Storage::of(&path).and_then(|storage| storage.resolve(&path)) {
        Ok(canonical) if canonical.as_os_str() != path.as_os_str() => {
            Err(refuse("it contains a link, or is not canonical"))
        }
        Ok(_) => Ok(DataPath::new(path)),
        Err(error) => Err(LakeError::unavailable(format!(
            "read the metadata of the data path: data_path=`{text}`"
        ))
        .because(error)),
    }
}

row_struct! {
    /// Paths of a table and its schema.
    struct TableDirectory {
        table_id: i64,
        schema_path: Option<String>,
        schema_is_relative: Option<bool>,
        table_path: Option<String>,
        table_is_relative: Option<bool>,
    }
}

row_struct! {
    /// A data file or delete file, or a file that is scheduled for deletion.
    struct ListedFile {
        table_id: i64,
        path: String,
        path_is_relative: bool,
        is_live: bool,
    }
}

/// Reads the ID and directory of each table, for each row of the table and of its schema.
fn table_directories(session: &Session, data_path: &Path) -> Result<Vec<(i64, PathBuf)>> {
    let sql = format!(
        "SELECT t.table_id, s.path AS schema_path, s.path_is_relative AS schema_is_relative, \
         t.path AS table_path, t.path_is_relative AS table_is_relative \
         FROM {} t JOIN {} s ON s.schema_id = t.schema_id",
        session.native_table("ducklake_table"),
        session.native_table("ducklake_schema"),
    );
    let directory = |row: TableDirectory| {
        let schema =
            resolve(data_path, row.schema_path, row.schema_is_relative.unwrap_or_default());
        (row.table_id, resolve(&schema, row.table_path, row.table_is_relative.unwrap_or_default()))
    };
    Ok(session.catalog_query(&sql)?.into_iter().map(directory).collect())
}

/// Files of the catalog, at one instant.
pub(super) struct CatalogFiles {
    names: HashSet<String>,
    /// Files that the newest snapshot needs.
    live: Vec<ListedFile>,
}

impl CatalogFiles {
    pub(super) fn read(session: &Session) -> Result<Self> {
        let files = |table: &str| {
            format!(
                "SELECT table_id, path, path_is_relative, end_snapshot IS NULL AS is_live FROM {}",
                session.native_table(table)
            )
        };
        let sql = format!(
            "{} UNION ALL {} UNION ALL SELECT -1 AS table_id, path, path_is_relative, \
             1 = 0 AS is_live FROM {}",
            files("ducklake_data_file"),
            files("ducklake_delete_file"),
            session.native_table("ducklake_files_scheduled_for_deletion")
        );
        let mut known = Self { names: HashSet::new(), live: Vec::new() };
        for file in session.catalog_query::<ListedFile>(&sql)? {
            known.names.insert(name_of(&file.path).to_owned());
            if file.is_live {
                known.live.push(file);
            }
        }
        Ok(known)
    }

    /// Returns whether the catalog has a file of this name, live or not, in any directory.
    pub(super) fn has(&self, path: &Path) -> bool {
        path.file_name().and_then(|name| name.to_str()).is_none_or(|name| self.names.contains(name))
    }

    pub(super) fn live_files(&self) -> u64 {
        self.live.len() as u64
    }

    /// Checks that each live file is where the catalog's paths lead. Otherwise the paths of the other files
    /// are wrong too, or the lake is damaged, and a file that looks like an orphan may be a needed one.
    pub(super) fn check_live_files(&self, tables: &TableDirectories) -> Result<()> {
        let storage = tables.data_path.storage()?;
        let places: Vec<_> = self.live.iter().map(|file| places(file, tables, &storage)).collect();
        let paths: Vec<_> = places.iter().flatten().map(PathBuf::as_path).collect();
        let sizes = storage.sizes(tables.data_path.root(), &paths).map_err(|error| {
            LakeError::unavailable("look for the files of the newest snapshot").because(error)
        })?;
        let mut sizes = sizes.into_iter();
        let mut missing = self.live.iter().zip(&places).filter(|(_, places)| {
            // All of them are taken, also after the first that exists.
            let found = sizes.by_ref().take(places.len()).flatten().count();
            found == 0 && !places.is_empty()
        });
        let Some((ListedFile { path, .. }, _)) = missing.next() else { return Ok(()) };
        Err(LakeError::invalid(format!(
            "a file that the newest snapshot needs is missing, so no orphan is removed; run `ducktide \
             verify` for details: path=`{path}`"
        )))
    }
}

/// Returns the paths at which a file can be; none if it is not checked.
fn places(file: &ListedFile, tables: &TableDirectories, storage: &Storage) -> Vec<PathBuf> {
    if !file.path_is_relative {
        // Other clients' files elsewhere, such as in another bucket, are not checked.
        let path = PathBuf::from(&file.path);
        return if storage.has(&path) { vec![path] } else { Vec::new() };
    }
    // A table that was created after the directories were read is checked by the next run.
    let directories = tables.of_tables.get(&file.table_id).map_or(&[][..], Vec::as_slice);
    directories.iter().map(|at| at.join(&file.path)).collect()
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_as_ducklake_does() {
        let base = Path::new("/lake");
        let text = |path: &str| Some(path.to_owned());

        assert_eq!(resolve(base, text("main/"), true).as_os_str(), "/lake/main");
        assert_eq!(resolve(base, text("/other/"), false).as_os_str(), "/other");
        assert!(!DataPath::new(base).contains(&resolve(base, text("../x/"), true)));
    }
}
