//! Encryption and authentication: settings, their checks, and the librdkafka properties.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::{Args, ValueEnum};
use ducktide_service::hidden_value::HiddenValue;
use ducktide_service::secret::{self, Secret, SecretError, parse_file};
use reqwest::Url;
use thiserror::Error;

use crate::oauth::OAuthTokens;
use crate::property::canonical_name;

/// Protocol of the connections to the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// Neither encryption nor authentication.
    Plaintext,
    /// TLS; with a client certificate also authentication.
    Ssl,
    /// Authentication by SASL without encryption.
    SaslPlaintext,
    /// Authentication by SASL over TLS.
    SaslSsl,
}

/// Mechanism of authentication by SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SaslMechanism {
    /// User and password, readable by the brokers: use it over TLS only.
    #[value(name = "PLAIN")]
    Plain,
    /// User and password, which is not sent.
    #[value(name = "SCRAM-SHA-256")]
    ScramSha256,
    /// User and password, which is not sent.
    #[value(name = "SCRAM-SHA-512")]
    ScramSha512,
    /// Tokens of an OAuth 2.0 server.
    #[value(name = "OAUTHBEARER")]
    OauthBearer,
}

/// Encryption and authentication. Empty values count as not set.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Kafka security")]
pub struct SecurityArgs {
    /// Protocol of the connections to the brokers [default: plaintext].
    #[arg(long, env = "KAFKA_SECURITY_PROTOCOL", value_name = "PROTOCOL", ignore_case = true)]
    pub kafka_security_protocol: Option<SecurityProtocol>,

    /// Mechanism of authentication by SASL. PLAIN sends the password to the brokers: use it with
    /// `sasl_ssl`.
    #[arg(long, env = "KAFKA_SASL_MECHANISM", value_name = "MECHANISM", ignore_case = true)]
    pub kafka_sasl_mechanism: Option<SaslMechanism>,

    /// User for PLAIN and SCRAM.
    #[arg(long, env = "KAFKA_SASL_USERNAME", value_name = "USER")]
    pub kafka_sasl_username: Option<String>,

    /// Password for PLAIN and SCRAM. The environment variable or a file keeps it out of the process
    /// list.
    #[arg(long, env = "KAFKA_SASL_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub kafka_sasl_password: Option<Secret>,

    /// File with the password for PLAIN and SCRAM, instead of the password.
    #[arg(long, env = "KAFKA_SASL_PASSWORD_FILE", value_name = "FILE", value_parser = parse_file)]
    pub kafka_sasl_password_file: Option<PathBuf>,

    /// PEM file with the CA certificates that sign the certificates of the brokers [default: those
    /// of the system].
    #[arg(long, env = "KAFKA_SSL_CA_LOCATION", value_name = "FILE")]
    pub kafka_ssl_ca_location: Option<String>,

    /// PEM file with the client certificate, for authentication by TLS.
    #[arg(long, env = "KAFKA_SSL_CERTIFICATE_LOCATION", value_name = "FILE")]
    pub kafka_ssl_certificate_location: Option<String>,

    /// PEM file with the private key of the client certificate.
    #[arg(long, env = "KAFKA_SSL_KEY_LOCATION", value_name = "FILE")]
    pub kafka_ssl_key_location: Option<String>,

    /// Password of the private key, if it is encrypted.
    #[arg(long, env = "KAFKA_SSL_KEY_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub kafka_ssl_key_password: Option<Secret>,

    /// File with the password of the private key, instead of the password.
    #[arg(long, env = "KAFKA_SSL_KEY_PASSWORD_FILE", value_name = "FILE", value_parser = parse_file)]
    pub kafka_ssl_key_password_file: Option<PathBuf>,

