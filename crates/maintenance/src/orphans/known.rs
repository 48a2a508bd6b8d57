//! What the catalog knows of files: where tables keep them, and their names.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use ducktide_lake::data_path::{DataPath, resolve};
use ducktide_lake::row_struct;
use ducktide_lake::session::Session;
use ducktide_protocol::error::{LakeError, Result};

/// The directories of all tables that the catalog has, dropped ones that old snapshots still show
/// included. Another lake's tables on the same data path are not among them, unless they have the
/// same names.
pub(super) struct Places {
    pub(super) data_path: DataPath,
    pub(super) directories: BTreeSet<PathBuf>,
    /// The directories of each table, by its number: one for each row that it has in the catalog.
    of_tables: BTreeMap<i64, Vec<PathBuf>>,
}

impl Places {
    pub(super) fn read(session: &Session) -> Result<Self> {
        let data_path = data_path(session)?;
        let mut of_tables: BTreeMap<i64, Vec<PathBuf>> = BTreeMap::new();
        for (table, directory) in table_directories(session, data_path.root())? {
            of_tables.entry(table).or_default().push(directory);
        }
        // Directories elsewhere are somebody's own choice, and perhaps hold more than a lake.
        let within = |directory: &&PathBuf| data_path.contains(directory);
        let directories = of_tables.values().flatten().filter(within).cloned().collect();
        Ok(Self { data_path, directories, of_tables })
    }
}

/// The lake's data path, refused unless it is the one spelling of a local directory: otherwise a file
/// and its name in the catalog could not be told to be the same.
fn data_path(session: &Session) -> Result<DataPath> {
    let metadata = session.native_table("ducklake_metadata");
    let sql = format!("SELECT value FROM {metadata} WHERE key = 'data_path' AND scope IS NULL");
    let text: Option<String> = session.catalog_scalar(&sql)?;
    let text = text.unwrap_or_default();
    let refuse = |why: &str| {
        LakeError::invalid(format!(
            "orphans cannot be told from other files, so none is removed; make lakes with a plain \
             absolute --data-path: {why}: data_path=`{text}`"
        ))
    };
    if text.contains("://") {
        return Err(refuse("only local directories are looked through"));
    }
    let path = PathBuf::from(text.strip_suffix('/').unwrap_or(&text));
    match fs::canonicalize(&path) {
        Ok(canonical) if canonical.as_os_str() != path.as_os_str() => {
            Err(refuse("it leads through a link, or has a second spelling"))
        }
        Ok(_) => Ok(DataPath::new(path)),
        // Nothing was written so far; where the catalog knows better, it is said below.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(DataPath::new(path)),
        Err(error) => {
            Err(LakeError::unavailable(format!("look at the data path: data_path=`{text}`"))
                .because(error))
        }
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

/// The table's number and directory, for each row of a table and of its schema.
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

/// The files of the catalog, at one instant.
pub(super) struct Known {
    names: HashSet<String>,
    /// Files that the newest snapshot needs.
    live: Vec<ListedFile>,
}

impl Known {
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

    /// Whether the catalog has a file of this name, live or not, wherever it thinks that it is.
    pub(super) fn has(&self, path: &Path) -> bool {
        path.file_name().and_then(|name| name.to_str()).is_none_or(|name| self.names.contains(name))
    }

    pub(super) fn live_files(&self) -> u64 {
        self.live.len() as u64
    }

    /// Refuses when a live file is not where the catalog's paths lead: then they lead elsewhere for
    /// the rest too, or the lake is broken, and the file that looks like an orphan may be the one that
    /// is needed.
    pub(super) fn check_live_files(&self, places: &Places) -> Result<()> {
        let missing = self.live.iter().find(|file| !is_there(file, places));
        let Some(ListedFile { path, .. }) = missing else { return Ok(()) };
        Err(LakeError::invalid(format!(
            "a file that the newest snapshot needs is not where the catalog says, so nothing is \
             taken for an orphan; `ducktide verify` tells more: path=`{path}`"
        )))
    }
}

fn is_there(file: &ListedFile, places: &Places) -> bool {
    if !file.path_is_relative {
        // Of other clients' files elsewhere, such as in a bucket, nothing is claimed.
        return file.path.contains("://") || Path::new(&file.path).exists();
    }
    let directories = places.of_tables.get(&file.table_id).map_or(&[][..], Vec::as_slice);
    // A table that was made after the directories were read is looked at the next time.
    directories.is_empty() || directories.iter().any(|at| at.join(&file.path).exists())
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
