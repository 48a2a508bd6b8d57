//! Connection to a bucket, with settings from the environment variables that the provider's own tools use.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::{Error, RetryConfig};

use super::secret::DuckDbSecret;
use crate::url::ObjectUrl;

/// Longest time for which a request is repeated. The caller repeats the whole operation afterwards, as in
/// an outage of any length.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of repetitions of a request.
const MAX_RETRIES: usize = 6;

/// Operations that every store has.
pub(super) trait Store: ObjectStore + MultipartStore + PaginatedListStore {}

impl<T: ObjectStore + MultipartStore + PaginatedListStore> Store for T {}

/// Connection to a bucket.
#[derive(Debug)]
pub(super) struct Connection {
    store: Arc<dyn Store>,
    s3: Option<S3>,
}

/// Settings of a bucket in S3 that DuckDB needs too.
#[derive(Debug)]
pub(super) struct S3 {
    pub(super) store: Arc<AmazonS3>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) has_virtual_host: bool,
}

impl Connection {
    pub(super) fn open(url: &ObjectUrl) -> io::Result<Self> {
        let retry = RetryConfig {
            max_retries: MAX_RETRIES,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let bucket = url.bucket.as_str();
        match url.scheme() {
            "s3" | "s3a" => {
                let builder = AmazonS3Builder::from_env().with_url(bucket).with_retry(retry);
                let setting = |key| builder.get_config_value(&key);
                let endpoint = setting(AmazonS3ConfigKey::S3Endpoint)
                    .or_else(|| setting(AmazonS3ConfigKey::Endpoint));
                let region = setting(AmazonS3ConfigKey::Region)
                    .or_else(|| setting(AmazonS3ConfigKey::DefaultRegion));
                let is_virtual = setting(AmazonS3ConfigKey::VirtualHostedStyleRequest);
                let has_virtual_host =
                    is_virtual.map_or(endpoint.is_none(), |setting| setting == "true");
                let store = Arc::new(builder.build().map_err(|error| refused(url, &error))?);
                let s3 = S3 { store: Arc::clone(&store), region, endpoint, has_virtual_host };
                Ok(Self { store, s3: Some(s3) })
            }
            "gs" => {
                let builder = GoogleCloudStorageBuilder::from_env().with_url(bucket);
                let store = builder.with_retry(retry).build();
                Ok(Self::without_s3(Arc::new(store.map_err(|error| refused(url, &error))?)))
            }
            "az" | "azure" | "abfs" | "abfss" => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(bucket);
                let store = builder.with_retry(retry).build();
                Ok(Self::without_s3(Arc::new(store.map_err(|error| refused(url, &error))?)))
            }
            scheme => Err(io::Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "unknown scheme of object storage; the known ones are s3, gs, az and abfss: \
                     scheme=`{scheme}` url=`{bucket}`"
                ),
            )),
        }
    }

    fn without_s3(store: Arc<dyn Store>) -> Self {
        Self { store, s3: None }
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    pub(super) fn duckdb_secret(&self, bucket: &str) -> io::Result<DuckDbSecret> {
        match &self.s3 {
            Some(s3) => DuckDbSecret::of_s3(s3, bucket),
            None => Err(io::Error::new(
                ErrorKind::Unsupported,
                format!(
                    "DuckDB cannot read this store with the extensions that Ducktide ships; use a bucket with \
                     the S3 protocol: url=`{bucket}`"
                ),
            )),
        }
    }
}

fn refused(url: &ObjectUrl, error: &Error) -> io::Error {
    let text = format!("connect to the object store: {error}: url=`{}`", url.bucket);
    io::Error::new(ErrorKind::InvalidInput, text)
}
