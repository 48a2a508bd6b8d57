//! Settings with which DuckDB reads a bucket.

use std::fmt;

/// Settings of a DuckDB secret, and the extension that uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuckDbSecret {
    /// DuckDB extension that reads the store.
    pub extension: &'static str,
    /// Type of the secret.
    pub secret_type: &'static str,
    /// Provider of the secret. None for the default of its type.
    pub provider: Option<&'static str>,
    /// Scheme and bucket that the secret is for.
    pub scope: String,
    /// Options of CREATE SECRET.
    pub options: Vec<SecretOption>,
    /// Settings of DuckDB itself, as names and values.
    pub settings: Vec<(&'static str, String)>,
    /// The secret of another DuckDB if no environment variable has the credentials.
    pub without_variables: AmbientCredentials,
}

/// Credentials that DuckDB finds itself, such as those of a machine's role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmbientCredentials {
    /// Statements or comments before CREATE SECRET, each a line.
    pub before: &'static str,
    /// Provider of the secret. None for the default of its type.
    pub provider: Option<&'static str>,
    /// Options instead of those of the environment variables.
    pub options: Vec<SecretOption>,
}

/// Option of a DuckDB secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretOption {
    /// Name in CREATE SECRET.
    pub name: &'static str,
    /// Value, or its first part, that can be shown.
    pub shown: String,
    /// Rest of the value, that must not be shown.
    pub hidden: Option<HiddenValue>,
}

/// Value that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HiddenValue {
    /// The value.
    pub value: String,
    /// Environment variable that has it, if it comes from the environment.
    pub variable: &'static str,
}

impl SecretOption {
    /// Returns an option that can be shown.
    pub(super) fn shown(name: &'static str, value: &str) -> Self {
        Self { name, shown: value.to_owned(), hidden: None }
    }

    /// Returns the options of an endpoint of the S3 protocol: host, and whether it is encrypted.
    pub(super) fn of_endpoint(endpoint: &str) -> [Self; 2] {
        let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
        let is_encrypted = if scheme == "http" { "false" } else { "true" };
        let host = host.trim_end_matches('/');
        [Self::shown("ENDPOINT", host), Self::shown("USE_SSL", is_encrypted)]
    }

    /// Returns an option whose value must not be shown.
    pub(super) fn hidden(name: &'static str, value: &str, variable: &'static str) -> Self {
        Self::partly_hidden(name, "", value, variable)
    }

    /// Returns an option of which the end must not be shown.
    pub(super) fn partly_hidden(
        name: &'static str,
        shown: &str,
        hidden: &str,
        variable: &'static str,
    ) -> Self {
        let hidden = HiddenValue { value: hidden.to_owned(), variable };
        Self { name, shown: shown.to_owned(), hidden: Some(hidden) }
    }

    /// Returns the whole value.
    #[must_use]
    pub fn value(&self) -> String {
        let hidden = self.hidden.as_ref().map_or("", |hidden| &hidden.value);
        format!("{}{hidden}", self.shown)
    }
}

impl fmt::Debug for HiddenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "...({})", self.variable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_value_is_not_in_the_debug_output() {
        let option = SecretOption::partly_hidden("CONNECTION_STRING", "Key=", "s3cret", "KEY");
        assert_eq!(option.value(), "Key=s3cret");
        assert!(!format!("{option:?}").contains("s3cret"), "{option:?}");
    }
}
