//! Object storage in DuckDB: the extension that reads it, and a secret with the present credentials.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use duckdb::Connection;
use ducktide_protocol::error::{LakeError, Result};
use ducktide_storage::{DuckDbSecret, Storage};

use crate::data_path::storage_of;
use crate::extensions;
use crate::sql_text::quote;

/// Name of the secret in DuckDB.
const SECRET: &str = "ducktide_data_path";

/// Access of a DuckDB instance to the data path's storage.
pub(crate) struct StorageAccess {
    /// Folder of the extension files; None if DuckDB installs them.
    extensions: Option<PathBuf>,
    opened: RefCell<Option<Opened>>,
}

/// A storage that DuckDB reads with a secret.
struct Opened {
    storage: Storage,
    secret: DuckDbSecret,
}

impl StorageAccess {
    pub(crate) const fn new(extensions: Option<PathBuf>) -> Self {
        Self { extensions, opened: RefCell::new(None) }
    }

    /// Returns whether DuckDB has an extension and a secret.
    pub(crate) fn is_open(&self) -> bool {
        self.opened.borrow().is_some()
    }

    /// Loads the extension for the storage of a data path and creates the secret, if DuckDB needs them.
    /// Returns whether it does.
    pub(crate) fn open(&self, connection: &Connection, data_path: &Path) -> Result<bool> {
        let storage = storage_of(data_path)?;
        let Some(secret) = secret(&storage)? else { return Ok(false) };
        extensions::load(connection, secret.extension, self.extensions.as_deref())?;
        create_secret(connection, &secret)?;
        *self.opened.borrow_mut() = Some(Opened { storage, secret });
        Ok(true)
    }

    /// Replaces the secret if the credentials have changed: temporary ones expire.
    pub(crate) fn renew(&self, connection: &Connection) -> Result<()> {
        let mut opened = self.opened.borrow_mut();
        let Some(opened) = opened.as_mut() else { return Ok(()) };
        let Some(present) = secret(&opened.storage)? else { return Ok(()) };
        if present != opened.secret {
            create_secret(connection, &present)?;
            opened.secret = present;
        }
        Ok(())
    }
}

fn secret(storage: &Storage) -> Result<Option<DuckDbSecret>> {
    let secret = storage.duckdb_secret();
    secret.map_err(|error| LakeError::of_io("read the credentials of the object store", error))
}

fn create_secret(connection: &Connection, secret: &DuckDbSecret) -> Result<()> {
    let settings = secret.settings.iter();
    let settings = settings.map(|(name, value)| format!("SET {name} = {}; ", quote(value)));
    let provider = secret.provider.map(|provider| format!("PROVIDER {provider}"));
    let options = secret.options.iter();
    let options = options.map(|option| format!("{} {}", option.name, quote(&option.value())));
    let options = provider.into_iter().chain(options).map(|option| format!(", {option}"));
    let sql = format!(
        "{}CREATE OR REPLACE TEMPORARY SECRET {SECRET} (TYPE {}{}, SCOPE {})",
        settings.collect::<String>(),
        secret.secret_type,
        options.collect::<String>(),
        quote(&secret.scope)
    );
    // The error is dropped because it can contain the statement.
    connection
        .execute_batch(&sql)
        .map_err(|_| LakeError::invalid("pass the credentials of the object store to DuckDB"))
}
