//! Signature of a request to S3, version 4:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>.

use std::{fmt::Write as _, io};

use jiff::Timestamp;
use openssl::{error::ErrorStack, hash::MessageDigest, pkey::PKey, sha::sha256, sign::Signer};

use crate::{
    http_message::HttpMessage,
    services::s3::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY},
};

/// Target of a request, encoded as signatures require it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    path: String,
    /// Parameters in their order.
    query: String,
}

impl Target {
    /// Parses the target of a request.
    pub(super) fn parse(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path: Vec<_> = decode(path).split(|byte| *byte == b'/').map(encode).collect();
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("{}={}", encode(&decode(name)), encode(&decode(value)))
        });
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort();
        Self { path: path.join("/"), query: pairs.join("&") }
    }
}

/// Returns the first line of a request, and the headers of its signature at a time.
pub(super) fn sign(
    request: &HttpMessage,
    target: &Target,
    now: Timestamp,
) -> io::Result<(String, String)> {
    const SIGNED_HEADERS: &str = "host;x-amz-content-sha256;x-amz-date";
    const PAYLOAD: &str = "UNSIGNED-PAYLOAD";
    let (time, date) = (now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d").to_string());
    let Target { path, query } = target;
    let (method, host) = (request.method(), request.header("host").unwrap_or_default());
    let canonical = format!(
        "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{PAYLOAD}\n\
         x-amz-date:{time}\n\n{SIGNED_HEADERS}\n{PAYLOAD}"
    );
    let scope = format!("{date}/{REGION}/s3/aws4_request");
    let hash = hex(&sha256(canonical.as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hash}");
    let mut key = format!("AWS4{SECRET_ACCESS_KEY}").into_bytes();
    for part in [&date, REGION, "s3", "aws4_request", &text] {
        key = hmac(&key, part.as_bytes())?;
    }
    let separator = if query.is_empty() { "" } else { "?" };
    let first_line = format!("{method} {path}{separator}{query} HTTP/1.1");
    let headers = format!(
        "x-amz-content-sha256: {PAYLOAD}\r\nx-amz-date: {time}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY_ID}/{scope}, \
         SignedHeaders={SIGNED_HEADERS}, Signature={}",
        hex(&key)
    );
    Ok((first_line, headers))
}

fn hmac(key: &[u8], text: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::hmac(key)?;
    Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        hex
    })
}

/// Decodes `%2F` and the like.
fn decode(text: &str) -> Vec<u8> {
    let (mut decoded, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = byte.filter(|_| *first == b'%') {
            decoded.push(byte);
            rest = &after[2..];
        } else {
            decoded.push(*first);
            rest = after;
        }
    }
    decoded
}

/// Encodes all bytes except letters, digits and `-_.~`.
fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_one_encoding() {
        let target = Target::parse("/buck%2Det/lake%2Fdate%3D1%2Ff?uploadId=a%2Fb&partNumber=1");
        let expected = Target {
            path: "/buck-et/lake/date%3D1/f".to_owned(),
            query: "partNumber=1&uploadId=a%2Fb".to_owned(),
        };
        assert_eq!(target, expected);
        assert_eq!(Target::parse("/bucket/f?uploads").query, "uploads=");
    }
}
