//! Bucket of a store with the S3 protocol.

use std::env;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpClient, HttpConnector as _, ReqwestConnector};
use object_store::path::Path as Key;
use object_store::signer::{SignedUrlOptions, Signer as _};

use super::client::{self, invalid, refused};
use super::error::{self, Reason, StoreErrors, TextReason, UNTRUSTED};
use super::runtime::wait;
use super::secret::{AmbientCredentials, DuckDbSecret, SecretOption};
use super::store::{Requests, Store};
use super::unfinished::{self, PageRequest, Query, UnfinishedUpload};
use crate::url::ObjectUrl;

/// Environment variable with the file of certificates of authorities, as in AWS' own tools.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// Environment variables of an endpoint and of the permission of http.
const ENDPOINT: [&str; 2] = ["AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"];

/// Host of Google Cloud Storage.
const GOOGLE: &str = "//storage.googleapis.com";

/// Validity of the signature of a request.
const SIGNATURE: Duration = Duration::from_mins(5);

/// Bucket of a store with the S3 protocol.
#[derive(Debug)]
pub(super) struct S3 {
    store: Arc<AmazonS3>,
    /// Client for requests that the store's own client does not have.
    http: HttpClient,
    region: Option<String>,
    endpoint: Option<String>,
    has_virtual_host: bool,
    ca_bundle: Option<PathBuf>,
}

impl S3 {
    /// Connects a bucket. Makes no request.
    pub(super) fn connect(url: &ObjectUrl) -> io::Result<Self> {
        let is_set = |name: &str| env::var_os(name).is_some();
        if is_set("AWS_PROFILE") && !is_set("AWS_ACCESS_KEY_ID") {
            return Err(invalid(
                "AWS_PROFILE is not supported; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for example by \
                 `eval $(aws configure export-credentials --format env)`",
            ));
        }
        let mut options = client::options("AWS_", env::vars_os());
        let ca_bundle = env::var_os(CA_BUNDLE).filter(|file| !file.is_empty()).map(PathBuf::from);
        if let Some(file) = &ca_bundle {
            options = client::with_authorities(options, file, CA_BUNDLE)?;
        }
        let builder = AmazonS3Builder::from_env().with_url(&url.bucket);
        let setting = |key| builder.get_config_value(&key);
        let endpoint =
            setting(AmazonS3ConfigKey::S3Endpoint).or_else(|| setting(AmazonS3ConfigKey::Endpoint));
        if let Some(endpoint) = &endpoint {
            client::check_endpoint(endpoint, &options, ENDPOINT)?;
            if endpoint.contains(GOOGLE) {
                return Err(invalid(
                    "the S3 protocol of Google Cloud Storage has no condition with which only one lake can \
                     claim a prefix; give gs://BUCKET/PREFIX, and the file of a service account in \
                     GOOGLE_APPLICATION_CREDENTIALS",
                ));
            }
        }
        let region = setting(AmazonS3ConfigKey::Region);
        let has_virtual_host =
            setting(AmazonS3ConfigKey::VirtualHostedStyleRequest).is_some_and(|set| set == "true");
        let http = ReqwestConnector::default().connect(&options);
        let http = http.map_err(|error| refused(url, &error))?;
        let builder = builder.with_client_options(options).with_retry(client::retries());
        let store = Arc::new(builder.build().map_err(|error| refused(url, &error))?);
        Ok(Self { store, http, region, endpoint, has_virtual_host, ca_bundle })
    }

    /// Returns a request for the bucket with a signature in its URL.
    fn sign(&self, query: Query, at: &Path) -> io::Result<PageRequest> {
        let store = Arc::clone(&self.store);
        let url = wait(async move {
            let options = SignedUrlOptions::default().with_query(query);
            store.signed_url_opts(Method::GET, &Key::ROOT, SIGNATURE, &options).await
        })?;
        let url = url.map_err(|error| ERRORS.failed(unfinished::OPERATION, at, &error))?;
        Ok(PageRequest { url, token: None })
    }

