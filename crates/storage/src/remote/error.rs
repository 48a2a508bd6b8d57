//! Errors of object stores: one line that names what to change.

use std::io::{self, ErrorKind};
use std::path::Path;

use object_store::Error;

/// Reason of an error and its remedy, with the kind of error that a disk would report.
pub(super) type Reason = (ErrorKind, &'static str);

/// Reasons of the errors of one kind of store.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreErrors {
    /// Returns the reason of an error code.
    pub(super) of_code: fn(&str) -> Option<Reason>,
    /// Reasons of errors without a known code.
    pub(super) of_text: &'static [TextReason],
}

/// Reason of an error whose text has a part.
#[derive(Debug)]
pub(super) struct TextReason {
    pub(super) part: &'static str,
    /// Kind of the error. None if it can end without a change, so that it counts as an outage.
    pub(super) kind: Option<ErrorKind>,
    /// Reason and remedy.
    pub(super) reason: &'static str,
}

/// Part of OpenSSL's error for a certificate that cannot be verified.
pub(super) const UNTRUSTED: &str = "certificate verify failed";

impl StoreErrors {
    /// Converts an error of a store. Errors that waiting does not end have the kinds that a disk has for
    /// them; all others count as an outage.
    pub(super) fn failed(self, operation: &str, path: &Path, error: &Error) -> io::Error {
        let kind = match error {
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Error::InvalidPath { .. } => ErrorKind::InvalidInput,
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                ErrorKind::PermissionDenied
            }
            _ => ErrorKind::Other,
        };
        self.classified(kind, operation, path, &chain(error))
    }

    /// Returns the error of an answer with this text, which counts as an outage unless its code is known.
    pub(super) fn answered(self, operation: &str, path: &Path, text: &str) -> io::Error {
        self.classified(ErrorKind::Other, operation, path, text)
    }

    fn classified(self, kind: ErrorKind, operation: &str, path: &Path, text: &str) -> io::Error {
        let code = code(text);
        let (url, code_text) = (path.display(), code.unwrap_or("none"));
        let context = format!("operation=`{operation}` url=`{url}` code=`{code_text}`");
        if let Some((kind, reason)) = code.and_then(self.of_code) {
            tracing::debug!(error = text, "request refused");
            return io::Error::new(kind, format!("{reason}: {context}"));
        }
        match self.of_text.iter().find(|known| text.contains(known.part)) {
            Some(known) => {
                let text = format!("{}: {text}: {context}", known.reason);
                io::Error::new(known.kind.unwrap_or(kind), text)
            }
            None => io::Error::new(kind, format!("{text}: {context}")),
        }
    }
}

/// Returns the reason of an error code that S3 and Google Cloud Storage have in common.
pub(super) fn of_bucket_code(code: &str) -> Option<Reason> {
    let reason = match code {
        "NoSuchBucket" => "the bucket does not exist; correct the data path, or create the bucket",
        "InvalidBucketName" => "the name of the bucket is not valid; correct the data path",
        _ => return None,
    };
    Some((ErrorKind::InvalidInput, reason))
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
pub(super) mod tests {
    use super::*;

    const NO_REASONS: StoreErrors = StoreErrors { of_code: |_| None, of_text: &[] };

    /// Returns the error of a response with a code.
    pub(in crate::remote) fn response(errors: StoreErrors, code: &str) -> io::Error {
        let source = format!("403:\n <Error><Code>{code}</Code></Error>").into();
        let error = Error::Generic { store: "store", source };
        errors.failed("PUT", Path::new("scheme://bucket/lake/f"), &error)
    }

    /// Returns the text of the error for a text without a code.
    pub(in crate::remote) fn text_of(errors: StoreErrors, text: &'static str) -> String {
        let error = Error::Generic { store: "store", source: text.into() };
        errors.failed("PUT", Path::new("scheme://bucket/f"), &error).to_string()
    }

    #[test]
    fn an_unknown_error_is_an_outage() {
        assert_eq!(response(NO_REASONS, "SlowDown").kind(), ErrorKind::Other);
    }
}
