//! Settings with which DuckDB reads a bucket.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::connect::S3;
use super::error::failed;
use super::runtime::wait;

/// Settings of a DuckDB secret, and the extension that uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuckDbSecret {
    /// DuckDB extension that reads the store.
    pub extension: &'static str,
    /// Type of the secret.
    pub secret_type: &'static str,
    /// Scheme and bucket that the secret is for.
    pub scope: String,
    /// Options of CREATE SECRET.
    pub options: Vec<SecretOption>,
}

/// Option of a DuckDB secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretOption {
    /// Name in CREATE SECRET.
    pub name: &'static str,
    /// Value, as text.
    pub value: String,
    /// Environment variable of a value that must not be shown.
    pub hidden_in: Option<&'static str>,
}

impl fmt::Debug for SecretOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.hidden_in.is_some() { "..." } else { &self.value };
        write!(f, "{}={value}", self.name)
    }
}

impl DuckDbSecret {
    /// Reads the present credentials, which the client renews before they expire.
    pub(super) fn of_s3(s3: &S3, bucket: &str) -> io::Result<Self> {
        let credentials = Arc::clone(s3.store.credentials());
        let credential = wait(async move { credentials.get_credential().await })?;
        let credential =
            credential.map_err(|error| failed("read credentials", Path::new(bucket), &error))?;
        let shown =
            |name, value: &str| SecretOption { name, value: value.to_owned(), hidden_in: None };
        let hidden = |name, value: &str, variable| SecretOption {
            name,
            value: value.to_owned(),
            hidden_in: Some(variable),
        };
        let mut options = vec![
            hidden("KEY_ID", &credential.key_id, "AWS_ACCESS_KEY_ID"),
            hidden("SECRET", &credential.secret_key, "AWS_SECRET_ACCESS_KEY"),
        ];
        let token = credential.token.as_deref();
        options.extend(token.map(|token| hidden("SESSION_TOKEN", token, "AWS_SESSION_TOKEN")));
        options.extend(s3.region.as_deref().map(|region| shown("REGION", region)));
        if let Some(endpoint) = s3.endpoint.as_deref() {
            let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
            options.push(shown("ENDPOINT", host.trim_end_matches('/')));
            options.push(shown("USE_SSL", if scheme == "http" { "false" } else { "true" }));
        }
        options.push(shown("URL_STYLE", if s3.has_virtual_host { "vhost" } else { "path" }));
        let (extension, secret_type) = ("httpfs", "s3");
        Ok(Self { extension, secret_type, scope: bucket.to_owned(), options })
    }
}
