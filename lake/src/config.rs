//! Where a lake is: the flags that every program with a lake shares.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use crate::error::{LakeError, Result};

/// Which lake, and how to reach it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Lake")]
pub struct LakeArgs {
    /// The DuckLake catalog: `sqlite:PATH` (one machine) or `postgres://user@host/database` (many).
    #[arg(
        long,
        env = "DUCKLAKE_CATALOG",
        value_name = "CATALOG",
        default_value = "sqlite:ducklake.sqlite",
        hide_env_values = true
    )]
    pub catalog: CatalogLocation,

    /// The directory of the lake's Parquet files. Needed once, when the lake is made; afterwards the
    /// catalog knows it, and a different path is refused. [default: for SQLite the catalog's
    /// path with `.files` added]
    #[arg(long, env = "DUCKLAKE_DATA_PATH", value_name = "DIR")]
    pub data_path: Option<PathBuf>,

    /// The PostgreSQL schema that holds the lake's metadata; two lakes may share one database.
    #[arg(long, env = "DUCKLAKE_METADATA_SCHEMA", value_name = "NAME", default_value = "public")]
    pub metadata_schema: String,

    /// Where DuckDB's signed extension files are. [default: beside the program, then DuckDB's own]
    #[arg(long, env = "DUCKTIDE_EXTENSION_DIR", value_name = "DIR")]
    pub extension_dir: Option<PathBuf>,
}

/// Where the catalog is.
#[derive(Clone, PartialEq, Eq)]
pub enum CatalogLocation {
    /// A SQLite file: workers on one machine.
    Sqlite(PathBuf),
    /// A PostgreSQL database, by its URL: workers on many machines.
    Postgres(String),
}

impl FromStr for CatalogLocation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            if path.is_empty() {
                return Err("sqlite: needs a path, as in sqlite:lake.sqlite".to_owned());
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        Err("a catalog is sqlite:PATH or postgres://user@host:port/database".to_owned())
    }
}

impl fmt::Display for CatalogLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for CatalogLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl CatalogLocation {
    /// The location for somebody else's DuckDB: the URL works, but holds no password.
    #[must_use]
    pub fn shareable(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Postgres(url) => rewrite_password(url, ""),
        }
    }

    /// Whether the URL holds a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        matches!(self, Self::Postgres(url) if rewrite_password(url, "") != *url)
    }
}

/// The URL as it may be logged.
fn without_password(url: &str) -> String {
    rewrite_password(url, "***")
}

/// A text in which URLs of catalogs may stand, as it may be logged.
pub(crate) fn without_passwords(text: &str) -> String {
    let ends_url = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
    let hide = |word: &str| match word.find("postgres://").or_else(|| word.find("postgresql://")) {
        Some(start) => format!("{}{}", &word[..start], without_password(&word[start..])),
        None => word.to_owned(),
    };
    text.split_inclusive(ends_url).map(hide).collect()
}

/// The URL with another password, or, where that is empty, without one. libpq also takes passwords
/// as parameters.
fn rewrite_password(url: &str, replacement: &str) -> String {
    let (base, parameters) = split_parameters(url);
    let keep = |pair: &str| match pair.split_once('=') {
        Some((key @ ("password" | "sslpassword"), _)) => {
            (!replacement.is_empty()).then(|| format!("{key}={replacement}"))
        }
        _ => Some(pair.to_owned()),
    };
    let kept = parameters.split('&').filter(|pair| !pair.is_empty()).filter_map(keep);
    let kept = kept.collect::<Vec<_>>().join("&");
    let base = rewrite_user(base, replacement);
    if kept.is_empty() { base } else { format!("{base}?{kept}") }
}

/// A `?` before the first `@` belongs to a password, as libpq reads it, unless a path came before.
fn split_parameters(url: &str) -> (&str, &str) {
    let start = url.find("://").map_or(0, |scheme| scheme + 3);
    let find = |from: usize, c: char| url[from..].find(c).map(|at| from + at);
    let question = match (find(start, '?'), find(start, '@')) {
        (Some(question), Some(at)) if question < at && !url[start..question].contains('/') => {
            find(at, '?')
        }
        (question, _) => question,
    };
    question.map_or((url, ""), |question| (&url[..question], &url[question + 1..]))
}

fn rewrite_user(base: &str, replacement: &str) -> String {
    let Some((scheme, rest)) = base.split_once("://") else { return base.to_owned() };
    // The user part ends at the last `@`: a password may hold one, a host cannot.
    let Some((user, host)) = rest.rsplit_once('@') else { return base.to_owned() };
    match user.split_once(':') {
        Some((name, _)) if replacement.is_empty() => format!("{scheme}://{name}@{host}"),
        Some((name, _)) => format!("{scheme}://{name}:{replacement}@{host}"),
        None => base.to_owned(),
    }
}

