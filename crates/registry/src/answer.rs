//! Answers of the registry other than a success.

use std::pin::Pin;

use http::{Extensions, StatusCode};
use reqwest_middleware::reqwest::{Request, Response};
use reqwest_middleware::{Error, Next};
use schema_registry_converter::schema_registry_common::RawError;
use thiserror::Error;

use crate::error::RegistryError;

/// Answer with an HTTP status other than a success.
#[derive(Debug, Error)]
#[error("status=`{status}`{} url=`{url}`", self.details())]
pub(crate) struct ErrorAnswer {
    status: StatusCode,
    /// Error of Confluent's API; None if the body is another one.
    error: Option<RawError>,
    /// URL of the request, without credentials.
    url: String,
}

/// Middleware that converts an answer with another status than a success to an [`ErrorAnswer`]:
/// the errors of `schema_registry_converter` have the status only in their text.
pub(crate) fn check_status<'a>(
    request: Request,
    extensions: &'a mut Extensions,
    next: Next<'a>,
) -> Pin<Box<dyn Future<Output = Result<Response, Error>> + Send + 'a>> {
    Box::pin(async move {
        let response = next.run(request, extensions).await?;
        let (status, url) = (response.status(), response.url().to_string());
        if status.is_success() {
            return Ok(response);
        }
        let error = response.json().await.ok();
        Err(Error::middleware(ErrorAnswer { status, error, url }))
    })
}

impl ErrorAnswer {
    /// Classifies the answer. Only an error code of the registry (40401: subject, 40402: version,
    /// 40403: schema) shows that a schema does not exist: another 404 may come from a proxy, a
    /// restart or a wrong path.
    pub(crate) fn classify(&self) -> RegistryError {
        let text = self.to_string();
        match self.status {
            StatusCode::NOT_FOUND => {
                match self.error.as_ref().map_or(0, |error| error.error_code) {
                    40401..=40403 => RegistryError::NotFound(text),
                    40400..=40499 => RegistryError::Rejected(text),
                    _ => RegistryError::WrongApi(text),
                }
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::AccessDenied(text),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                RegistryError::Unavailable(text)
            }
            status if status.is_server_error() => RegistryError::Unavailable(text),
            // Confluent's API accepts the methods of these requests, has no redirects, and gives each
            // error a code.
            StatusCode::METHOD_NOT_ALLOWED => RegistryError::WrongApi(text),
            status if status.is_client_error() && self.error.is_some() => {
                RegistryError::Rejected(text)
            }
            _ => RegistryError::WrongApi(text),
        }
    }

    fn details(&self) -> String {
        let detail = |error: &RawError| {
            format!(" error_code=`{}` message=`{}`", error.error_code, error.message)
        };
        self.error.as_ref().map_or_else(String::new, detail)
    }
}
