//! Settings of the schema registry.

use std::fmt;

use std::path::{Path, PathBuf};

use clap::Args;
use ducktide_service::hidden_value::HiddenValue;
use ducktide_service::secret::{self, Secret, SecretError, parse_file};
use reqwest_middleware::reqwest::{Certificate, Client, ClientBuilder, Identity, Url};
use thiserror::Error;

/// Settings of the schema registry.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Schema registry")]
pub struct RegistryArgs {
    /// URL of the schema registry (Confluent's API; Apicurio needs the path `/apis/ccompat/v7`).
    /// Several URLs, separated by commas, are tried in order.
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_URL",
        value_name = "URL,...",
        default_value = "http://localhost:8081",
        value_parser = HiddenValue(RegistryUrls::parse),
        hide_env_values = true
    )]
    pub schema_registry_url: RegistryUrls,

    /// User for basic authentication, or API key of Confluent Cloud.
    #[arg(long, env = "SCHEMA_REGISTRY_USER", value_name = "USER")]
    pub schema_registry_user: Option<String>,

    /// Password for basic authentication. The environment variable or a file keeps it out of the
    /// process list.
    #[arg(long, env = "SCHEMA_REGISTRY_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub schema_registry_password: Option<Secret>,

    /// File with the password for basic authentication, instead of the password.
    #[arg(long, env = "SCHEMA_REGISTRY_PASSWORD_FILE", value_name = "FILE", value_parser = parse_file)]
    pub schema_registry_password_file: Option<PathBuf>,

    /// Token for bearer authentication.
    #[arg(long, env = "SCHEMA_REGISTRY_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub schema_registry_token: Option<Secret>,

    /// File with the token for bearer authentication, instead of the token.
    #[arg(long, env = "SCHEMA_REGISTRY_TOKEN_FILE", value_name = "FILE", value_parser = parse_file)]
    pub schema_registry_token_file: Option<PathBuf>,

    /// PEM file with the CA certificates that sign the certificate of the registry, in addition to
    /// those of the system.
    #[arg(long, env = "SCHEMA_REGISTRY_SSL_CA_LOCATION", value_name = "FILE", value_parser = parse_file)]
    pub schema_registry_ssl_ca_location: Option<PathBuf>,

    /// PEM file with the client certificate, for authentication by TLS.
    #[arg(long, env = "SCHEMA_REGISTRY_SSL_CERTIFICATE_LOCATION", value_name = "FILE", value_parser = parse_file)]
    pub schema_registry_ssl_certificate_location: Option<PathBuf>,

    /// PEM file with the private key of the client certificate: PKCS #8 without a password.
    #[arg(long, env = "SCHEMA_REGISTRY_SSL_KEY_LOCATION", value_name = "FILE", value_parser = parse_file)]
    pub schema_registry_ssl_key_location: Option<PathBuf>,
}

/// Credentials of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    None,
    Basic(String, Secret),
    Bearer(Secret),
}

