//! Container of Azure Blob Storage.

use std::env;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use object_store::azure::{AzureConfigKey, AzureCredential, MicrosoftAzure, MicrosoftAzureBuilder};

use super::client::{self, invalid, refused};
use super::error::{Reason, StoreErrors, TextReason};
use super::runtime::wait;
use super::secret::{AmbientCredentials, DuckDbSecret, SecretOption};
use super::store::{Requests, Store};
use super::unfinished::UnfinishedUpload;
use crate::url::ObjectUrl;

/// Environment variables of an endpoint and of the permission of http.
const ENDPOINT: [&str; 2] = ["AZURE_STORAGE_ENDPOINT", "AZURE_ALLOW_HTTP"];

/// Environment variables that the client knows and DuckDB does not, and what to set instead.
const UNSUPPORTED: [(&str, &str); 3] = [
    (
        "AZURE_STORAGE_USE_EMULATOR",
        "set AZURE_STORAGE_ENDPOINT, AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY and \
         AZURE_ALLOW_HTTP=true",
    ),
    ("AZURE_STORAGE_ENCRYPTION_KEY", "use the encryption of the account"),
    ("AZURE_USE_FABRIC_ENDPOINT", "use a container of a storage account"),
];

/// Environment variables of the account's key.
const ACCESS_KEYS: [&str; 3] =
    ["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY"];

/// Environment variables of a shared access signature.
const SIGNATURES: [&str; 2] = ["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"];

/// Domain of accounts in the public cloud.
const DOMAIN: &str = "blob.core.windows.net";

/// Container of Azure Blob Storage.
#[derive(Debug)]
pub(super) struct Azure {
    store: Arc<MicrosoftAzure>,
    account: String,
    /// URL of the account.
    endpoint: String,
    /// The account's key. The client does not return it.
    access_key: Secret,
    /// The shared access signature, encoded as in a URL. The client returns it decoded.
    signature: Secret,
}

/// Setting that must not be shown.
struct Secret(Option<String>);

impl Azure {
    /// Connects a container. Makes no request.
    pub(super) fn connect(url: &ObjectUrl) -> io::Result<Self> {
        for (variable, remedy) in UNSUPPORTED {
            if env::var(variable).is_ok_and(|value| !value.is_empty() && value != "false") {
                return Err(invalid(&format!("{variable} is not supported; {remedy}")));
            }
        }
        let builder = MicrosoftAzureBuilder::from_env().with_url(&url.bucket);
        let setting = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
        let Some(account) = setting(AzureConfigKey::AccountName) else {
            return Err(invalid(&format!(
                "the storage account is unknown; set AZURE_STORAGE_ACCOUNT_NAME and \
                 AZURE_STORAGE_ACCOUNT_KEY (AZURE_STORAGE_CONNECTION_STRING is not read): url=`{}`",
                url.bucket
            )));
        };
        let options = client::options("AZURE_", env::vars_os());
        let endpoint = setting(AzureConfigKey::Endpoint);
        if let Some(endpoint) = &endpoint {
            client::check_endpoint(endpoint, &options, ENDPOINT)?;
        }
        let endpoint = endpoint.unwrap_or_else(|| format!("https://{account}.{DOMAIN}"));
        let access_key = Secret(setting(AzureConfigKey::AccessKey));
        let signature = setting(AzureConfigKey::SasKey);
        let signature = Secret(signature.map(|text| text.trim_start_matches('?').to_owned()));
        let builder = builder.with_client_options(options).with_retry(client::retries());
        let store = builder.build().map_err(|error| refused_setting(url, &error))?;
        Ok(Self { store: Arc::new(store), account, endpoint, access_key, signature })
    }

    /// Returns the first part of a connection string.
    fn connection(&self) -> String {
        let endpoint = self.endpoint.trim_end_matches('/');
        format!("AccountName={};BlobEndpoint={endpoint}", self.account)
    }

    /// Returns the options of a secret with a token, for which DuckDB builds the URL from the name of the
    /// account.
    fn account_options(&self) -> io::Result<Vec<SecretOption>> {
        let mut options = vec![SecretOption::shown("ACCOUNT_NAME", &self.account)];
        let host = self.endpoint.trim_end_matches('/').strip_prefix("https://");
        let domain = host.and_then(|host| host.strip_prefix(&self.account)?.strip_prefix('.'));
        match domain {
            Some(DOMAIN) => {}
            Some(domain) => options.push(SecretOption::shown("ENDPOINT", domain)),
            None => {
                return Err(invalid(&format!(
                    "DuckDB reads this endpoint with an account key or a SAS token only; set \
                     AZURE_STORAGE_ACCOUNT_KEY, or an endpoint such as https://ACCOUNT.{DOMAIN}: \
                     AZURE_STORAGE_ENDPOINT=`{}`",
                    self.endpoint
                )));
            }
        }
        Ok(options)
    }
}