impl LakeArgs {
    /// The same lake with absolute paths, ready to attach.
    pub fn resolve(&self) -> Result<LakeConfig> {
        check_identifier("--metadata-schema", &self.metadata_schema)?;
        let catalog = match &self.catalog {
            CatalogLocation::Sqlite(path) => CatalogLocation::Sqlite(absolute(path)?),
            postgres @ CatalogLocation::Postgres(_) => postgres.clone(),
        };
        Ok(LakeConfig {
            data_path: self.data_path.as_deref().map(canonical_data_path).transpose()?,
            catalog,
            metadata_schema: self.metadata_schema.clone(),
            extension_dir: self.extension_dir.clone(),
        })
    }
}

/// A lake whose place is known exactly.
#[derive(Clone, Debug)]
pub struct LakeConfig {
    /// Where the catalog is.
    pub catalog: CatalogLocation,
    /// The canonical data path, when it was given.
    pub data_path: Option<PathBuf>,
    /// The PostgreSQL schema of the metadata.
    pub metadata_schema: String,
    /// Where the extension files are, when it was given.
    pub extension_dir: Option<PathBuf>,
}

impl LakeConfig {
    /// The lake of a catalog, with DuckLake's own choices for everything else.
    #[must_use]
    pub fn at(catalog: CatalogLocation) -> Self {
        Self { catalog, data_path: None, metadata_schema: "public".to_owned(), extension_dir: None }
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| LakeError::invalid("resolve a relative path").because(error))
}

/// A local directory in the one spelling that DuckLake compares with.
///
/// With `//`, `file:` or `[` in a local data path `ducklake_delete_orphaned_files` lists live files
/// as orphans (measured on 1.5.5), so such a path never gets into a catalog.
fn canonical_data_path(path: &Path) -> Result<PathBuf> {
    let text = path.to_string_lossy();
    if text.contains("://") {
        return Err(LakeError::invalid(format!(
            "object storage is not supported yet; give a local directory: data_path=`{text}`"
        )));
    }
    if text.starts_with("file:") || text.contains(['[', ']', '*', '?', '\'']) {
        return Err(LakeError::invalid(format!(
            "a data path is a plain directory, without `file:`, quotes or any of []*?: data_path=`{text}`"
        )));
    }
    // `components` folds `//` and `/./`; symbolic links stay as the operator wrote them.
    Ok(absolute(path)?.components().collect())
}

/// Names that go into SQL and into a search path are plain.
fn check_identifier(setting: &str, name: &str) -> Result<()> {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') {
        return Ok(());
    }
    Err(LakeError::invalid(format!(
        "{setting} takes lower-case letters, digits and _ only: value=`{name}`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let location: CatalogLocation = "postgres://me:s3cr@t@db:5432/lake".parse().unwrap();
        assert_eq!(location.to_string(), "postgres://me:***@db:5432/lake");
        assert!(!format!("{location:?}").contains("s3cr"));
        assert_eq!(location.shareable(), "postgres://me@db:5432/lake");
        assert!(location.has_password());
    }

    #[test]
    fn a_password_among_the_parameters_is_never_shown_either() {
        let location: CatalogLocation =
            "postgres://db/lake?user=me&password=s3cr&sslmode=require".parse().unwrap();
        assert_eq!(location.to_string(), "postgres://db/lake?user=me&password=***&sslmode=require");
        assert_eq!(location.shareable(), "postgres://db/lake?user=me&sslmode=require");
    }

    #[test]
    fn a_question_mark_does_not_show_the_password_that_holds_it() {
        let location: CatalogLocation =
            "postgres://me:a?b@db/lake?sslmode=require".parse().unwrap();
        assert_eq!(location.to_string(), "postgres://me:***@db/lake?sslmode=require");
    }

    #[test]
    fn a_password_within_an_error_is_not_shown() {
        let error = "Unable to connect to Postgres at \"postgres://me:s3cr@db:5432/lake?a=b\": no";
        assert_eq!(without_passwords(error), error.replace("s3cr", "***"));
        let error = "path \"postgres:postgresql://me:s3cr@db/lake\" and 'x'";
        assert_eq!(without_passwords(error), error.replace("s3cr", "***"));
    }

    #[test]
    fn a_location_without_a_password_stays_as_it_is() {
        let location: CatalogLocation = "postgres://me@db/lake?sslmode=require".parse().unwrap();
        assert_eq!(location.shareable(), location.to_string());
        assert!(!location.has_password());
    }

    #[test]
    fn a_data_path_has_one_spelling() {
        let path = canonical_data_path(Path::new("/lake//data/./x/")).unwrap();
        assert_eq!(path, Path::new("/lake/data/x"));
    }

    #[test]
    fn a_data_path_that_confuses_orphan_removal_is_refused() {
        for path in ["file:/x", "/x/[a]", "s3://bucket/x"] {
            assert!(canonical_data_path(Path::new(path)).is_err(), "{path}");
        }
    }
}
