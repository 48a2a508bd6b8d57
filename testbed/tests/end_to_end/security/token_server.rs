//! Token endpoint of an OAuth 2.0 server, with unsigned tokens that the test broker accepts.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::base64;

/// Secret of every client, and as it is encoded in a form.
pub(super) const SECRET: &str = "oas3c11:@ %\"oas3c12";
const ENCODED_SECRET: &str = "oas3c11%3A%40+%25%22oas3c12";

/// Lifetime of the tokens, seconds: short, so that clients replace them during a test.
const LIFETIME: u64 = 4;

pub(super) struct TokenServer {
    pub(super) endpoint: String,
    issued: Arc<AtomicUsize>,
}

impl TokenServer {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let endpoint = format!("http://{}/token", listener.local_addr()?);
        let issued = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&issued);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client may give up.
                let _ = serve(client, &count);
            }
        });
        Ok(Self { endpoint, issued })
    }

    /// Returns the number of tokens.
    pub(super) fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }
}

fn serve(client: TcpStream, issued: &AtomicUsize) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let (mut credentials, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if client.read_line(&mut line)? <= 2 {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        match &*name.to_ascii_lowercase() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => {
                let encoded = value.trim().trim_start_matches("Basic ");
                let decoded = base64::decode_block(encoded).unwrap_or_default();
                credentials = String::from_utf8_lossy(&decoded).into_owned();
            }
            _ => {}
        }
    }
    let mut form = vec![0; length];
    client.read_exact(&mut form)?;
    let is_form = form == b"grant_type=client_credentials&scope=kafka";
    let (status, body) = match credentials.split_once(':') {
        Some((id, ENCODED_SECRET)) if is_form => {
            issued.fetch_add(1, Ordering::Relaxed);
            let token = unsigned_token(id);
            (200, format!(r#"{{"access_token":"{token}","expires_in":{LIFETIME}}}"#))
        }
        _ => (401, r#"{"error":"invalid_client"}"#.to_owned()),
    };
    let size = body.len();
    let head =
        format!("HTTP/1.1 {status} x\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n");
    client.into_inner().write_all((head + &body).as_bytes())
}

fn unsigned_token(subject: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let expires = now + LIFETIME;
    let encode = |json: &str| {
        let text = base64::encode_block(json.as_bytes());
        text.trim_end_matches('=').replace('+', "-").replace('/', "_")
    };
    let claims = format!(r#"{{"sub":"{subject}","iat":{now},"exp":{expires},"scope":"kafka"}}"#);
    format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims))
}
