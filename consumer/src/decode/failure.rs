//! Failure to decode one record.

use std::fmt;

use ducktide_decoder::DecodeError;

use super::error_class::ErrorClass;

/// Reason for which a record cannot become a row of its table. It never contains content of the
/// record, because its text is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeFailure {
    /// Class of the failure.
    pub class: ErrorClass,
    /// Description of the failure.
    pub text: String,
}

impl DecodeFailure {
    pub(crate) fn new(class: ErrorClass, text: impl Into<String>) -> Self {
        Self { class, text: text.into() }
    }
}

impl fmt::Display for DecodeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<DecodeError> for DecodeFailure {
    fn from(error: DecodeError) -> Self {
        Self::new(error.problem.into(), error.to_string())
    }
}