/// Invalid, missing or contradictory setting of the registry.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum RegistrySettingsError {
    /// Set it.
    #[error("set {missing}: {cause} requires it")]
    Missing { missing: &'static str, cause: &'static str },
    /// Remove one of the two.
    #[error("SCHEMA_REGISTRY_USER and SCHEMA_REGISTRY_TOKEN are both set; remove one of them")]
    TwoKinds,
    /// Correct the path, the permissions or the content of the file.
    #[error("read {setting}: {reason}: path=`{path}`")]
    File { setting: &'static str, path: PathBuf, reason: String },
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

const USER: &str = "SCHEMA_REGISTRY_USER";
const PASSWORD: &str = "SCHEMA_REGISTRY_PASSWORD";
const TOKEN: &str = "SCHEMA_REGISTRY_TOKEN";
const CA: &str = "SCHEMA_REGISTRY_SSL_CA_LOCATION";
const CERTIFICATE: &str = "SCHEMA_REGISTRY_SSL_CERTIFICATE_LOCATION";
const KEY: &str = "SCHEMA_REGISTRY_SSL_KEY_LOCATION";

impl RegistryArgs {
    /// Returns an error if the settings do not fit together, or a file cannot be read.
    pub fn check(&self) -> Result<(), RegistrySettingsError> {
        self.credentials()?;
        self.http_client().map(drop)
    }

    pub(crate) fn credentials(&self) -> Result<Credentials, RegistrySettingsError> {
        let user = self.schema_registry_user.clone().filter(|user| !user.is_empty());
        let file = self.schema_registry_password_file.as_deref();
        let password = secret::read(PASSWORD, self.schema_registry_password.as_ref(), file)?;
        let file = self.schema_registry_token_file.as_deref();
        let token = secret::read(TOKEN, self.schema_registry_token.as_ref(), file)?;
        match (user, password, token) {
            (None, None, None) => Ok(Credentials::None),
            (None, None, Some(token)) => Ok(Credentials::Bearer(token)),
            (Some(user), Some(password), None) => Ok(Credentials::Basic(user, password)),
            (Some(_), None, None) => {
                Err(RegistrySettingsError::Missing { missing: PASSWORD, cause: USER })
            }
            (None, Some(_), None) => {
                Err(RegistrySettingsError::Missing { missing: USER, cause: PASSWORD })
            }
            (_, _, Some(_)) => Err(RegistrySettingsError::TwoKinds),
        }
    }

    /// Returns an HTTP client with the certificates.
    pub(crate) fn http_client(&self) -> Result<ClientBuilder, RegistrySettingsError> {
        let path =
            |path: &Option<PathBuf>| path.clone().filter(|path| !path.as_os_str().is_empty());
        let mut client = Client::builder();
        if let Some(path) = path(&self.schema_registry_ssl_ca_location) {
            let pem = read(CA, &path)?;
            let found = Certificate::from_pem_bundle(&pem).ok().filter(|found| !found.is_empty());
            let found =
                found.ok_or_else(|| unusable(CA, &path, "expected certificates in PEM format"))?;
            client = client.tls_certs_merge(found);
        }
        let certificate = path(&self.schema_registry_ssl_certificate_location);
        let key = path(&self.schema_registry_ssl_key_location);
        match (certificate, key) {
            (None, None) => Ok(client),
            (Some(_), None) => {
                Err(RegistrySettingsError::Missing { missing: KEY, cause: CERTIFICATE })
            }
            (None, Some(_)) => {
                Err(RegistrySettingsError::Missing { missing: CERTIFICATE, cause: KEY })
            }
            (Some(certificate), Some(key)) => {
                let (pem, key_pem) = (read(CERTIFICATE, &certificate)?, read(KEY, &key)?);
                let identity = Identity::from_pkcs8_pem(&pem, &key_pem).map_err(|_| {
                    let reason = "expected the PKCS #8 key, without a password, of the certificate \
                                  in SCHEMA_REGISTRY_SSL_CERTIFICATE_LOCATION";
                    unusable(KEY, &key, reason)
                })?;
                Ok(client.identity(identity))
            }
        }
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, RegistrySettingsError> {
    std::fs::read(path).map_err(|error| unusable(setting, path, &error.to_string()))
}

fn unusable(setting: &'static str, path: &Path, reason: &str) -> RegistrySettingsError {
    RegistrySettingsError::File { setting, path: path.to_owned(), reason: reason.to_owned() }
}

/// URLs of the schema registry, at least one. They are printed without their credentials.
#[derive(Clone)]
pub struct RegistryUrls(Vec<Url>);

impl RegistryUrls {
    /// Parses a list separated by commas. Rejects URLs that can never work: requests to them would
    /// be retried forever.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_http = |url: &Url| matches!(url.scheme(), "http" | "https");
        let parse = |url: &str| Url::parse(url.trim()).ok().filter(is_http);
        text.split(',').map(parse).collect::<Option<_>>().map(Self).ok_or_else(|| {
            "expected http://HOST:PORT or https://HOST:PORT, several separated by commas; \
             percent-encode special characters of a password"
                .to_owned()
        })
    }

    /// Returns the URLs, with credentials and without a slash at the end.
    pub(crate) fn iter(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|url| url.as_str().trim_end_matches('/').to_owned())
    }
}

impl fmt::Display for RegistryUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mut url) in self.0.iter().cloned().enumerate() {
            // Only a URL without a host cannot have credentials.
            let _ = (url.set_username(""), url.set_password(None));
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{}", url.as_str().trim_end_matches('/'))?;
        }
        Ok(())
    }
}

