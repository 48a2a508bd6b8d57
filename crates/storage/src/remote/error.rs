//! Errors of object stores: one line that names what to change.

use std::io::{self, ErrorKind};
use std::path::Path;

use object_store::Error;

/// Returns the reason and the remedy of an error code, with the kind of error that a disk would report.
fn explain(code: &str) -> Option<(ErrorKind, &'static str)> {
    let known = match code {
        "NoSuchBucket" | "ContainerNotFound" => (
            ErrorKind::InvalidInput,
            "the bucket does not exist; correct the data path, or create the bucket",
        ),
        "AccessDenied" | "AuthorizationFailure" | "AuthorizationPermissionMismatch" => (
            ErrorKind::PermissionDenied,
            "the store denies this operation; grant the credentials permission to put, get and list \
             below the data path",
        ),
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AuthenticationFailed" => (
            ErrorKind::PermissionDenied,
            "the store rejects the credentials; correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for \
             Azure AZURE_STORAGE_ACCOUNT_KEY)",
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
        _ => return None,
    };
    Some(known)
}

/// Converts an error of a store. Errors that waiting does not end have the kinds that a disk has for them;
/// all others count as an outage.
pub(super) fn failed(operation: &str, path: &Path, error: &Error) -> io::Error {
    let text = chain(error);
    let code = code(&text);
    let (url, code_text) = (path.display(), code.unwrap_or("none"));
    if let Some((kind, reason)) = code.and_then(explain) {
        tracing::debug!(error = text, "request refused");
        let text = format!("{reason}: operation=`{operation}` url=`{url}` code=`{code_text}`");
        return io::Error::new(kind, text);
    }
    let kind = match error {
        Error::NotFound { .. } => ErrorKind::NotFound,
        Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
        Error::InvalidPath { .. } => ErrorKind::InvalidInput,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            ErrorKind::PermissionDenied
        }
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, format!("{text}: operation=`{operation}` url=`{url}` code=`{code_text}`"))
}

/// Returns the text of an error with its causes, in one line. The client repeats the text of a cause in
/// that of the error.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the error code of a response, `<Code>NoSuchBucket</Code>`.
fn code(text: &str) -> Option<&str> {
    let (_, after) = text.split_once("<Code>")?;
    after.split_once("</Code>").map(|(code, _)| code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(code: &str) -> io::Error {
        let source = format!("403:\n <Error><Code>{code}</Code></Error>").into();
        let error = Error::Generic { store: "S3", source };
        failed("PUT", Path::new("s3://bucket/lake/f"), &error)
    }

    #[test]
    fn each_misconfiguration_is_one_line_that_names_the_setting() {
        for (code, setting) in [
            ("NoSuchBucket", "data path"),
            ("AccessDenied", "permission"),
            ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
            ("ExpiredToken", "AWS_SESSION_TOKEN"),
            ("RequestTimeTooSkewed", "clock"),
            ("PermanentRedirect", "AWS_REGION"),
        ] {
            let text = response(code).to_string();
            assert!(text.contains(setting) && text.contains("s3://bucket/lake/f"), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn an_unknown_error_is_an_outage() {
        assert_eq!(response("SlowDown").kind(), ErrorKind::Other);
    }
}