    /// Returns the options of a secret that are no credentials.
    fn location_options(&self) -> Vec<SecretOption> {
        let mut options = Vec::new();
        options.extend(self.region.as_deref().map(|region| SecretOption::shown("REGION", region)));
        options.extend(self.endpoint.as_deref().into_iter().flat_map(SecretOption::of_endpoint));
        let style = if self.has_virtual_host { "vhost" } else { "path" };
        options.push(SecretOption::shown("URL_STYLE", style));
        options
    }
}

impl Store for S3 {
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
        let credentials = Arc::clone(self.store.credentials());
        let credential = wait(async move { credentials.get_credential().await })?;
        let credential = credential
            .map_err(|error| ERRORS.failed("GET credentials", Path::new(bucket), &error))?;
        let mut options = vec![
            SecretOption::hidden("KEY_ID", &credential.key_id, "AWS_ACCESS_KEY_ID"),
            SecretOption::hidden("SECRET", &credential.secret_key, "AWS_SECRET_ACCESS_KEY"),
        ];
        let token = credential.token.as_deref();
        let token =
            token.map(|token| SecretOption::hidden("SESSION_TOKEN", token, "AWS_SESSION_TOKEN"));
        options.extend(token);
        options.extend(self.location_options());
        let ca_bundle = self.ca_bundle.as_ref().map(|file| file.to_string_lossy().into_owned());
        Ok(DuckDbSecret {
            extension: self.duckdb_extension(),
            secret_type: "s3",
            provider: None,
            scope: bucket.to_owned(),
            options,
            settings: ca_bundle.map(|file| ("ca_cert_file", file)).into_iter().collect(),
            without_variables: AmbientCredentials {
                before: "INSTALL aws; LOAD aws;\n",
                provider: Some("credential_chain"),
                options: self.location_options(),
            },
        })
    }

    fn unfinished_uploads(&self, prefix: &str, at: &Path) -> io::Result<Vec<UnfinishedUpload>> {
        unfinished::list(&self.http, ERRORS, (prefix, at), &|query| self.sign(query, at))
    }
}

const ERRORS: StoreErrors = StoreErrors { of_code, of_text: OF_TEXT };

fn of_code(code: &str) -> Option<Reason> {
    let known = match code {
        "AccessDenied" => (
            ErrorKind::PermissionDenied,
            "the store denies this operation; grant the credentials permission to put, get and list \
             below the data path",
        ),
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" => (
            ErrorKind::PermissionDenied,
            "the store rejects the credentials; correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired" => (
            ErrorKind::PermissionDenied,
            "the temporary credentials have expired or are invalid; renew AWS_SESSION_TOKEN with its keys",
        ),
        "RequestTimeTooSkewed" | "RequestExpired" => (
            ErrorKind::PermissionDenied,
            "the clock of this machine differs from that of the store; set the clock",
        ),
        "AuthorizationHeaderMalformed"
        | "PermanentRedirect"
        | "IllegalLocationConstraintException" => {
            (ErrorKind::InvalidInput, "the bucket is in another region; set AWS_REGION")
        }
        _ => return error::of_bucket_code(code),
    };
    Some(known)
}

const OF_TEXT: &[TextReason] = &[
    // Address of the service that gives a machine the credentials of its role, asked when no others are set.
    TextReason {
        part: "http://169.254.",
        kind: None,
        reason: "no credentials for the object store; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this \
         machine a role",
    },
    TextReason {
        part: UNTRUSTED,
        kind: None,
        reason: "the certificate of the object store is not trusted; set AWS_CA_BUNDLE to a file with the \
         certificate of its authority",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::error::tests::{response, text_of};

    #[test]
    fn each_misconfiguration_is_one_line_that_names_the_setting() {
        for (code, setting) in [
            ("NoSuchBucket", "data path"),
            ("InvalidBucketName", "data path"),
            ("AccessDenied", "permission"),
            ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
            ("ExpiredToken", "AWS_SESSION_TOKEN"),
            ("RequestTimeTooSkewed", "clock"),
            ("PermanentRedirect", "AWS_REGION"),
        ] {
            let text = response(ERRORS, code).to_string();
            assert!(text.contains(setting) && text.contains("://bucket/lake/f"), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn missing_credentials_are_named() {
        let text = text_of(ERRORS, "Error performing PUT http://169.254.169.254/latest/api/token");
        assert!(text.contains("set AWS_ACCESS_KEY_ID"), "{text}");
    }
}
