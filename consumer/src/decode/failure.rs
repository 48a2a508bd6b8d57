//! What is wrong with one record.

use std::fmt;

use ducktide_decoder::DecodeError;

use super::error_class::ErrorClass;

/// Why a record can never be a row of its table as things are. Never holds the record's content, as
/// these texts go to logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeFailure {
    /// Of which kind it is.
    pub class: ErrorClass,
    /// What is wrong.
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
