//! Object store with the protocol of Azure Blob Storage: Azurite.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use openssl::{base64, hash::MessageDigest, pkey::PKey, sign::Signer};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    backend::{Backend, Service},
    bucket_store::BucketStore,
    port,
    process::{Process, data_folder},
};
use crate::{guarded_child::Launch, http, workspace};

/// Started object store with one account.
#[derive(Debug)]
pub struct Azure {
    port: u16,
    backend: Box<dyn Backend>,
}

/// Name of the account.
const ACCOUNT: &str = "ducktide";

/// Key of the account, before it is encoded.
const KEY: &[u8] = b"ducktide-testbed";

/// Version of the service's interface for which shared access signatures are made.
const VERSION: &str = "2021-08-06";

/// End of the validity of shared access signatures.
const EXPIRY: &str = "2099-01-01T00:00:00Z";

impl Azure {
    /// Starts an empty store and waits until it answers. Its log is `azure.log` in the folder.
    pub fn start(logs: &Path) -> Result<Self> {
        let port = port::free()?;
        let data = data_folder("azure")?;
        let backend = Box::new(start_process(port, logs.join("azure.log"), data)?);
        let mut azure = Self { port, backend };
        azure.await_ready().context("start the object store")?;
        Ok(azure)
    }

    /// Returns a shared access signature for a container, as in a URL. The permissions are the letters that
    /// Azure has for them, in its order, such as `racwdl`: read, add, create, write, delete, list.
    pub fn signature(container: &str, permissions: &str) -> Result<String> {
        let (resource, is_container) = (format!("/blob/{ACCOUNT}/{container}"), "c");
        let who = [permissions, "", EXPIRY, &resource, "", "", "", VERSION, is_container];
        let signature = sign(&[&who[..], &[""; 7]].concat())?;
        let expiry = encoded(EXPIRY);
        Ok(format!("sv={VERSION}&sr={is_container}&sp={permissions}&se={expiry}&sig={signature}"))
    }

    /// Returns the environment variables with which programs find the store with a shared access signature
    /// for a container.
    pub fn settings_with_signature(
        &self,
        container: &str,
        permissions: &str,
    ) -> Result<Vec<(&'static str, String)>> {
        let mut settings = location(self.port);
        settings.push(("AZURE_STORAGE_SAS_TOKEN", Self::signature(container, permissions)?));
        Ok(settings)
    }
}

impl BucketStore for Azure {
    fn port(&self) -> u16 {
        self.port
    }

    fn create_bucket(&self, name: &str) -> Result<String> {
        let signature = account_signature()?;
        http::put(self.port, &format!("/{ACCOUNT}/{name}?restype=container&{signature}"))
            .with_context(|| format!("create the container {name}"))?;
        Ok(format!("az://{name}"))
    }

    fn settings_at(&self, port: u16) -> Vec<(&'static str, String)> {
        let mut settings = location(port);
        settings.push(("AZURE_STORAGE_ACCOUNT_KEY", account_key()));
        settings
    }

    fn duckdb_setup(&self) -> Result<String> {
        Ok(format!(
            "LOAD '{}'; CREATE SECRET (TYPE azure, CONNECTION_STRING \
             'AccountName={ACCOUNT};AccountKey={};BlobEndpoint=http://127.0.0.1:{}/{ACCOUNT}');",
            workspace::extension("azure")?.display(),
            account_key(),
            self.port
        ))
    }
}

impl Service for Azure {
    fn backend(&mut self) -> &mut dyn Backend {
        &mut *self.backend
    }

    fn check_ready(&self) -> Result<()> {
        let signature = account_signature()?;
        http::get(self.port, &format!("/{ACCOUNT}?comp=list&{signature}")).map(|_| ())
    }
}

/// Returns the environment variables without credentials.
fn location(port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT.to_owned()),
        ("AZURE_STORAGE_ENDPOINT", format!("http://127.0.0.1:{port}/{ACCOUNT}")),
        ("AZURE_ALLOW_HTTP", "true".to_owned()),
    ]
}

fn account_key() -> String {
    base64::encode_block(KEY)
}

/// Returns a shared access signature for the account, as in a URL. Azurite takes no removal of several objects
/// with it.
fn account_signature() -> Result<String> {
    // For the blob service; for the service, containers and objects.
    let (permissions, services, types) = ("rwdlac", "b", "sco");
    let fields = [ACCOUNT, permissions, services, types, "", EXPIRY, "", "", VERSION, "", ""];
    let (signature, expiry) = (sign(&fields)?, encoded(EXPIRY));
    Ok(format!(
        "sv={VERSION}&ss={services}&srt={types}&sp={permissions}&se={expiry}&sig={signature}"
    ))
}

/// Signs the fields of a shared access signature. Returns the signature as in the query of a URL.
fn sign(fields: &[&str]) -> Result<String> {
    let key = PKey::hmac(KEY).context("use the account's key")?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key).context("sign")?;
    let signature = signer.sign_oneshot_to_vec(fields.join("\n").as_bytes()).context("sign")?;
    Ok(encoded(&base64::encode_block(&signature)))
}

/// Returns a value as in the query of a URL.
fn encoded(text: &str) -> String {
    text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace(':', "%3A")
}

fn start_process(port: u16, log: PathBuf, data: TempDir) -> Result<Process> {
    let mut launch = Launch::new("node".into());
    let accounts = format!("{ACCOUNT}:{}", account_key());
    launch.environment.push(("AZURITE_ACCOUNTS".into(), accounts.into()));
    let program = workspace::downloaded("azurite/node_modules/azurite/dist/src/blob/main.js")?;
    let launch = launch.args([program.as_os_str(), "--location".as_ref(), data.path().as_os_str()]);
    let launch = launch.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
    // DuckDB's client can be newer. Names of accounts are in the path of URLs, not in the host.
    let launch = launch.args(["--skipApiVersionCheck", "--disableProductStyleUrl"]);
    let launch = launch.args(["--disableTelemetry", "--silent"]);
    Process::start(launch, Signal::TERM, log, data)
}