impl Store for Azure {
    fn requests(&self) -> Arc<dyn Requests> {
        self.store.clone()
    }

    fn errors(&self) -> StoreErrors {
        ERRORS
    }

    fn duckdb_extension(&self) -> &'static str {
        "azure"
    }

    fn duckdb_secret(&self, bucket: &str) -> io::Result<DuckDbSecret> {
        const CONNECTION: &str = "CONNECTION_STRING";
        let credentials = Arc::clone(self.store.credentials());
        let credential = wait(async move { credentials.get_credential().await })?;
        let credential = credential
            .map_err(|error| ERRORS.failed("GET credentials", Path::new(bucket), &error))?;
        let (provider, options) = match (&*credential, &self.access_key.0, &self.signature.0) {
            (AzureCredential::AccessKey(_), Some(key), _) => {
                let shown = format!("{};AccountKey=", self.connection());
                let variable = first_set(&ACCESS_KEYS);
                (None, vec![SecretOption::partly_hidden(CONNECTION, &shown, key, variable)])
            }
            (AzureCredential::SASToken(_), _, Some(signature)) => {
                let shown = format!("{};SharedAccessSignature=", self.connection());
                let variable = first_set(&SIGNATURES);
                (None, vec![SecretOption::partly_hidden(CONNECTION, &shown, signature, variable)])
            }
            (AzureCredential::BearerToken(token), ..) => {
                let mut options = self.account_options()?;
                options.push(SecretOption::hidden("ACCESS_TOKEN", token, "AZURE_STORAGE_TOKEN"));
                (Some("access_token"), options)
            }
            _ => return Err(invalid("the credentials are not those of the settings")),
        };
        Ok(DuckDbSecret {
            extension: self.duckdb_extension(),
            secret_type: "azure",
            provider,
            scope: bucket.to_owned(),
            options,
            settings: Vec::new(),
            without_variables: AmbientCredentials {
                before: "",
                provider: Some("credential_chain"),
                options: self.account_options().unwrap_or_default(),
            },
        })
    }

    /// Returns no uploads: the service removes the blocks of an unfinished upload a week after the last one,
    /// and its interface cannot list or remove them before.
    fn unfinished_uploads(&self, _: &str, _: &Path) -> io::Result<Vec<UnfinishedUpload>> {
        Ok(Vec::new())
    }
}

/// Returns the first environment variable that is set, or the first of all.
fn first_set<const N: usize>(names: &[&'static str; N]) -> &'static str {
    names.iter().find(|name| env::var_os(name).is_some()).unwrap_or(&names[0])
}

fn refused_setting(url: &ObjectUrl, error: &object_store::Error) -> io::Error {
    if error.to_string().contains("Invalid Access Key") {
        return invalid("the account key is not in Base64; correct AZURE_STORAGE_ACCOUNT_KEY");
    }
    refused(url, error)
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "set" } else { "not set" })
    }
}

const ERRORS: StoreErrors = StoreErrors { of_code, of_text: OF_TEXT };

/// Codes: <https://learn.microsoft.com/en-us/rest/api/storageservices/common-rest-api-error-codes>.
fn of_code(code: &str) -> Option<Reason> {
    let known = match code {
        "ContainerNotFound" => (
            ErrorKind::InvalidInput,
            "the container does not exist; correct the data path, or create the container",
        ),
        "InvalidResourceName" | "OutOfRangeInput" | "InvalidUri" => (
            ErrorKind::InvalidInput,
            "the name of the container is not valid; correct the data path",
        ),
        "AuthenticationFailed" | "InvalidAuthenticationInfo" | "NoAuthenticationInformation" => (
            ErrorKind::PermissionDenied,
            "the store rejects the credentials; correct AZURE_STORAGE_ACCOUNT_NAME and \
             AZURE_STORAGE_ACCOUNT_KEY, renew AZURE_STORAGE_SAS_TOKEN if it has expired, and check the clock \
             of this machine",
        ),
        "AuthorizationFailure" => (
            ErrorKind::PermissionDenied,
            "the store rejects the credentials or this machine; correct AZURE_STORAGE_ACCOUNT_KEY or renew \
             AZURE_STORAGE_SAS_TOKEN, and permit this machine in the account's firewall",
        ),
        "AuthorizationPermissionMismatch"
        | "AuthorizationResourceTypeMismatch"
        | "AuthorizationServiceMismatch"
        | "InsufficientAccountPermissions" => (
            ErrorKind::PermissionDenied,
            "the store denies this operation; grant the credentials permission to read, add, create, write \
             and list below the data path",
        ),
        "AuthorizationProtocolMismatch" | "AuthorizationSourceIPMismatch" => (
            ErrorKind::PermissionDenied,
            "the SAS token is not valid for this machine or for http; renew AZURE_STORAGE_SAS_TOKEN",
        ),
        "KeyBasedAuthenticationNotPermitted" => (
            ErrorKind::PermissionDenied,
            "the account permits no keys; unset AZURE_STORAGE_ACCOUNT_KEY, and give this machine a managed \
             identity, or set AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID",
        ),
        "AccountIsDisabled" => {
            (ErrorKind::PermissionDenied, "the storage account is disabled; enable it")
        }
        _ => return None,
    };
    Some(known)
}

