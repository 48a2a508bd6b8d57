//! `ducktide attach`: the statements that attach the lake to another DuckDB.

use std::env;
use std::io::{self, Write as _};
use std::path::Path;

use clap::Args;
use ducktide_lake::config::{CatalogLocation, LakeArgs, LakeConfig};
use ducktide_protocol::error::LakeError;
use ducktide_storage::{DuckDbSecret, SecretOption, Storage};

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
/// The lake is not opened. A password or key is never printed: DuckDB reads it from the environment, as a
/// comment explains. If the data path is in object storage, set --data-path: the
/// statements then create the secret that DuckDB needs. The lake is attached read-only, which any number of clients can do while consumers
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
    let secret = config.data_path.as_deref().map_or(Ok(None), storage_secret)?;
    io::stdout().write_all(statements(&config, secret.as_ref(), args.write).as_bytes())?;
    Ok(())
}

/// Returns the secret with which DuckDB reads a data path in object storage.
fn storage_secret(data_path: &Path) -> Result<Option<DuckDbSecret>, Failure> {
    let secret = Storage::of(data_path).and_then(|storage| storage.duckdb_secret());
    let what = || format!("use the data path (--data-path): data_path=`{}`", data_path.display());
    Ok(secret.map_err(|error| LakeError::of_io(what(), error))?)
}

fn statements(config: &LakeConfig, secret: Option<&DuckDbSecret>, write: bool) -> String {
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
        "{versions}{extensions}{secret}{password}ATTACH {target} AS lake{options};\nUSE lake;\n",
        versions = versions(config),
        extensions = extensions(config, extension, secret),
        secret = secret.map_or_else(String::new, create_secret),
        password = password_comment(&config.catalog),
    )
}

/// Returns the statements that create a secret. DuckDB reads credentials from the environment variables
/// that are set here, otherwise from where it finds them itself.
fn create_secret(secret: &DuckDbSecret) -> String {
    let is_set = |option: &SecretOption| match &option.hidden {
        Some(hidden) => env::var_os(hidden.variable).is_some(),
        None => true,
    };
    let has_variables = secret.options.iter().all(is_set);
    let other = &secret.without_variables;
    let (before, provider, options) = if has_variables {
        let comment = "-- DuckDB's command line reads the credentials from the environment.\n";
        (comment, secret.provider, &secret.options)
    } else {
        (other.before, other.provider, &other.options)
    };
    let settings = secret.settings.iter();
    let settings = settings.map(|(name, value)| format!("SET {name} = {};\n", quote(value)));
    let settings: String = settings.collect();
    let parts = [format!("TYPE {}", secret.secret_type)].into_iter();
    let parts = parts.chain(provider.map(|provider| format!("PROVIDER {provider}")));
    let parts = parts.chain(options.iter().map(option_without_value));
    let parts = parts.chain([format!("SCOPE {}", quote(&secret.scope))]).collect::<Vec<_>>();
    format!("{before}{settings}CREATE SECRET ({});\n", parts.join(", "))
}