    /// Token endpoint of the OAuth 2.0 server for OAUTHBEARER, `https://HOST/PATH`. Tokens are
    /// requested with client credentials.
    #[arg(long, env = "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL", value_name = "URL",
          value_parser = HiddenValue(parse_endpoint), hide_env_values = true)]
    pub kafka_sasl_oauthbearer_token_endpoint_url: Option<Url>,

    /// Client ID for OAUTHBEARER.
    #[arg(long, env = "KAFKA_SASL_OAUTHBEARER_CLIENT_ID", value_name = "ID")]
    pub kafka_sasl_oauthbearer_client_id: Option<String>,

    /// Client secret for OAUTHBEARER.
    #[arg(
        long,
        env = "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub kafka_sasl_oauthbearer_client_secret: Option<Secret>,

    /// File with the client secret for OAUTHBEARER, instead of the secret. It is read for each
    /// token.
    #[arg(long, env = "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE", value_name = "FILE", value_parser = parse_file)]
    pub kafka_sasl_oauthbearer_client_secret_file: Option<PathBuf>,

    /// Scope of the tokens for OAUTHBEARER, if the server requires one.
    #[arg(long, env = "KAFKA_SASL_OAUTHBEARER_SCOPE", value_name = "SCOPE")]
    pub kafka_sasl_oauthbearer_scope: Option<String>,
}

