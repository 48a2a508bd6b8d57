//! Signature of a request to S3, version 4:
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>.

use std::{collections::BTreeMap, fmt::Write as _, io};

use jiff::Timestamp;
use openssl::{error::ErrorStack, hash::MessageDigest, pkey::PKey, sha::sha256, sign::Signer};

use crate::{
    http_message::HttpMessage,
    services::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY},
};

/// Returns a request signed by the owner of the store, instead of its own credentials. `change` gets the name
/// of each other header in lower case, and its line; None leaves the header out.
pub(crate) fn signed_again(
    request: &HttpMessage,
    now: Timestamp,
    change: impl Fn(&str, &str) -> Option<String>,
) -> io::Result<HttpMessage> {
    let (first_line, signature) = sign(request, &Target::parse(request.target()), now)?;
    let start = format!("{first_line}\r\n{signature}");
    let change = |name: &str, line: &str| if is_replaced(name) { None } else { change(name, line) };
    Ok(request.with_head(&start, change))
}

/// Returns whether a header belongs to the credentials of a request.
fn is_replaced(name: &str) -> bool {
    ["authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"].contains(&name)
}

/// Target of a request, encoded as signatures require it.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    path: String,
    /// Parameters in their order, without a signature.
    query: String,
}

impl Target {
    /// Parses the target of a request.
    fn parse(target: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path: Vec<_> = decode(path).split(|byte| *byte == b'/').map(encode).collect();
        let pairs = parameters(query).filter(|(name, _)| !name.starts_with("X-Amz-"));
        let pairs = pairs
            .map(|(name, value)| format!("{}={}", encode(&decode(name)), encode(&decode(value))));
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort();
        Self { path: path.join("/"), query: pairs.join("&") }
    }
}

/// Returns the first line of a request, and the headers of its signature at a time.
fn sign(request: &HttpMessage, target: &Target, now: Timestamp) -> io::Result<(String, String)> {
    const PAYLOAD: &str = "UNSIGNED-PAYLOAD";
    let (time, date) =
        (now.strftime("%Y%m%dT%H%M%SZ").to_string(), now.strftime("%Y%m%d").to_string());
    let Target { path, query } = target;
    let mut headers: BTreeMap<_, _> = request
        .headers()
        .filter(|(name, _)| name == "host" || name.starts_with("x-amz-") && !is_replaced(name))
        .collect();
    headers.insert("x-amz-content-sha256".to_owned(), PAYLOAD.to_owned());
    headers.insert("x-amz-date".to_owned(), time.clone());
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let lines = lines.concat();
    let signed_headers = headers.into_keys().collect::<Vec<_>>().join(";");
    let method = request.method();
    let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{signed_headers}\n{PAYLOAD}");
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
         SignedHeaders={signed_headers}, Signature={}",
        hex(&key)
    );
    Ok((first_line, headers))
}

/// Returns the session token of a request, from its headers or from the parameters of a signed URL.
pub(crate) fn session_token(request: &HttpMessage) -> Option<&str> {
    request.header("x-amz-security-token").or_else(|| {
        let (_, query) = request.target().split_once('?')?;
        let found = parameters(query).find(|(name, _)| *name == "X-Amz-Security-Token");
        found.map(|(_, value)| value)
    })
}

fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
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
    fn credentials_are_replaced_by_one_signature() {
        let request = "PUT /bucket/f HTTP/1.1\r\nHost: h\r\nx-amz-date: 1\r\n\
                       x-amz-security-token: t\r\nAuthorization: AWS4\r\nContent-Length: 1\r\n\r\nx";
        let request = HttpMessage::read_request(&mut request.as_bytes()).unwrap().unwrap();
        let keep = |_: &str, line: &str| Some(line.to_owned());
        let signed = signed_again(&request, Timestamp::UNIX_EPOCH, keep).unwrap();
        assert_eq!(signed.header("x-amz-date"), Some("19700101T000000Z"));
        assert_eq!(signed.header("x-amz-security-token"), None);
        let signature = signed.header("authorization").unwrap();
        assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=ducktide/"), "{signature}");
    }

    #[test]
    fn a_signed_url_has_a_session_token() {
        let token = |request: &str| {
            let request = HttpMessage::read_request(&mut request.as_bytes()).unwrap().unwrap();
            session_token(&request).map(str::to_owned)
        };
        let of_url = token("GET /bucket?uploads&X-Amz-Security-Token=t HTTP/1.1\r\n\r\n");
        assert_eq!(of_url.as_deref(), Some("t"));
        assert_eq!(token("GET /bucket?uploads HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn a_target_has_one_encoding() {
        let target = Target::parse("/buck%2Det/lake%2Fdate%3D1%2Ff?uploadId=a%2Fb&partNumber=1");
        let expected = Target {
            path: "/buck-et/lake/date%3D1/f".to_owned(),
            query: "partNumber=1&uploadId=a%2Fb".to_owned(),
        };
        assert_eq!(target, expected);
        assert_eq!(Target::parse("/bucket/f?uploads").query, "uploads=");
        assert_eq!(Target::parse("/bucket/f?uploads=&X-Amz-Date=1").query, "uploads=");
    }
}