impl fmt::Debug for RegistryUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        registry: RegistryArgs,
    }

    #[test]
    fn secrets_are_not_shown() {
        for (flag, value) in [
            ("--schema-registry-token", "let-me-in"),
            ("--schema-registry-url", "http://a:1,https://me:let-me-in@b"),
        ] {
            let line = Line::try_parse_from(["test", flag, value]).unwrap();
            assert!(!format!("{:?}", line.registry).contains("let-me-in"), "{flag}");
        }
    }

    #[test]
    fn settings_that_do_not_fit_together_are_named() {
        for (flags, expected) in [
            (&["--schema-registry-user=a"][..], "set SCHEMA_REGISTRY_PASSWORD"),
            (&["--schema-registry-password=s3cret"], "set SCHEMA_REGISTRY_USER"),
            (
                &[
                    "--schema-registry-user=a",
                    "--schema-registry-password=s3cret",
                    "--schema-registry-token=s3cret",
                ],
                "both set; remove one",
            ),
            (
                &["--schema-registry-token=s3cret", "--schema-registry-token-file=/x"],
                "SCHEMA_REGISTRY_TOKEN_FILE are both set",
            ),
            (
                &["--schema-registry-ssl-ca-location=/no/such"],
                "read SCHEMA_REGISTRY_SSL_CA_LOCATION: No such file",
            ),
            (
                &["--schema-registry-ssl-certificate-location=/x"],
                "set SCHEMA_REGISTRY_SSL_KEY_LOCATION",
            ),
            (
                &["--schema-registry-ssl-key-location=/x"],
                "set SCHEMA_REGISTRY_SSL_CERTIFICATE_LOCATION",
            ),
        ] {
            let line = Line::try_parse_from(["test"].iter().chain(flags)).unwrap();
            let error = line.registry.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_file_without_a_certificate_or_a_key_is_named() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let ca = format!("--schema-registry-ssl-ca-location={manifest}");
        let certificate = format!("--schema-registry-ssl-certificate-location={manifest}");
        let key = format!("--schema-registry-ssl-key-location={manifest}");
        for (flags, expected) in [
            (&["test", &ca][..], "expected certificates in PEM format"),
            (&["test", &certificate, &key], "read SCHEMA_REGISTRY_SSL_KEY_LOCATION: expected the"),
        ] {
            let line = Line::try_parse_from(flags).unwrap();
            let error = line.registry.check().unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains(manifest), "{error}");
        }
    }

    #[test]
    fn empty_settings_are_not_set() {
        let flags = [
            "test",
            "--schema-registry-user=",
            "--schema-registry-password=",
            "--schema-registry-token=",
            "--schema-registry-ssl-ca-location=",
            "--schema-registry-token-file=",
        ];
        let line = Line::try_parse_from(flags).unwrap();
        assert_eq!(line.registry.credentials().unwrap(), Credentials::None);
        line.registry.check().unwrap();
    }

    #[test]
    fn urls_are_shown_without_credentials() {
        for (url, shown) in [
            ("http://localhost:8081", "http://localhost:8081"),
            ("https://me:p@ss@registry/apis/ccompat/v7", "https://registry/apis/ccompat/v7"),
            ("http://h/a@b", "http://h/a@b"),
            ("http://me@a:1/, https://b", "http://a:1,https://b"),
        ] {
            assert_eq!(RegistryUrls::parse(url).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn an_invalid_url_is_rejected_and_not_printed() {
        for address in [
            "localhost:8081",
            "http://",
            "http//a:1",
            "http://a:x",
            "http://a:99999",
            "http://a b",
            "ftp://a",
            "",
            "http://a,",
        ] {
            let error =
                Line::try_parse_from(["line", "--schema-registry-url", address]).unwrap_err();
            assert!(error.to_string().contains("SCHEMA_REGISTRY_URL"), "{error}");
        }
        let secret = ["line", "--schema-registry-url", "http://me:s3cret@a:x"];
        assert!(!Line::try_parse_from(secret).unwrap_err().to_string().contains("s3cret"));
        for address in [
            "http://a:1/apis/ccompat/v7",
            "https://a,http://b:2/",
            "http://[::1]:8081",
            "http://me:x@a",
        ] {
            Line::try_parse_from(["line", "--schema-registry-url", address]).unwrap();
        }
    }
}
