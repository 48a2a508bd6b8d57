//! Creation of a lake: the DuckLake, Ducktide's tables in its catalog, and the claim on its data path.

use std::path::{Path, PathBuf};

use ducktide_protocol::error::{LakeError, LakeFault, Result};

use super::{DuckLake, consumer_group};
use crate::catalog::client::CatalogClient as _;
use crate::catalog::installation::Installation;
use crate::catalog::intent;
use crate::catalog::layout::{self, Installed};
use crate::catalog::sqlite_file;
use crate::config::{CatalogLocation, LakeConfig, check_data_path};
use crate::data_path::{DataPath, DataPathCheck, Owner, OwnerRole, check_free, storage_of};
use crate::duckdb_error;
use crate::rows::MetadataRow;
use crate::session::{Access, LAKE, Session};
use crate::sql_text::quote;

/// Objects that [`DuckLake::init`] created or restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, for a report")]
pub struct Setup {
    /// True if the DuckLake was created.
    pub lake_is_new: bool,
    /// True if Ducktide's tables were created in its catalog.
    pub tables_are_new: bool,
    /// True if triggers were missing, disabled or on another table, and were restored.
    pub triggers_are_restored: bool,
    /// True if the layout was older, or the commit function was missing, and was upgraded.
    pub layout_is_raised: bool,
}

impl DuckLake {
    /// Creates the lake, and Ducktide's tables in its catalog, if they are missing. Returns what it
    /// created or restored.
    pub fn init(config: &LakeConfig) -> Result<Setup> {
        let mut config = config.clone();
        if let CatalogLocation::Sqlite(path) = &config.catalog {
            let directory = path.parent().unwrap_or(path);
            std::fs::create_dir_all(directory).map_err(|error| {
                let what =
                    format!("create the catalog's directory: path=`{}`", directory.display());
                LakeError::of_io(what, error)
            })?;
        }
        let mut installation = Installation::begin(&config)?;
        if let CatalogLocation::Sqlite(path) = &config.catalog
            && config.data_path.is_none()
            && !path.exists()
        {
            let data_path = default_data_path(path);
            check_data_path(&data_path.to_string_lossy())?;
            config.data_path = Some(data_path);
        }
        if let CatalogLocation::Sqlite(path) = &config.catalog {
            if !path.exists() {
                // Checked before a catalog exists, even as an empty file.
                if let Some(path) = &config.data_path {
                    DataPath::new(path).check_access()?;
                    check_free(path)?;
                }
            }
            sqlite_file::prepare_file(path)?;
        }
        let (session, lake_is_new) = match Session::open(&config, Access::Commit, false) {
            Ok(session) => (session, false),
            Err(error) if matches!(error.fault(), Some(LakeFault::NoLake { .. })) => {
                if let Some(path) = &config.data_path {
                    // Checked before the lake is created: no worker could write to it otherwise.
                    DataPath::new(path).check_access()?;
                    check_free(path).map_err(|occupied| occupied.because(error.chain()))?;
                    check_writable(path)?;
                }
                (Session::open(&config, Access::Commit, true)?, true)
            }
            Err(error) => return Err(error),
        };
        set_options(&session)?;
        // Precedes the write test: without its mount, a directory of the same name proves nothing.
        let facts = if layout::is_installed(&session)? {
            Owner::establish(&session, OwnerRole::Init)?;
            Vec::new()
        } else {
            let mut facts = DataPathCheck::of_uninstalled(&session)?.install()?;
            facts.push(consumer_group::default_group(&session)?);
            facts
        };
        check_writable(DataPath::read(&session)?.root())?;
        // The installation creates Ducktide's tables without DuckDB, which must not have the SQLite
        // file attached at the same time.
        drop(session);
        let installed = installation.install(&facts)?;
        Ok(Setup {
            lake_is_new,
            tables_are_new: installed == Installed::Created,
            triggers_are_restored: installed == Installed::TriggersRestored,
            layout_is_raised: installed == Installed::Upgraded,
        })
    }

    /// Makes this catalog the owner of the lake's files. Programs that use another copy of the catalog
    /// can no longer write.
    pub fn adopt(config: &LakeConfig) -> Result<()> {
        let session = Session::open(config, Access::Operate, false)?;
        layout::check_layout(&session, Access::Operate)?;
        Owner::adopt(&session)
    }
}

/// Checks that this process can write to the data path. Without this check, `init` would succeed and
/// the workers fail.
fn check_writable(data_path: &Path) -> Result<()> {
    storage_of(data_path)?.try_to_write(data_path).map_err(|error| {
        let what = format!(
            "the data path is not writable; set another directory with --data-path \
             (DUCKLAKE_DATA_PATH), or grant this user write access: data_path=`{}`",
            data_path.display()
        );
        LakeError::of_io(what, error)
    })
}

/// Returns the data path next to a SQLite catalog: its path with `.files` added, as in DuckLake.
fn default_data_path(catalog: &Path) -> PathBuf {
    let mut path = catalog.as_os_str().to_owned();
    path.push(".files");
    path.into()
}

/// Sets the lake options that Ducktide requires, and defaults for those that are not set.
///
/// Inlined nested data is corrupted on both catalogs (duckdb/ducklake#1435), so nothing is inlined.
/// The retention is DuckLake's own setting; the compactor reads it. Values that an operator has set
/// are kept. Options that are set already are not written again: `init` runs at each start of a stack,
/// alongside workers that write to the catalog.
fn set_options(session: &Session) -> Result<()> {
    let inlining = ("data_inlining_row_limit", "0");
    let defaults = [
        ("parquet_compression", "zstd"),
        ("expire_older_than", "7 days"),
        ("delete_older_than", "2 days"),
    ];
    let known = session.select::<MetadataRow>("WHERE scope IS NULL")?;
    let value_of =
        |name: &str| known.iter().find(|row| row.key == name).map(|row| row.value.as_str());
    let set = |(name, value): (&str, &str)| {
        let call = format!("CALL {LAKE}.set_option({}, {})", quote(name), quote(value));
        intent::execute_with_retry(session, &call)
    };
    std::iter::once(inlining)
        .filter(|(name, value)| value_of(name) != Some(value))
        .chain(defaults.into_iter().filter(|(name, _)| value_of(name).is_none()))
        .try_for_each(set)
        .map_err(|error| duckdb_error::failed("set the lake's options", error))
}
