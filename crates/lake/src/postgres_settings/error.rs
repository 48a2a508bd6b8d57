//! Error in the setting of a PostgreSQL catalog.

/// Error in a setting, without any part of the setting that may be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PostgresSettingsError(pub String);

impl PostgresSettingsError {
    /// Creates an error with a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
