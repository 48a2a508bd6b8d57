//! Location of a lake: the flags of every program that opens a lake.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_service::hidden_value::HiddenValue;

use crate::postgres_settings::PostgresSettings;

/// Flags that locate a lake.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Lake")]
pub struct LakeArgs {
    /// DuckLake catalog: `sqlite:PATH` for one machine, `postgres://user@host/database` for several.
    /// libpq's keyword form `postgres:host=… dbname=…`, its environment variables (PGPASSWORD, …) and
    /// its password file are supported.
    #[arg(
        long,
        env = "DUCKLAKE_CATALOG",
        value_name = "CATALOG",
        default_value = "sqlite:ducklake.sqlite",
        value_parser = HiddenValue(CatalogLocation::from_str),
        hide_env_values = true
    )]
    pub catalog: CatalogLocation,

    /// Directory of the lake's Parquet files. Needed only when the lake is created: the catalog stores
    /// the path, and a different path is refused afterwards. [default: for SQLite the catalog's
    /// path with `.files` added]
    #[arg(long, env = "DUCKLAKE_DATA_PATH", value_name = "DIR")]
    pub data_path: Option<PathBuf>,

    /// PostgreSQL schema of the lake's metadata. Lakes with different schemas can share a database.
    #[arg(long, env = "DUCKLAKE_METADATA_SCHEMA", value_name = "NAME", default_value = "public")]
    pub metadata_schema: String,

    /// Maximum number of requests to the object store at once, of this process. Requests of DuckDB, for
    /// queries and for merges of files that other programs wrote, are not counted.
    #[arg(long, env = "DUCKTIDE_MAX_REQUESTS", value_name = "COUNT", default_value = "16")]
    pub max_requests: NonZeroUsize,

    /// Folder with DuckDB's signed extension files. [default: next to the program, then DuckDB's own]
    #[arg(long, env = "DUCKTIDE_EXTENSION_DIR", value_name = "DIR")]
    pub extension_dir: Option<PathBuf>,
}

/// Location of a catalog.
#[derive(Clone, PartialEq, Eq)]
pub enum CatalogLocation {
    /// SQLite file, for workers on one machine.
    Sqlite(PathBuf),
    /// PostgreSQL database, for workers on several machines.
    Postgres(PostgresSettings),
}

impl FromStr for CatalogLocation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let sqlite = text.strip_prefix("ducklake:").unwrap_or(text).strip_prefix("sqlite:");
        if let Some(path) = sqlite {
            if path.is_empty() {
                return Err("sqlite: needs a path, as in sqlite:lake.sqlite".to_owned());
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        text.parse().map(Self::Postgres).map_err(|error: crate::PostgresSettingsError| error.0)
    }
}

impl fmt::Display for CatalogLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(settings) => write!(f, "{settings}"),
        }
    }
}

impl fmt::Debug for CatalogLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl CatalogLocation {
    /// Returns the location for another client's DuckDB: usable, but without a password.
    #[must_use]
    pub fn shareable(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(settings) => settings.shareable(),
        }
    }

    /// Returns whether the location holds a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        matches!(self, Self::Postgres(settings) if settings.has_password())
    }
}

impl LakeArgs {
    /// Returns the configuration of the lake, with absolute paths. Limits the requests of this process.
    pub fn resolve(&self) -> Result<LakeConfig> {
        ducktide_storage::limit_requests(self.max_requests);
        check_identifier("--metadata-schema", &self.metadata_schema)?;
        let catalog = match &self.catalog {
            CatalogLocation::Sqlite(path) => CatalogLocation::Sqlite(absolute(path)?),
            CatalogLocation::Postgres(settings) => {
                settings
                    .check()
                    .map_err(|error| LakeError::setting(format!("DUCKLAKE_CATALOG: {error}")))?;
                self.catalog.clone()
            }
        };
        Ok(LakeConfig {
            data_path: self.data_path.as_deref().map(canonical_data_path).transpose()?,
            catalog,
            metadata_schema: self.metadata_schema.clone(),
            extension_dir: self.extension_dir.clone(),
        })
    }
}

/// Location of a lake, with absolute paths and checked settings.
#[derive(Clone, Debug)]
pub struct LakeConfig {
    /// Location of the catalog.
    pub catalog: CatalogLocation,
    /// Canonical data path; None if it was not given.
    pub data_path: Option<PathBuf>,
    /// PostgreSQL schema of the metadata.
    pub metadata_schema: String,
    /// Folder of the extension files; None if it was not given.
    pub extension_dir: Option<PathBuf>,
}