/// Returns an option that names the environment variable of its hidden part.
fn option_without_value(option: &SecretOption) -> String {
    let (name, shown) = (option.name, quote(&option.shown));
    match &option.hidden {
        None => format!("{name} {shown}"),
        Some(hidden) if option.shown.is_empty() => {
            format!("{name} getenv({})", quote(hidden.variable))
        }
        Some(hidden) => format!("{name} {shown} || getenv({})", quote(hidden.variable)),
    }
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
fn extensions(
    config: &LakeConfig,
    catalog_extension: &str,
    secret: Option<&DuckDbSecret>,
) -> String {
    let storage_extension = secret.map(|secret| secret.extension);
    let load = |name: &str| match &config.extension_dir {
        None => format!("INSTALL {name}; LOAD {name};\n"),
        Some(directory) => {
            // The files of these two have longer names than the extensions.
            let suffix = if name == catalog_extension { "_scanner" } else { "" };
            let file = directory.join(format!("{name}{suffix}.duckdb_extension"));
            format!("LOAD {};\n", quote(&file.to_string_lossy()))
        }
    };
    ["ducklake", catalog_extension].into_iter().chain(storage_extension).map(load).collect()
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

    use ducktide_storage::{AmbientCredentials, HiddenValue};

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
        let sql = statements(&config("sqlite:/o'clock/lake.sqlite"), None, false);

        assert!(sql.contains("INSTALL sqlite; LOAD sqlite;"), "{sql}");
        assert!(
            sql.contains("ATTACH 'ducklake:sqlite:/o''clock/lake.sqlite' AS lake (READ_ONLY);"),
            "{sql}"
        );
    }

    #[test]
    fn a_password_is_not_printed_but_its_variable_is() {
        let sql = statements(&config("postgres://me:s3cret@db:5432/lake"), None, true);

        assert!(!sql.contains("s3cret"), "{sql}");
        assert!(sql.contains("PGPASSWORD"), "{sql}");
        let attach = "ATTACH 'ducklake:postgres:postgres://me@db:5432/lake' AS lake \
                      (METADATA_SCHEMA 'lake_a');";
        assert!(sql.contains(attach), "{sql}");

        let sql = statements(&config("host=db user=me password=s3cret dbname=lake"), None, true);
        assert!(!sql.contains("s3cret") && sql.contains("postgres://me@db/lake"), "{sql}");
    }

    #[test]
    fn extensions_are_loaded_from_the_configured_directory() {
        let config = LakeConfig {
            extension_dir: Some(PathBuf::from("/opt/extensions")),
            ..config("sqlite:lake.sqlite")
        };

        let sql = statements(&config, None, false);

        assert!(sql.contains("LOAD '/opt/extensions/sqlite_scanner.duckdb_extension';"), "{sql}");
        assert!(sql.starts_with("-- For DuckDB 1.5.5 only"), "{sql}");
        assert!(sql.lines().take(3).all(|line| line.starts_with("--")), "{sql}");
    }

    #[test]
    fn credentials_of_object_storage_are_not_printed_but_their_variables_are() {
        let shown = |name, value: &str| SecretOption { name, shown: value.into(), hidden: None };
        let hidden = |shown: &str, variable| SecretOption {
            name: "SECRET",
            shown: shown.into(),
            hidden: Some(HiddenValue { value: "s3cret".to_owned(), variable }),
        };
        let secret = |before: &str, variable| DuckDbSecret {
            extension: "httpfs",
            secret_type: "s3",
            provider: None,
            scope: "s3://bucket".to_owned(),
            settings: Vec::new(),
            options: vec![hidden(before, variable), shown("REGION", "eu")],
            without_variables: AmbientCredentials {
                before: "LOAD aws;\n",
                provider: Some("credential_chain"),
                options: vec![shown("REGION", "eu")],
            },
        };
        let lake = config("sqlite:lake.sqlite");

        // Every process has this variable.
        let sql = statements(&lake, Some(&secret("", "PATH")), false);
        let expected =
            "CREATE SECRET (TYPE s3, SECRET getenv('PATH'), REGION 'eu', SCOPE 's3://bucket');";
        assert!(sql.contains(expected) && sql.contains("LOAD httpfs;"), "{sql}");
        assert!(!sql.contains("s3cret"), "{sql}");

        let sql = statements(&lake, Some(&secret("Key=", "PATH")), false);
        assert!(sql.contains("SECRET 'Key=' || getenv('PATH'), "), "{sql}");

        let sql = statements(&lake, Some(&secret("", "DUCKTIDE_NO_SUCH_VARIABLE")), false);
        let expected = "LOAD aws;\nCREATE SECRET (TYPE s3, PROVIDER credential_chain, REGION 'eu',";
        assert!(sql.contains(expected), "{sql}");
    }
}
