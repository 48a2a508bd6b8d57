//! Interface of the kinds of object storage.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;

use super::error::StoreErrors;
use super::secret::DuckDbSecret;
use super::unfinished::UnfinishedUpload;

/// Requests that all stores have.
pub(super) trait Requests: ObjectStore + MultipartStore + PaginatedListStore {}

impl<T: ObjectStore + MultipartStore + PaginatedListStore> Requests for T {}

/// Bucket of one kind of store: its client, and what the kinds of stores do differently.
pub(super) trait Store: Debug + Send + Sync {
    /// Returns the client.
    fn requests(&self) -> Arc<dyn Requests>;

    /// Returns the reasons of errors, with the names of this store's settings.
    fn errors(&self) -> StoreErrors;

    /// Returns the DuckDB extension that reads this store.
    fn duckdb_extension(&self) -> &'static str;

    /// Returns the settings of DuckDB with the present credentials, which the client renews before they
    /// expire. `bucket` is the scheme and the bucket.
    fn duckdb_secret(&self, bucket: &str) -> io::Result<DuckDbSecret>;

    /// Lists the unfinished uploads of keys with a prefix. `at` is the URL of the prefix, for errors.
    fn unfinished_uploads(&self, prefix: &str, at: &Path) -> io::Result<Vec<UnfinishedUpload>>;
}
