//! Settings of the HTTP clients of all stores.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use object_store::{Certificate, ClientConfigKey, ClientOptions, Error, RetryConfig};

use crate::url::ObjectUrl;

/// Longest time for which a request is repeated. The caller repeats the whole operation afterwards, as in
/// an outage of any length.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum number of repetitions of a request.
const MAX_RETRIES: usize = 6;

/// Returns how a client repeats requests.
pub(super) fn retries() -> RetryConfig {
    RetryConfig { max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() }
}

/// Returns the options of a client, from environment variables with a prefix, such as `AWS_ALLOW_HTTP`.
pub(super) fn options(
    prefix: &str,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> ClientOptions {
    let mut options = ClientOptions::default();
    for (name, value) in variables {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        let Some(name) = name.strip_prefix(prefix) else { continue };
        if let Ok(key) = name.to_ascii_lowercase().parse::<ClientConfigKey>() {
            options = options.with_config(key, value);
        }
    }
    options
}

/// Adds the certificates of authorities in a PEM file, which a variable names.
pub(super) fn with_authorities(
    options: ClientOptions,
    file: &Path,
    variable: &str,
) -> io::Result<ClientOptions> {
    let unreadable = |error: String| {
        let file = file.display();
        invalid(&format!("read the certificates of authorities: {error}: {variable}=`{file}`"))
    };
    let bundle = fs::read(file).map_err(|error| unreadable(error.to_string()))?;
    let found = Certificate::from_pem_bundle(&bundle);
    let found = found.map_err(|error| unreadable(error.to_string()))?;
    if found.is_empty() {
        return Err(unreadable("the file has none".to_owned()));
    }
    Ok(found.into_iter().fold(options, ClientOptions::with_root_certificate))
}

/// Refuses an endpoint without encryption unless the options permit it. The endpoint is the value of the
/// first variable; the second one permits http.
pub(super) fn check_endpoint(
    endpoint: &str,
    options: &ClientOptions,
    [variable, permission]: [&str; 2],
) -> io::Result<()> {
    let allows_http = options.get_config_value(&ClientConfigKey::AllowHttp);
    match endpoint.split_once("://") {
        Some(("https", _)) => Ok(()),
        Some(("http", _)) if allows_http.is_some_and(|allows| allows == "true") => Ok(()),
        Some(("http", _)) => Err(invalid(&format!(
            "the endpoint has no encryption; give an https URL, or permit http with {permission}=true: \
             {variable}=`{endpoint}`"
        ))),
        _ => Err(invalid(&format!(
            "the endpoint is not a URL such as https://host:port; correct {variable}: \
             {variable}=`{endpoint}`"
        ))),
    }
}

/// Returns the error of settings that a client rejects.
pub(super) fn refused(url: &ObjectUrl, error: &Error) -> io::Error {
    invalid(&format!("the settings of the object store are wrong: {error}: url=`{}`", url.bucket))
}

pub(super) fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_encryption_must_be_permitted() {
        const VARIABLES: [&str; 2] = ["AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"];
        let variable = |value: &str| (OsString::from("AWS_ALLOW_HTTP"), OsString::from(value));
        let permitted = options("AWS_", [variable("true")].into_iter());
        let refused = options("AWS_", [variable("false")].into_iter());

        let error = check_endpoint("http://store:7070", &refused, VARIABLES).unwrap_err();
        assert!(error.to_string().contains("AWS_ALLOW_HTTP=true"), "{error}");

        check_endpoint("http://store:7070", &permitted, VARIABLES).unwrap();
        check_endpoint("https://store:7070", &refused, VARIABLES).unwrap();
        assert!(check_endpoint("store:7070", &permitted, VARIABLES).is_err());
    }

    #[test]
    fn a_ca_bundle_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [file.path(), Path::new("/nowhere/ca.pem")] {
            let refused = with_authorities(ClientOptions::default(), path, "AWS_CA_BUNDLE");
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("AWS_CA_BUNDLE"), "{text}");
        }
    }
}