const OF_TEXT: &[TextReason] = &[
    // Also the address of the service that gives a machine its identity, asked when no credentials are set.
    TextReason {
        part: "Error performing token request",
        kind: None,
        reason: "no credentials for the object store; set AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, \
         correct AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID, or give this machine a managed \
         identity",
    },
    // A part of a request for several removals has no code.
    TextReason {
        part: "(code: 403)",
        kind: Some(ErrorKind::PermissionDenied),
        reason: "the store denies this operation; grant the credentials permission to delete below the data \
                 path",
    },
    TextReason {
        part: "dns error",
        kind: None,
        reason: "the host of the storage account is unknown; correct AZURE_STORAGE_ACCOUNT_NAME or \
         AZURE_STORAGE_ENDPOINT",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::error::tests::{response, text_of};

    fn azure(endpoint: &str) -> Azure {
        let builder = MicrosoftAzureBuilder::new().with_account("account");
        let builder = builder.with_container_name("container").with_access_key("a2V5");
        Azure {
            store: Arc::new(builder.build().unwrap()),
            account: "account".to_owned(),
            endpoint: endpoint.to_owned(),
            access_key: Secret(Some("a2V5".to_owned())),
            signature: Secret(None),
        }
    }

    #[test]
    fn the_key_is_the_hidden_end_of_a_connection_string() {
        let secret = azure("http://127.0.0.1:1/account/").duckdb_secret("az://container").unwrap();

        let connection = &secret.options[0];
        let shown = "AccountName=account;BlobEndpoint=http://127.0.0.1:1/account;AccountKey=";
        assert_eq!((connection.name, connection.shown.as_str()), ("CONNECTION_STRING", shown));
        assert_eq!(connection.value(), format!("{shown}a2V5"));
        assert_eq!((secret.scope.as_str(), secret.extension), ("az://container", "azure"));
        assert!(!format!("{secret:?}").contains("a2V5"), "{secret:?}");
    }

    #[test]
    fn a_token_is_for_the_domain_of_an_account() {
        let options = |endpoint| azure(endpoint).account_options();
        assert_eq!(options("https://account.blob.core.windows.net").unwrap().len(), 1);
        let other = options("https://account.blob.core.chinacloudapi.cn/").unwrap();
        assert_eq!(other[1], SecretOption::shown("ENDPOINT", "blob.core.chinacloudapi.cn"));
        let refused = options("https://127.0.0.1:1/account").unwrap_err().to_string();
        assert!(refused.contains("AZURE_STORAGE_ENDPOINT"), "{refused}");
    }

    #[test]
    fn each_misconfiguration_is_one_line_that_names_the_setting() {
        for (code, setting) in [
            ("ContainerNotFound", "data path"),
            ("AuthenticationFailed", "AZURE_STORAGE_ACCOUNT_KEY"),
            ("AuthorizationPermissionMismatch", "permission"),
            ("KeyBasedAuthenticationNotPermitted", "AZURE_CLIENT_ID"),
        ] {
            let text = response(ERRORS, code).to_string();
            assert!(text.contains(setting) && text.contains("://bucket/lake/f"), "{text}");
        }
        let text = text_of(ERRORS, "Bulk delete request failed for key f: Forbidden (code: 403)");
        assert!(text.contains("permission to delete"), "{text}");
        let text = text_of(ERRORS, "Error performing token request: Error performing GET http://x");
        assert!(text.contains("set AZURE_STORAGE_ACCOUNT_KEY"), "{text}");
    }
}
