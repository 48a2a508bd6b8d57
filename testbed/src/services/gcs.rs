//! Object store with the XML interface of Google Cloud Storage: versitygw behind a proxy.
//!
//! No package registry has an emulator with what Ducktide needs: fake-gcs-server 1.56 has neither multipart
//! uploads nor preconditions in the XML interface, and other emulators have the JSON interface only. Google's
//! XML interface has the format of S3, with two differences, which the proxy translates:
//!
//! | | Google Cloud Storage | S3 |
//! |---|---|---|
//! | credentials | a token in `Authorization` | a signature in `Authorization` |
//! | create, but do not replace | `x-goog-if-generation-match: 0` | `If-None-Match: *` |

use std::{
    io::{self, BufReader, Write as _},
    net::TcpStream,
    path::Path,
};

use anyhow::Result;
use jiff::Timestamp;

use super::{S3, bucket_store::BucketStore};
use crate::{
    connections,
    http_message::{HttpMessage, StoreConnection},
    s3_signature, workspace,
};

/// Started object store.
#[derive(Debug)]
pub struct Gcs {
    s3: S3,
    port: u16,
}

/// Token that the store accepts.
const TOKEN: &str = "ducktide-testbed";

impl Gcs {
    /// Starts an empty store and waits until it answers. Its log is `s3.log` in the folder.
    pub fn start(logs: &Path) -> Result<Self> {
        let s3 = S3::start(logs)?;
        let store = s3.port();
        let port = connections::serve(move |client| serve(client, store))?;
        Ok(Self { s3, port })
    }

    /// Returns the number of unfinished multipart uploads of a bucket.
    #[must_use]
    pub fn unfinished_uploads(&self, bucket: &str) -> usize {
        self.s3.unfinished_uploads(bucket)
    }
}

impl BucketStore for Gcs {
    fn port(&self) -> u16 {
        self.port
    }

    fn create_bucket(&self, name: &str) -> Result<String> {
        self.s3.create_bucket(name)?;
        Ok(format!("gs://{name}"))
    }

    fn settings_at(&self, port: u16) -> Vec<(&'static str, String)> {
        vec![
            ("GOOGLE_BEARER_TOKEN", TOKEN.to_owned()),
            ("GOOGLE_BASE_URL", format!("http://127.0.0.1:{port}")),
            ("GOOGLE_ALLOW_HTTP", "true".to_owned()),
        ]
    }

    fn duckdb_setup(&self) -> Result<String> {
        Ok(format!(
            "LOAD '{}'; CREATE SECRET (TYPE gcs, BEARER_TOKEN '{TOKEN}', ENDPOINT '127.0.0.1:{}', \
             USE_SSL false);",
            workspace::extension("httpfs")?.display(),
            self.port
        ))
    }
}

/// Forwards the requests of a connection one by one.
fn serve(mut client: TcpStream, store: u16) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut requests = BufReader::new(client.try_clone()?);
    let mut store = StoreConnection::open(store)?;
    while let Some(request) = HttpMessage::read_request(&mut requests)? {
        if request.header("authorization") == Some(&format!("Bearer {TOKEN}")) {
            store.exchange(&to_s3(&request, Timestamp::now())?)?.write(&mut client)?;
        } else {
            client.write_all(DENIED.as_bytes())?;
        }
    }
    Ok(())
}

/// Answer to a request without the token.
const DENIED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/xml\r\n\
                      Content-Length: 51\r\n\r\n<Error><Code>AuthenticationRequired</Code></Error>\n";

/// Returns a request of Google Cloud Storage as one of S3.
fn to_s3(request: &HttpMessage, now: Timestamp) -> io::Result<HttpMessage> {
    s3_signature::signed_again(request, now, |name, line| {
        let is_precondition = name == "x-goog-if-generation-match";
        Some(if is_precondition { "If-None-Match: *".to_owned() } else { line.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_and_precondition_are_translated() {
        let request = "PUT /bucket/lake%2F%2Eclaim HTTP/1.1\r\nHost: h\r\n\
                       Authorization: Bearer t\r\nx-goog-if-generation-match: 0\r\n\
                       Content-Length: 1\r\n\r\nx";
        let request = HttpMessage::read_request(&mut request.as_bytes()).unwrap().unwrap();

        let mut translated = Vec::new();
        to_s3(&request, Timestamp::UNIX_EPOCH).unwrap().write(&mut translated).unwrap();

        let translated = String::from_utf8(translated).unwrap();
        let start = "PUT /bucket/lake/.claim HTTP/1.1\r\nx-amz-content-sha256: ";
        assert!(translated.starts_with(start), "{translated}");
        let end = "\r\nHost: h\r\nIf-None-Match: *\r\nContent-Length: 1\r\n\r\nx";
        assert!(translated.ends_with(end), "{translated}");
        assert!(!translated.contains("Bearer"), "{translated}");
    }

    #[test]
    fn a_refusal_has_the_length_of_its_body() {
        let refusal = HttpMessage::read_answer(&mut DENIED.as_bytes(), "GET").unwrap();
        let mut written = Vec::new();
        refusal.write(&mut written).unwrap();
        assert_eq!(written.len(), DENIED.len());
    }
}
