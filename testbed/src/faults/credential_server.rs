//! Server of temporary credentials, as the EKS Pod Identity Agent is one:
//! <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html>.

use std::{
    fs,
    io::{self, BufReader, Write as _},
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;

use crate::{connections, http_message::HttpMessage};

/// Started server. It runs until the process ends.
#[derive(Debug)]
pub struct CredentialServer {
    port: u16,
    issued: Arc<AtomicU64>,
}

/// Permanent credentials for which temporary ones are issued, and the lifetime of these.
#[derive(Debug, Clone)]
pub struct Account {
    /// Identifier of the key.
    pub access_key_id: String,
    /// Secret key.
    pub secret_access_key: String,
    /// Lifetime of temporary credentials.
    pub lifetime: Duration,
}

impl CredentialServer {
    /// Starts a server.
    pub fn start(account: Account) -> Result<Self> {
        let issued = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&issued);
        let port = connections::serve(move |client| serve(client, &account, &counted))?;
        Ok(Self { port, issued })
    }

    /// Returns the environment variables with which programs find the server. Writes the file that authorizes
    /// them.
    pub fn settings(&self, authorization: &Path) -> Result<Vec<(&'static str, String)>> {
        fs::write(authorization, "ducktide-testbed").context("write the authorization")?;
        Ok(vec![
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                format!("http://127.0.0.1:{}/credentials", self.port),
            ),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", authorization.display().to_string()),
        ])
    }

    /// Returns the number of credentials that were issued.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }
}

fn serve(mut client: TcpStream, account: &Account, issued: &AtomicU64) -> io::Result<()> {
    let mut requests = BufReader::new(client.try_clone()?);
    while HttpMessage::read_request(&mut requests)?.is_some() {
        let expiry = Timestamp::now() + account.lifetime;
        let body = json!({
            "AccessKeyId": account.access_key_id,
            "SecretAccessKey": account.secret_access_key,
            "Token": token(expiry),
            "Expiration": expiry.to_string(),
        })
        .to_string();
        issued.fetch_add(1, Ordering::Relaxed);
        let length = body.len();
        write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")?;
    }
    Ok(())
}

/// Returns the session token of credentials that expire at a time.
pub(super) fn token(expiry: Timestamp) -> String {
    format!("expires-{}", expiry.as_millisecond())
}

/// Returns whether a session token has not expired.
pub(super) fn is_valid(token: &str) -> bool {
    let expiry = token.strip_prefix("expires-").and_then(|time| time.parse::<i64>().ok());
    expiry.is_some_and(|expiry| expiry > Timestamp::now().as_millisecond())
}
