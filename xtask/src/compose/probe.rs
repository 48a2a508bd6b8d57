//! Checks that the expected service listens on a published port, in the protocol of the service.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// Timeout of each step of a request.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);

fn connect(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let stream = TcpStream::connect_timeout(&address, STEP_TIMEOUT)
        .with_context(|| format!("connect to 127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    Ok(stream)
}

/// Returns the body of a page.
pub(super) fn http(port: u16, path: &str) -> Result<String> {
    let mut stream = connect(port)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response).with_context(|| format!("read the response of {path}"))?;
    let (head, body) = response.split_once("\r\n\r\n").context("read the response header")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{path} returns `{status}`: {body}");
    Ok(body.to_owned())
}

/// Checks that a Kafka broker returns its API versions, the first request of each client.
pub(super) fn kafka(port: u16) -> Result<()> {
    /// `ApiVersions` (18), version 0, correlation id 7, no client id, preceded by the length.
    const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let mut stream = connect(port)?;
    stream.write_all(&REQUEST)?;
    let mut response = [0; 10];
    stream.read_exact(&mut response).context("read Kafka's response")?;
    ensure!(response[4..] == [0, 0, 0, 7, 0, 0], "not a response of Kafka: {response:?}");
    Ok(())
}

/// Checks that a PostgreSQL server responds to a TLS request.
pub(super) fn postgres(port: u16) -> Result<()> {
    /// `SSLRequest`: length and code.
    const REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let mut stream = connect(port)?;
    stream.write_all(&REQUEST)?;
    let mut response = [0];
    stream.read_exact(&mut response).context("read PostgreSQL's response")?;
    ensure!(matches!(response[0], b'N' | b'S'), "not a response of PostgreSQL: {response:?}");
    Ok(())
}

/// Returns the single number in the result of a Prometheus query, if there is one.
pub(super) fn prometheus(port: u16, query: &str) -> Result<Option<f64>> {
    let body = http(port, &format!("/api/v1/query?query={}", percent_encoded(query)))?;
    single_value(&body)
}

/// Parses the value of an instant vector with one element: `..."value":[1764112000.1,"4"]...`.
fn single_value(body: &str) -> Result<Option<f64>> {
    let Some((_, rest)) = body.split_once("\"value\":[") else { return Ok(None) };
    let value = rest.split('"').nth(1).context("parse Prometheus's response")?;
    value.parse().map(Some).with_context(|| format!("parse Prometheus's response `{body}`"))
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
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
    fn a_query_is_percent_encoded() {
        assert_eq!(percent_encoded("count(up>0)"), "count%28up%3E0%29");
    }

    #[test]
    fn the_number_is_parsed_from_the_response() {
        let body = r#"{"data":{"result":[{"metric":{},"value":[1.5,"4"]}]}}"#;
        assert_eq!(single_value(body).unwrap(), Some(4.0));
        assert_eq!(single_value(r#"{"data":{"result":[]}}"#).unwrap(), None);
    }
}