/// Invalid, missing or contradictory setting of encryption or authentication.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum SecurityError {
    /// Remove one of the two.
    #[error("{setting} and the Kafka property `{property}` are both set; remove one of them")]
    Twice { setting: &'static str, property: String },
    /// Set the other setting, too.
    #[error("{setting} has no effect; set {missing}, too, or remove it")]
    NoEffect { setting: &'static str, missing: &'static str },
    /// Set it.
    #[error("set {missing}: {cause} requires it")]
    Missing { missing: &'static str, cause: String },
    /// Correct the path or the permissions of the file.
    #[error("read {setting}: {reason}: path=`{path}`")]
    Unreadable { setting: &'static str, path: String, reason: String },
    /// A secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Setting with its librdkafka property.
struct Setting {
    flag: &'static str,
    variable: &'static str,
    property: &'static str,
    value: Option<String>,
}

/// Needs a protocol with TLS.
const TLS_PROTOCOL: &str = "KAFKA_SECURITY_PROTOCOL to ssl or sasl_ssl";
/// Needs a protocol with SASL.
const SASL_PROTOCOL: &str = "KAFKA_SECURITY_PROTOCOL to sasl_ssl or sasl_plaintext";

impl SecurityArgs {
    /// Adds the settings to the given properties, and checks that all of them fit together.
    pub(crate) fn add_to(&self, given: &mut Vec<(String, String)>) -> Result<(), SecurityError> {
        let mut settings = self.public_settings();
        for setting in &settings {
            check_readable(setting)?;
        }
        settings.extend(self.secrets()?);
        let is_set = |setting: &&Setting| setting.value.is_some();
        for Setting { variable, property, .. } in settings.iter().filter(is_set) {
            if let Some((name, _)) = find(given, property) {
                return Err(SecurityError::Twice { setting: variable, property: name.clone() });
            }
        }
        for Setting { property, value, .. } in &settings {
            given.extend(value.iter().map(|value| ((*property).to_owned(), value.clone())));
        }
        check_together(given, &settings)
    }

    /// Returns the source of tokens, if the mechanism is OAUTHBEARER.
    pub(crate) fn tokens(
        &self,
        given: &[(String, String)],
    ) -> Result<Option<OAuthTokens>, SecurityError> {
        const URL: &str = "KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL";
        const ID: &str = "KAFKA_SASL_OAUTHBEARER_CLIENT_ID";
        const SECRET: &str = "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET";
        let property = |wanted| find(given, wanted).map(|(_, value)| value.as_str());
        let is_used = property("sasl.mechanism")
            .is_some_and(|mechanism| mechanism.eq_ignore_ascii_case("OAUTHBEARER"));
        let endpoint = self.kafka_sasl_oauthbearer_token_endpoint_url.clone();
        if !is_used {
            let missing = "KAFKA_SASL_MECHANISM to OAUTHBEARER";
            return match endpoint {
                Some(_) => Err(SecurityError::NoEffect { setting: URL, missing }),
                None => Ok(None),
            };
        }
        if property("enable.sasl.oauthbearer.unsecure.jwt").is_some() {
            return Ok(None);
        }
        let required = |variable| missing(variable, "the mechanism OAUTHBEARER");
        let secret_file = self.kafka_sasl_oauthbearer_client_secret_file.clone();
        let secret = self.kafka_sasl_oauthbearer_client_secret.clone();
        let client_id = text(self.kafka_sasl_oauthbearer_client_id.as_ref());
        let endpoint = endpoint.ok_or_else(|| required(URL))?;
        let client_id = client_id.ok_or_else(|| required(ID))?;
        if secret::read(SECRET, secret.as_ref(), secret_file.as_deref())?.is_none() {
            return Err(required(SECRET));
        }
        Ok(Some(OAuthTokens {
            endpoint,
            client_id,
            client_secret: secret,
            client_secret_file: secret_file,
            scope: text(self.kafka_sasl_oauthbearer_scope.as_ref()),
            ca_file: property("ssl.ca.location").map(PathBuf::from),
            current: Mutex::default(),
        }))
    }

    /// Returns flags and values for a printed command, without secrets.
    pub fn public_options(&self) -> impl Iterator<Item = (&'static str, String)> {
        let settings = self.public_settings().into_iter();
        let settings = settings.filter_map(|setting| Some((setting.flag, setting.value?)));
        let file = |path: &Option<PathBuf>| {
            let path = path.as_deref().map(Path::to_string_lossy);
            path.filter(|path| !path.is_empty()).map(std::borrow::Cow::into_owned)
        };
        let files = [
            ("--kafka-sasl-password-file", file(&self.kafka_sasl_password_file)),
            ("--kafka-ssl-key-password-file", file(&self.kafka_ssl_key_password_file)),
            (
                "--kafka-sasl-oauthbearer-token-endpoint-url",
                self.kafka_sasl_oauthbearer_token_endpoint_url.as_ref().map(Url::to_string),
            ),
            (
                "--kafka-sasl-oauthbearer-client-id",
                text(self.kafka_sasl_oauthbearer_client_id.as_ref()),
            ),
            (
                "--kafka-sasl-oauthbearer-client-secret-file",
                file(&self.kafka_sasl_oauthbearer_client_secret_file),
            ),
            ("--kafka-sasl-oauthbearer-scope", text(self.kafka_sasl_oauthbearer_scope.as_ref())),
        ];
        settings.chain(files.into_iter().filter_map(|(flag, path)| Some((flag, path?))))
    }

    /// Returns true if a secret is given as a value, which a printed command leaves out.
    #[must_use]
    pub const fn has_secrets(&self) -> bool {
        self.kafka_sasl_password.is_some()
            || self.kafka_ssl_key_password.is_some()
            || self.kafka_sasl_oauthbearer_client_secret.is_some()
    }

    fn public_settings(&self) -> Vec<Setting> {
        let setting = |flag, variable, property, value| Setting { flag, variable, property, value };
        vec![
            setting(
                "--kafka-security-protocol",
                "KAFKA_SECURITY_PROTOCOL",
                "security.protocol",
                self.kafka_security_protocol.as_ref().and_then(name_of),
            ),
            setting(
                "--kafka-sasl-mechanism",
                "KAFKA_SASL_MECHANISM",
                "sasl.mechanism",
                self.kafka_sasl_mechanism.as_ref().and_then(name_of),
            ),
            setting(
                "--kafka-sasl-username",
                "KAFKA_SASL_USERNAME",
                "sasl.username",
                text(self.kafka_sasl_username.as_ref()),
            ),
            setting(
                "--kafka-ssl-ca-location",
                "KAFKA_SSL_CA_LOCATION",
                "ssl.ca.location",
                text(self.kafka_ssl_ca_location.as_ref()),
            ),
            setting(
                "--kafka-ssl-certificate-location",
                "KAFKA_SSL_CERTIFICATE_LOCATION",
                "ssl.certificate.location",
                text(self.kafka_ssl_certificate_location.as_ref()),
            ),
            setting(
                "--kafka-ssl-key-location",
                "KAFKA_SSL_KEY_LOCATION",
                "ssl.key.location",
                text(self.kafka_ssl_key_location.as_ref()),
            ),
        ]
    }

    fn secrets(&self) -> Result<[Setting; 2], SecretError> {
        let secret = |flag, variable, property, value: &Option<Secret>, file: &Option<PathBuf>| {
            let found = secret::read(variable, value.as_ref(), file.as_deref())?;
            let value = found.map(|secret| secret.expose().to_owned());
            Ok(Setting { flag, variable, property, value })
        };
        Ok([
            secret(
                "--kafka-sasl-password",
                "KAFKA_SASL_PASSWORD",
                "sasl.password",
                &self.kafka_sasl_password,
                &self.kafka_sasl_password_file,
            )?,
            secret(
                "--kafka-ssl-key-password",
                "KAFKA_SSL_KEY_PASSWORD",
                "ssl.key.password",
                &self.kafka_ssl_key_password,
                &self.kafka_ssl_key_password_file,
            )?,
        ])
    }
}

/// Returns a property with its value, by any of its names.
fn find<'a>(given: &'a [(String, String)], wanted: &str) -> Option<&'a (String, String)> {
    given.iter().find(|(name, _)| canonical_name(name) == wanted)
}

fn text(value: Option<&String>) -> Option<String> {
    value.cloned().filter(|value| !value.is_empty())
}

/// Credentials belong to the other settings, and would be part of errors here.
fn parse_endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| {
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        matches!(url.scheme(), "http" | "https") && !has_credentials
    });
    url.ok_or_else(|| "expected https://HOST/PATH without credentials".to_owned())
}

