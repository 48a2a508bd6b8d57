//! Bucket of Google Cloud Storage.

use std::env;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use object_store::client::{HttpClient, HttpConnector as _, ReqwestConnector};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::signer::Url;

use super::client::{self, invalid, refused};
use super::error::{self, Reason, StoreErrors, TextReason};
use super::runtime::wait;
use super::secret::{AmbientCredentials, DuckDbSecret, SecretOption};
use super::store::{Requests, Store};
use super::unfinished::{self, PageRequest, Query, UnfinishedUpload};
use crate::url::ObjectUrl;

/// Environment variables of an endpoint and of the permission of http.
const ENDPOINT: [&str; 2] = ["GOOGLE_BASE_URL", "GOOGLE_ALLOW_HTTP"];

/// Environment variable of a token.
const TOKEN: &str = "GOOGLE_BEARER_TOKEN";

/// URL of the service.
const SERVICE: &str = "https://storage.googleapis.com";

/// Bucket of Google Cloud Storage.
#[derive(Debug)]
pub(super) struct Gcs {
    store: Arc<GoogleCloudStorage>,
    /// Client for requests that the store's own client does not have.
    http: HttpClient,
    endpoint: String,
    bucket: String,
}

impl Gcs {
    /// Connects a bucket. Makes no request.
    pub(super) fn connect(url: &ObjectUrl) -> io::Result<Self> {
        let builder = GoogleCloudStorageBuilder::from_env().with_url(&url.bucket);
        let options = client::options("GOOGLE_", env::vars_os());
        let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
        let endpoint = endpoint.filter(|value| !value.is_empty());
        let endpoint = endpoint.unwrap_or_else(|| SERVICE.to_owned());
        client::check_endpoint(&endpoint, &options, ENDPOINT)?;
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let bucket = url.bucket.trim_start_matches("gs://").to_owned();
        let http = ReqwestConnector::default().connect(&options);
        let http = http.map_err(|error| refused(url, &error))?;
        let builder = builder.with_base_url(&endpoint).with_client_options(options);
        let store = builder.with_retry(client::retries()).build().map_err(|error| {
            invalid(&format!(
                "the credentials of Google Cloud Storage cannot be read; correct GOOGLE_SERVICE_ACCOUNT or \
                 GOOGLE_APPLICATION_CREDENTIALS: {error}: url=`{}`",
                url.bucket
            ))
        })?;
        Ok(Self { store: Arc::new(store), http, endpoint, bucket })
    }

    /// Returns the present token. The client renews it before it expires.
    fn token(&self, operation: &str, at: &Path) -> io::Result<String> {
        let credentials = Arc::clone(self.store.credentials());
        let credential = wait(async move { credentials.get_credential().await })?;
        let credential = credential.map_err(|error| ERRORS.failed(operation, at, &error))?;
        Ok(credential.bearer.clone())
    }

    /// Returns a request for the bucket.
    fn authorize(&self, query: Query, at: &Path) -> io::Result<PageRequest> {
        let token = self.token(unfinished::OPERATION, at)?;
        let url = Url::parse(&format!("{}/{}", self.endpoint, self.bucket));
        let mut url = url.map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        url.query_pairs_mut().extend_pairs(query);
        Ok(PageRequest { url, token: Some(token) })
    }

    /// Returns the options of a secret with a token.
    fn options(&self, token: &str) -> Vec<SecretOption> {
        let mut options = vec![SecretOption::hidden("BEARER_TOKEN", token, TOKEN)];
        if self.endpoint != SERVICE {
            options.extend(SecretOption::of_endpoint(&self.endpoint));
        }
        options
    }
}

impl Store for Gcs {
    fn requests(&self) -> Arc<dyn Requests> {
        self.store.clone()
    }

    fn errors(&self) -> StoreErrors {
        ERRORS
    }

    fn duckdb_extension(&self) -> &'static str {
        "httpfs"
    }

    fn duckdb_secret(&self, bucket: &str) -> io::Result<DuckDbSecret> {
        let token = self.token("GET credentials", Path::new(bucket))?;
        Ok(DuckDbSecret {
            extension: self.duckdb_extension(),
            secret_type: "gcs",
            provider: None,
            scope: bucket.to_owned(),
            options: self.options(&token),
            settings: Vec::new(),
            without_variables: AmbientCredentials {
                before: "-- Before you start DuckDB: \
                         export GOOGLE_BEARER_TOKEN=$(gcloud auth print-access-token)\n",
                provider: None,
                options: self.options(""),
            },
        })
    }

    fn unfinished_uploads(&self, prefix: &str, at: &Path) -> io::Result<Vec<UnfinishedUpload>> {
        unfinished::list(&self.http, ERRORS, (prefix, at), &|query| self.authorize(query, at))
    }
}

