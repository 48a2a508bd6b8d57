//! Settings of the schema registry.

use std::fmt;

use clap::Args;
use ducktide_service::hidden_value::HiddenValue;
use reqwest_middleware::reqwest::Url;

/// Settings of the schema registry.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Schema registry")]
pub struct RegistryArgs {
    /// URL of the schema registry (Confluent's API; Apicurio needs the path `/apis/ccompat/v7`).
    /// Several URLs, separated by commas, are tried in order. Certificates of `https:` URLs are
    /// verified with those of the system, or of the file in `SSL_CERT_FILE`.
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_URL",
        value_name = "URL,...",
        default_value = "http://localhost:8081",
        value_parser = HiddenValue(RegistryUrls::parse),
        hide_env_values = true
    )]
    pub schema_registry_url: RegistryUrls,

    /// User for basic authentication, or API key of Confluent Cloud.
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_USER",
        value_name = "USER",
        requires = "schema_registry_password",
        conflicts_with = "schema_registry_token"
    )]
    pub schema_registry_user: Option<String>,

    /// Password for basic authentication. The environment variable keeps it out of the process
    /// list.
    #[arg(
        long,
        env = "SCHEMA_REGISTRY_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        requires = "schema_registry_user"
    )]
    pub schema_registry_password: Option<Secret>,

    /// Token for bearer authentication.
    #[arg(long, env = "SCHEMA_REGISTRY_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub schema_registry_token: Option<Secret>,
}

/// URLs of the schema registry, at least one. They are printed without their credentials.
#[derive(Clone)]
pub struct RegistryUrls(Vec<Url>);

impl RegistryUrls {
    /// Parses a list separated by commas. Rejects URLs that can never work: requests to them would
    /// be retried forever.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_http = |url: &Url| matches!(url.scheme(), "http" | "https");
        let parse = |url: &str| Url::parse(url.trim()).ok().filter(is_http);
        text.split(',').map(parse).collect::<Option<_>>().map(Self).ok_or_else(|| {
            "expected http://HOST:PORT or https://HOST:PORT, several separated by commas; \
             percent-encode special characters of a password"
                .to_owned()
        })
    }

    /// Returns the URLs, with credentials and without a slash at the end.
    pub(crate) fn iter(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|url| url.as_str().trim_end_matches('/').to_owned())
    }
}

impl fmt::Display for RegistryUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mut url) in self.0.iter().cloned().enumerate() {
            // Only a URL without a host cannot have credentials.
            let _ = (url.set_username(""), url.set_password(None));
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{}", url.as_str().trim_end_matches('/'))?;
        }
        Ok(())
    }
}

impl fmt::Debug for RegistryUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is never printed.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        registry: RegistryArgs,
    }

    #[test]
    fn secrets_are_not_shown() {
        for (flag, value) in [
            ("--schema-registry-token", "let-me-in"),
            ("--schema-registry-url", "http://a:1,https://me:let-me-in@b"),
        ] {
            let line = Line::try_parse_from(["test", flag, value]).unwrap();
            assert!(!format!("{:?}", line.registry).contains("let-me-in"), "{flag}");
        }
    }

    #[test]
    fn urls_are_shown_without_credentials() {
        for (url, shown) in [
            ("http://localhost:8081", "http://localhost:8081"),
            ("https://me:p@ss@registry/apis/ccompat/v7", "https://registry/apis/ccompat/v7"),
            ("http://h/a@b", "http://h/a@b"),
            ("http://me@a:1/, https://b", "http://a:1,https://b"),
        ] {
            assert_eq!(RegistryUrls::parse(url).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn an_invalid_url_is_rejected_and_not_printed() {
        for address in [
            "localhost:8081",
            "http://",
            "http//a:1",
            "http://a:x",
            "http://a:99999",
            "http://a b",
            "ftp://a",
            "",
            "http://a,",
        ] {
            let error =
                Line::try_parse_from(["line", "--schema-registry-url", address]).unwrap_err();
            assert!(error.to_string().contains("SCHEMA_REGISTRY_URL"), "{error}");
        }
        let secret = ["line", "--schema-registry-url", "http://me:s3cret@a:x"];
        assert!(!Line::try_parse_from(secret).unwrap_err().to_string().contains("s3cret"));
        for address in [
            "http://a:1/apis/ccompat/v7",
            "https://a,http://b:2/",
            "http://[::1]:8081",
            "http://me:x@a",
        ] {
            Line::try_parse_from(["line", "--schema-registry-url", address]).unwrap();
        }
    }
}