fn name_of(value: &impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

/// Checks the files that librdkafka reads, whose own errors name neither setting nor path.
fn check_readable(setting: &Setting) -> Result<(), SecurityError> {
    let Some(path) = setting.value.as_ref().filter(|_| setting.flag.ends_with("-location")) else {
        return Ok(());
    };
    File::open(path).map(drop).map_err(|error| SecurityError::Unreadable {
        setting: setting.variable,
        path: path.clone(),
        reason: error.to_string(),
    })
}

/// Checks all properties, also those given as properties: librdkafka ignores settings of another
/// protocol, and authenticates by Kerberos unless it has a mechanism.
fn check_together(given: &[(String, String)], settings: &[Setting]) -> Result<(), SecurityError> {
    let property = |wanted| find(given, wanted).map(|(_, value)| value.as_str());
    let protocol = property("security.protocol").unwrap_or("plaintext").to_ascii_lowercase();
    let uses_tls = protocol.ends_with("ssl");
    let uses_sasl = protocol.starts_with("sasl");
    for Setting { variable, property, .. } in settings.iter().filter(|s| s.value.is_some()) {
        let missing = match property.split('.').next() {
            Some("ssl") if !uses_tls => TLS_PROTOCOL,
            Some("sasl") if !uses_sasl => SASL_PROTOCOL,
            _ => continue,
        };
        return Err(SecurityError::NoEffect { setting: variable, missing });
    }
    if uses_tls {
        let (certificate, key) = ("KAFKA_SSL_CERTIFICATE_LOCATION", "KAFKA_SSL_KEY_LOCATION");
        match (property("ssl.certificate.location"), property("ssl.key.location")) {
            (Some(_), None) if property("ssl.key.pem").is_none() => {
                return Err(missing(key, certificate));
            }
            (None, Some(_)) if property("ssl.certificate.pem").is_none() => {
                return Err(missing(certificate, key));
            }
            _ => {}
        }
    }
    if !uses_sasl {
        return Ok(());
    }
    let Some(mechanism) = property("sasl.mechanism") else {
        return Err(missing("KAFKA_SASL_MECHANISM", &format!("the protocol {protocol}")));
    };
    let has_password = mechanism.eq_ignore_ascii_case("PLAIN") || mechanism.starts_with("SCRAM");
    for (name, variable) in
        [("sasl.username", "KAFKA_SASL_USERNAME"), ("sasl.password", "KAFKA_SASL_PASSWORD")]
    {
        if has_password && property(name).is_none() {
            return Err(missing(variable, &format!("the mechanism {mechanism}")));
        }
    }
    Ok(())
}

fn missing(missing: &'static str, cause: &str) -> SecurityError {
    SecurityError::Missing { missing, cause: cause.to_owned() }
}

#[cfg(test)]
#[path = "security_tests.rs"]
mod tests;