const ERRORS: StoreErrors = StoreErrors { of_code, of_text: OF_TEXT };

/// Codes: <https://cloud.google.com/storage/docs/xml-api/reference-status>.
fn of_code(code: &str) -> Option<Reason> {
    let known = match code {
        "AccessDenied" => (
            ErrorKind::PermissionDenied,
            "the store denies this operation; grant the service account permission to create, get \
             and list objects below the data path",
        ),
        "AuthenticationRequired" | "InvalidToken" | "ExpiredToken" => (
            ErrorKind::PermissionDenied,
            "the store rejects the credentials; correct GOOGLE_SERVICE_ACCOUNT or \
             GOOGLE_APPLICATION_CREDENTIALS, or renew GOOGLE_BEARER_TOKEN",
        ),
        "UserProjectMissing" | "AccountProblem" | "BillingDisabled" => (
            ErrorKind::PermissionDenied,
            "the store requires a project that is billed; correct the settings of the bucket's project",
        ),
        _ => return error::of_bucket_code(code),
    };
    Some(known)
}

/// Text of an error if no credentials can be obtained.
const NO_CREDENTIALS: &str = "no credentials for the object store; set GOOGLE_SERVICE_ACCOUNT or \
     GOOGLE_APPLICATION_CREDENTIALS to the file of a service account, or give this machine a service account";

const OF_TEXT: &[TextReason] = &[
    // Service that gives a machine the token of its service account, asked when no credentials are set.
    TextReason { part: "computeMetadata", kind: None, reason: NO_CREDENTIALS },
    TextReason {
        part: "Error performing token request",
        kind: None,
        reason: "the token of the service account cannot be obtained; correct GOOGLE_SERVICE_ACCOUNT or \
         GOOGLE_APPLICATION_CREDENTIALS, and check the clock of this machine",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::error::tests::{response, text_of};

    fn gcs(endpoint: &str) -> Gcs {
        let builder = GoogleCloudStorageBuilder::new().with_bucket_name("bucket");
        Gcs {
            store: Arc::new(builder.with_bearer_token("t0ken").build().unwrap()),
            http: ReqwestConnector::default().connect(&object_store::ClientOptions::new()).unwrap(),
            endpoint: endpoint.to_owned(),
            bucket: "bucket".to_owned(),
        }
    }

    #[test]
    fn the_token_is_hidden_and_another_endpoint_is_shown() {
        let secret = gcs("http://127.0.0.1:1").duckdb_secret("gs://bucket").unwrap();

        let values: Vec<_> = secret.options.iter().map(SecretOption::value).collect();
        assert_eq!(values, ["t0ken", "127.0.0.1:1", "false"]);
        assert!(!format!("{secret:?}").contains("t0ken"), "{secret:?}");
        assert_eq!(gcs(SERVICE).duckdb_secret("gs://bucket").unwrap().options.len(), 1);
    }

    #[test]
    fn unfinished_uploads_are_listed_with_the_token() {
        let query = vec![("uploads".to_owned(), String::new()), ("prefix".into(), "a/b".into())];
        let request = gcs(SERVICE).authorize(query, Path::new("gs://bucket/a")).unwrap();

        assert_eq!(request.url.as_str(), format!("{SERVICE}/bucket?uploads=&prefix=a%2Fb"));
        assert_eq!(request.token.as_deref(), Some("t0ken"));
    }

    #[test]
    fn each_misconfiguration_is_one_line_that_names_the_setting() {
        for (code, setting) in [
            ("NoSuchBucket", "data path"),
            ("AccessDenied", "permission"),
            ("AuthenticationRequired", "GOOGLE_SERVICE_ACCOUNT"),
        ] {
            let text = response(ERRORS, code).to_string();
            assert!(text.contains(setting) && text.contains("://bucket/lake/f"), "{text}");
        }
        let text = text_of(ERRORS, "Error performing GET http://h/computeMetadata/v1/token");
        assert!(text.contains("set GOOGLE_SERVICE_ACCOUNT"), "{text}");
    }
}
