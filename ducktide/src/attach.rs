//! `ducktide attach`: the statements that attach the lake to another DuckDB.

use std::io::{self, Write as _};

use clap::Args;
use ducktide_lake::config::{CatalogLocation, LakeArgs, LakeConfig};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # DuckDB's shell on the lake
  ducktide attach > lake.sql && duckdb -init lake.sql

  # with a password
  export PGPASSWORD=...
  ducktide attach --catalog postgres://lake@db/lake > lake.sql && duckdb -init lake.sql";

/// Prints the statements that attach the lake to another DuckDB.
///
/// The lake is not opened. A password is never printed: DuckDB reads it from the environment, as a
/// comment explains. The lake is attached read-only, which any number of clients can do while consumers
/// write.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct AttachArgs {
    /// Attach for reading and writing. Rows that you insert have no offsets; rows that you delete or change
    /// no longer match the ledger.
    #[arg(long)]
    pub write: bool,

    /// The lake.
    #[command(flatten)]
    pub lake: LakeArgs,
}

pub(crate) fn run(args: &AttachArgs) -> Result<(), Failure> {
    let config = args.lake.resolve()?;
    io::stdout().write_all(statements(&config, args.write).as_bytes())?;
    Ok(())
}

fn statements(config: &LakeConfig, write: bool) -> String {
    let (extension, mut options) = match &config.catalog {
        CatalogLocation::Sqlite(_) => ("sqlite", Vec::new()),
        CatalogLocation::Postgres(_) => {
            ("postgres", vec![format!("METADATA_SCHEMA {}", quote(&config.metadata_schema))])
        }
    };
    if !write {
        options.insert(0, "READ_ONLY".to_owned());
    }
    let options =
        if options.is_empty() { String::new() } else { format!(" ({})", options.join(", ")) };
    let target = quote(&format!("ducklake:{}", ducklake_location(&config.catalog)));
    format!(
        "{versions}{extensions}{password}ATTACH {target} AS lake{options};\nUSE lake;\n",
        versions = versions(config),
        extensions = extensions(config, extension),
        password = password_comment(&config.catalog),
    )
}

/// Returns the location in DuckLake's format: `postgres:` before the URL is the kind of catalog.
fn ducklake_location(catalog: &CatalogLocation) -> String {
    match catalog {
        CatalogLocation::Sqlite(_) => catalog.shareable(),
        CatalogLocation::Postgres(_) => format!("postgres:{}", catalog.shareable()),
    }
}

/// Returns a comment about the version of DuckDB. Extension files fit one version only; DuckDB's
/// repository has them for every version.
fn versions(config: &LakeConfig) -> String {
    match &config.extension_dir {
        None => "-- For DuckDB 1.5.2 or newer.\n".to_owned(),
        Some(_) => "-- For DuckDB 1.5.5 only: other versions refuse the extension files of\n\
                    -- DUCKTIDE_EXTENSION_DIR. Without that variable, the extensions are installed from\n\
                    -- DuckDB's repository, for DuckDB 1.5.2 or newer.\n"
            .to_owned(),
    }
}

/// Returns the statements that load the extensions, from DuckDB's repository or the configured
/// directory.
fn extensions(config: &LakeConfig, catalog_extension: &str) -> String {
    match &config.extension_dir {
        None => ["ducklake", catalog_extension]
            .map(|name| format!("INSTALL {name}; LOAD {name};\n"))
            .concat(),
        Some(directory) => ["ducklake".to_owned(), format!("{catalog_extension}_scanner")]
            .map(|name| directory.join(format!("{name}.duckdb_extension")))
            .map(|file| format!("LOAD {};\n", quote(&file.to_string_lossy())))
            .concat(),
    }
}

fn password_comment(catalog: &CatalogLocation) -> &'static str {
    if catalog.has_password() {
        "-- The password is left out: set PGPASSWORD, or add it to ~/.pgpass, before you start DuckDB.\n"
    } else {
        ""
    }
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn config(catalog: &str) -> LakeConfig {
        LakeConfig {
            catalog: catalog.parse().unwrap(),
            data_path: None,
            metadata_schema: "lake_a".to_owned(),
            extension_dir: None,
        }
    }

    #[test]
    fn a_sqlite_catalog_is_attached_read_only() {
        let sql = statements(&config("sqlite:/o'clock/lake.sqlite"), false);

        assert!(sql.contains("INSTALL sqlite; LOAD sqlite;"), "{sql}");
        assert!(
            sql.contains("ATTACH 'ducklake:sqlite:/o''clock/lake.sqlite' AS lake (READ_ONLY);"),
            "{sql}"
        );
    }

    #[test]
    fn a_password_is_not_printed_but_its_variable_is() {
        let sql = statements(&config("postgres://me:s3cret@db:5432/lake"), true);

        assert!(!sql.contains("s3cret"), "{sql}");
        assert!(sql.contains("PGPASSWORD"), "{sql}");
        let attach = "ATTACH 'ducklake:postgres:postgres://me@db:5432/lake' AS lake \
                      (METADATA_SCHEMA 'lake_a');";
        assert!(sql.contains(attach), "{sql}");

        let sql = statements(&config("host=db user=me password=s3cret dbname=lake"), true);
        assert!(!sql.contains("s3cret") && sql.contains("postgres://me@db/lake"), "{sql}");
    }

    #[test]
    fn extensions_are_loaded_from_the_configured_directory() {
        let config = LakeConfig {
            extension_dir: Some(PathBuf::from("/opt/extensions")),
            ..config("sqlite:lake.sqlite")
        };

        let sql = statements(&config, false);

        assert!(sql.contains("LOAD '/opt/extensions/sqlite_scanner.duckdb_extension';"), "{sql}");
        assert!(sql.starts_with("-- For DuckDB 1.5.5 only"), "{sql}");
        assert!(sql.lines().take(3).all(|line| line.starts_with("--")), "{sql}");
    }
}
