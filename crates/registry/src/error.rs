//! Errors of the registry, one for each remedy.

use std::error::Error as StdError;
use std::{io, iter};

use reqwest_middleware::{Error as RequestError, reqwest};
use schema_registry_converter::error::SRCError;
use thiserror::Error;

use crate::answer::ErrorAnswer;
use crate::args::RegistrySettingsError;

/// Reason for which a request to the schema registry failed.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// No answer in time, or one that reports an outage: retry.
    #[error(
        "schema registry unavailable; check --schema-registry-url (SCHEMA_REGISTRY_URL) and that the \
         registry runs: {0}"
    )]
    Unavailable(String),
    /// No TLS connection: retry. The certificate is not trusted, or the server does not use TLS.
    #[error(
        "schema registry unavailable over TLS; set SCHEMA_REGISTRY_SSL_CA_LOCATION to the CA \
         certificate of the registry, and SCHEMA_REGISTRY_SSL_CERTIFICATE_LOCATION if it requires a \
         client certificate, or correct --schema-registry-url (SCHEMA_REGISTRY_URL): {0}"
    )]
    Tls(String),
    /// Missing or wrong credentials, or a missing permission.
    #[error(
        "schema registry denies access; set --schema-registry-user (SCHEMA_REGISTRY_USER) and \
         --schema-registry-password (SCHEMA_REGISTRY_PASSWORD), or --schema-registry-token \
         (SCHEMA_REGISTRY_TOKEN), of an account with the permission: {0}"
    )]
    AccessDenied(String),
    /// Answer of another server, or of another API of the registry.
    #[error(
        "the response is not from Confluent's API; check the path of --schema-registry-url \
         (SCHEMA_REGISTRY_URL); that of Apicurio is /apis/ccompat/v7: {0}"
    )]
    WrongApi(String),
    /// The registry answers that the subject, version or schema does not exist.
    #[error("schema registry has no such schema: {0}")]
    NotFound(String),
    /// The registry rejects the content of the request, such as an incompatible schema.
    #[error("schema registry rejects the request: {0}")]
    Rejected(String),
    /// The schema exists but cannot be used.
    #[error("schema cannot be used: {0}")]
    Unusable(String),
    /// The HTTP client cannot be created.
    #[error("create the client of the schema registry: {0}")]
    Client(String),
    /// A setting is invalid.
    #[error(transparent)]
    Settings(#[from] RegistrySettingsError),
}

impl RegistryError {
    /// Returns whether the registry is unavailable: the same request may succeed later.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Tls(_))
    }

    /// Returns whether an operator, or the end of an outage, can let the same request succeed. Such
    /// an error delays records and never makes them dead letters (invariant I8).
    #[must_use]
    pub const fn is_recoverable(&self) -> bool {
        match self {
            Self::Unavailable(_)
            | Self::Tls(_)
            | Self::AccessDenied(_)
            | Self::WrongApi(_)
            | Self::Rejected(_) => true,
            Self::NotFound(_) | Self::Unusable(_) | Self::Client(_) | Self::Settings(_) => false,
        }
    }

    /// Classifies an error of a request by its cause.
    pub(crate) fn of_request(error: &SRCError) -> Self {
        let cause = error.source();
        let failure = match cause.and_then(|cause| cause.downcast_ref()) {
            Some(RequestError::Middleware(cause)) => {
                if let Some(answer) = cause.downcast_ref::<ErrorAnswer>() {
                    return answer.classify();
                }
                None
            }
            Some(RequestError::Reqwest(failure)) => Some(failure),
            // The body of a success was not read or parsed.
            None => cause.and_then(|cause| cause.downcast_ref::<reqwest::Error>()),
        };
        match failure {
            Some(failure) => Self::of_failure(failure),
            // An answer of valid JSON that lacks the schema or its id.
            None => Self::WrongApi(format!("reason=`{}`", error.error)),
        }
    }

    fn of_failure(failure: &reqwest::Error) -> Self {
        let url = failure.url().map_or_else(String::new, |url| format!(" url=`{url}`"));
        let text = |cause: &dyn StdError| format!("reason=`{cause}`{url}");
        let mut innermost: &dyn StdError = failure;
        for cause in causes(failure) {
            if cause.is::<native_tls::Error>() {
                return Self::Tls(text(cause));
            }
            if cause.is::<serde_json::Error>() {
                return Self::WrongApi(text(cause));
            }
            innermost = cause;
        }
        // A server that rejects a client certificate does so after the handshake of TLS 1.3.
        if innermost.to_string().contains("SSL routines") {
            return Self::Tls(text(innermost));
        }
        Self::Unavailable(text(innermost))
    }
}

/// Returns the causes of an error, from the outermost to the most specific such as "connection
/// refused".
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| {
        // An I/O error omits the error that it holds from its sources.
        let held = error.downcast_ref().and_then(io::Error::get_ref);
        held.map(|held| held as _).or_else(|| error.source())
    })
}