impl LakeConfig {
    /// Returns the configuration of a catalog's lake, with defaults for everything else.
    #[must_use]
    pub fn at(catalog: CatalogLocation) -> Self {
        Self { catalog, data_path: None, metadata_schema: "public".to_owned(), extension_dir: None }
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    ducktide_storage::absolute(path)
        .map_err(|error| LakeError::setting("resolve a relative path").because(error))
}

/// Returns a data path in the canonical form, which DuckLake compares with.
///
/// With `//`, `file:` or `[` in a local data path `ducklake_delete_orphaned_files` lists live files
/// as orphans (measured on 1.5.5), so such a path is never written to a catalog.
fn canonical_data_path(path: &Path) -> Result<PathBuf> {
    let text = path.to_string_lossy();
    // Without `//` and `/./`; symbolic links are not resolved.
    let canonical = ducktide_storage::normalize(&absolute(path)?);
    check_data_path(&text)?;
    // The working directory is part of it.
    check_data_path(&canonical.to_string_lossy())?;
    Ok(canonical)
}

/// Rejects a data path with which DuckLake lists live files as orphans.
pub(crate) fn check_data_path(text: &str) -> Result<()> {
    if text.starts_with("file:") || text.contains(['[', ']', '*', '?', '\'']) {
        return Err(LakeError::setting(format!(
            "the data path must be a directory without `file:`, quotes and []*?: data_path=`{text}`"
        )));
    }
    Ok(())
}

/// Reserved words of PostgreSQL. It accepts them as a schema's name in double quotes only, and the
/// lake's triggers and DuckLake write the name without quotes.
const RESERVED_WORDS: &str = "all analyse analyze and any array as asc asymmetric authorization binary \
    both case cast check collate collation column concurrently constraint create cross \
    current_catalog current_date current_role current_schema current_time current_timestamp \
    current_user default deferrable desc distinct do else end except false fetch for foreign freeze \
    from full grant group having ilike in initially inner intersect into is isnull join lateral \
    leading left like limit localtime localtimestamp natural not notnull null offset on only or order \
    outer overlaps placing primary references returning right select session_user similar some \
    symmetric system_user table tablesample then to trailing true union unique user using variadic \
    verbose when where window with";

/// Maximum length of a PostgreSQL identifier in bytes. Longer names are truncated.
const LONGEST_IDENTIFIER: usize = 63;

/// Refuses a name that needs quotes in SQL or in a search path.
fn check_identifier(setting: &str, name: &str) -> Result<()> {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let reason = if !plain || !name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') {
        "must be lower-case letters, digits and _, and not begin with a digit"
    } else if RESERVED_WORDS.split_whitespace().any(|word| word == name) {
        "must not be a reserved word of SQL; choose another name"
    } else if name.len() > LONGEST_IDENTIFIER {
        "must have at most 63 characters"
    } else if name.starts_with("pg_") {
        "must not begin with pg_, which PostgreSQL reserves"
    } else {
        return Ok(());
    };
    Err(LakeError::setting(format!("{setting} {reason}: value=`{name}`")))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    /// Program with the flags of a lake.
    #[derive(clap::Parser, Debug)]
    struct Program {
        #[command(flatten)]
        lake: LakeArgs,
    }

    #[test]
    fn an_invalid_catalog_is_refused_and_not_shown() {
        for catalog in ["mysql://me:s3cret@db", "s3cret", "host=db pass=s3cret", "postgres:s3cret"]
        {
            let error = Program::try_parse_from(["program", "--catalog", catalog]).unwrap_err();
            let text = error.render().to_string();
            assert!(!text.contains("s3cret"), "{text}");
            assert!(text.contains("DUCKLAKE_CATALOG"), "{text}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn an_unsupported_parameter_is_a_setting_error() {
        let arguments = ["program", "--catalog", "host=db sslmode=loud password=s3cret"];
        let error = Program::parse_from(arguments).lake.resolve().unwrap_err();
        assert_eq!(error.kind(), ducktide_protocol::ErrorKind::Setting);
        assert!(error.chain().contains("`sslmode`"), "{}", error.chain());
    }

    #[test]
    fn an_invalid_metadata_schema_is_refused() {
        for name in ["user", "table", "Lake", "1a", "", "pg_lake", &"a".repeat(64)] {
            let error = check_identifier("--metadata-schema", name).unwrap_err();
            assert!(error.to_string().contains("--metadata-schema"), "{error}");
        }
        for name in ["public", "lake_2", "_a", "users"] {
            check_identifier("--metadata-schema", name).unwrap();
        }
    }

    #[test]
    fn a_location_without_a_password_is_shared_unchanged() {
        let location: CatalogLocation = "postgres://me@db/lake?sslmode=require".parse().unwrap();
        assert_eq!(location.shareable(), location.to_string());
        assert!(!location.has_password());
    }

    #[test]
    fn a_data_path_is_canonicalized() {
        let path = canonical_data_path(Path::new("/lake//data/./x/")).unwrap();
        assert_eq!(path, Path::new("/lake/data/x"));
    }

    #[test]
    fn a_data_path_that_breaks_orphan_removal_is_refused() {
        for path in ["file:/x", "/x/[a]", "s3://bucket/[a]", "s3:///x"] {
            assert!(canonical_data_path(Path::new(path)).is_err(), "{path}");
        }
    }
}
