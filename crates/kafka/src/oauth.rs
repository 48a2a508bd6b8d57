//! Tokens of an OAuth 2.0 server for OAUTHBEARER, by the grant of client credentials (OIDC).
//!
//! librdkafka can request tokens only when it is built with libcurl. The HTTP client of the schema
//! registry is a dependency already.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{error, fs, iter};

use ducktide_service::secret::{self, Secret, SecretError};
use reqwest::{Certificate, Client, Response, Url};
use serde::Deserialize;
use thiserror::Error;

/// Time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum size of an answer, bytes. Tokens have a few kilobytes.
const MAX_ANSWER: usize = 1 << 20;

/// Lifetime of a token whose answer does not have one, seconds.
const DEFAULT_LIFETIME: u64 = 300;

/// Percentage of its lifetime after which a token is replaced.
const REFRESH_AT: u32 = 80;

/// Client of a token endpoint. Its requests block.
#[derive(Debug)]
pub struct OAuthTokens {
    pub(crate) endpoint: Url,
    pub(crate) client_id: String,
    pub(crate) client_secret: Option<Secret>,
    /// Read before each request, so that a changed secret needs no restart.
    pub(crate) client_secret_file: Option<PathBuf>,
    pub(crate) scope: Option<String>,
    /// Certificates in addition to those of the system.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) current: Mutex<Option<Token>>,
}

/// Token, and the time until which brokers accept it.
#[derive(Clone, Debug)]
pub struct Token {
    pub(crate) value: Secret,
    /// Name for logs of the client.
    pub(crate) principal: String,
    /// Milliseconds since 1970.
    pub(crate) expires_ms: i64,
    /// Time after which a new one is requested.
    refresh_at: Instant,
}

/// Error of a request for a token. The messages contain no secret.
#[derive(Clone, Debug, Error)]
pub enum OAuthError {
    /// The server does not answer, or reports an outage: retry.
    #[error(
        "OAuth server unavailable; check KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL, and \
         KAFKA_SSL_CA_LOCATION if its certificate is not trusted: {0}"
    )]
    Unavailable(String),
    /// The server rejects the client.
    #[error(
        "OAuth server rejects the client; check KAFKA_SASL_OAUTHBEARER_CLIENT_ID, \
         KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET and KAFKA_SASL_OAUTHBEARER_SCOPE: {0}"
    )]
    Rejected(String),
    /// The answer is not that of a token endpoint.
    #[error("not an OAuth token endpoint; check KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL: {0}")]
    NotAToken(String),
    /// The file of the secret cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The file of the certificates cannot be read.
    #[error("read KAFKA_SSL_CA_LOCATION: {reason}: path=`{path}`")]
    Certificates {
        /// Path of the file.
        path: PathBuf,
        /// Error text.
        reason: String,
    },
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: Option<u64>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
}

impl OAuthError {
    /// Returns true if only an operator can resolve the error.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        !matches!(self, Self::Unavailable(_))
    }
}

impl OAuthTokens {
    /// Returns a token that is valid for at least a fifth of its lifetime. Blocks for a request if
    /// there is none; must not be called within an asynchronous task.
    pub fn token(&self) -> Result<Token, OAuthError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = current.as_ref().filter(|token| Instant::now() < token.refresh_at) {
            return Ok(token.clone());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| OAuthError::Unavailable(error.to_string()))?;
        let token = runtime.block_on(self.request())?;
        *current = Some(token.clone());
        Ok(token)
    }

    async fn request(&self) -> Result<Token, OAuthError> {
        let secret = secret::read(
            "KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET",
            self.client_secret.as_ref(),
            self.client_secret_file.as_deref(),
        )?;
        let mut fields = vec![("grant_type", "client_credentials")];
        fields.extend(self.scope.as_deref().map(|scope| ("scope", scope)));
        let secret = secret.as_ref().map(Secret::expose).unwrap_or_default();
        // RFC 6749 2.3.1: both parts are encoded as fields of a form.
        let request = self
            .client()?
            .post(self.endpoint.clone())
            .basic_auth(form_encoded(&self.client_id), Some(form_encoded(secret)))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Accept", "application/json")
            .body(form(&fields));
        let answer = request.send().await.map_err(|error| unavailable(&error))?;
        let status = answer.status();
        let body = read_limited(answer).await?;
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(OAuthError::Unavailable(format!("status=`{status}`")));
        }
        if status.is_client_error() {
            // The body is not shown: some servers repeat the request in it.
            let known = serde_json::from_slice::<ErrorAnswer>(&body).ok();
            let known = known.filter(|answer| is_error_code(&answer.error));
            return Err(match known {
                Some(answer) => {
                    OAuthError::Rejected(format!("status=`{status}` error=`{}`", answer.error))
                }
                None if matches!(status.as_u16(), 400 | 401 | 403) => {
                    OAuthError::Rejected(format!("status=`{status}`"))
                }
                None => OAuthError::NotAToken(format!("status=`{status}`")),
            });
        }
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|_| OAuthError::NotAToken(format!("status=`{status}`, no access_token")))?;
        Ok(self.token_of(answer))
    }

    fn client(&self) -> Result<Client, OAuthError> {
        let mut client = Client::builder().timeout(TIMEOUT);
        if let Some(path) = &self.ca_file {
            let unusable = |reason: String| OAuthError::Certificates { path: path.clone(), reason };
            let pem = fs::read(path).map_err(|error| unusable(error.to_string()))?;
            let certificates = Certificate::from_pem_bundle(&pem);
            client =
                client.tls_certs_merge(certificates.map_err(|error| unusable(error.to_string()))?);
        }
        client.build().map_err(|error| OAuthError::Unavailable(innermost(&error)))
    }

    fn token_of(&self, answer: TokenAnswer) -> Token {
        let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(DEFAULT_LIFETIME).max(1));
        let expires = SystemTime::now() + lifetime;
        let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        Token {
            value: Secret::from(answer.access_token),
            principal: self.client_id.clone(),
            expires_ms: i64::try_from(expires.as_millis()).unwrap_or(i64::MAX),
            refresh_at: Instant::now() + lifetime * REFRESH_AT / 100,
        }
    }
}

/// Reads the body up to the maximum size.
async fn read_limited(mut answer: Response) -> Result<Vec<u8>, OAuthError> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|error| unavailable(&error))? {
        body.extend_from_slice(&part);
        if body.len() > MAX_ANSWER {
            return Err(OAuthError::NotAToken(format!("answer larger than {MAX_ANSWER} bytes")));
        }
    }
    Ok(body)
}

fn unavailable(error: &reqwest::Error) -> OAuthError {
    OAuthError::Unavailable(innermost(error))
}

/// Returns the most specific cause, such as "connection refused".
fn innermost(error: &reqwest::Error) -> String {
    let error: &dyn error::Error = error;
    let cause = iter::successors(Some(error), |error| error.source()).last();
    cause.map(ToString::to_string).unwrap_or_default()
}

/// Returns true for a code that RFC 6749 allows, such as `invalid_client`.
fn is_error_code(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn form(fields: &[(&str, &str)]) -> String {
    let url = Url::parse_with_params("http://form", fields).expect("a constant URL is valid");
    url.query().unwrap_or_default().to_owned()
}

fn form_encoded(text: &str) -> String {
    form(&[("", text)]).trim_start_matches('=').to_owned()
}

#[cfg(test)]
#[path = "oauth_tests.rs"]
mod tests;
