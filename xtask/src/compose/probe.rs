//! Asks what listens on a published port, in its own language, whether it is what it should be.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// For each step of a question.
const PATIENCE: Duration = Duration::from_secs(5);

fn connect(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let stream = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("connect to 127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The body of what is served there.
pub(super) fn http(port: u16, path: &str) -> Result<String> {
    let mut stream = connect(port)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("read the answer of {path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("read an answer's head")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "{path} answers `{status}`: {body}");
    Ok(body.to_owned())
}

/// Whether a Kafka broker tells which versions of its API it speaks: the first thing that each client
/// asks.
pub(super) fn kafka(port: u16) -> Result<()> {
    /// `ApiVersions` (18), version 0, correlation id 7, no client id; the length comes first.
    const QUESTION: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let mut stream = connect(port)?;
    stream.write_all(&QUESTION)?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).context("read Kafka's answer")?;
    ensure!(answer[4..] == [0, 0, 0, 7, 0, 0], "not Kafka's answer: {answer:?}");
    Ok(())
}

/// Whether a PostgreSQL server says if it would speak TLS.
pub(super) fn postgres(port: u16) -> Result<()> {
    /// `SSLRequest`: length and code.
    const QUESTION: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let mut stream = connect(port)?;
    stream.write_all(&QUESTION)?;
    let mut answer = [0];
    stream.read_exact(&mut answer).context("read PostgreSQL's answer")?;
    ensure!(matches!(answer[0], b'N' | b'S'), "not PostgreSQL's answer: {answer:?}");
    Ok(())
}

/// The one number that Prometheus answers, if there is one.
pub(super) fn prometheus(port: u16, query: &str) -> Result<Option<f64>> {
    let body = http(port, &format!("/api/v1/query?query={}", percent_encoded(query)))?;
    single_value(&body)
}

/// Of `..."value":[1764112000.1,"4"]...`, as an instant vector of one element has it.
fn single_value(body: &str) -> Result<Option<f64>> {
    let Some((_, rest)) = body.split_once("\"value\":[") else { return Ok(None) };
    let value = rest.split('"').nth(1).context("read Prometheus's answer")?;
    value.parse().map(Some).with_context(|| format!("read Prometheus's answer `{body}`"))
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
    fn a_query_survives_a_url() {
        assert_eq!(percent_encoded("count(up>0)"), "count%28up%3E0%29");
    }

    #[test]
    fn the_number_is_found_in_the_answer() {
        let body = r#"{"data":{"result":[{"metric":{},"value":[1.5,"4"]}]}}"#;
        assert_eq!(single_value(body).unwrap(), Some(4.0));
        assert_eq!(single_value(r#"{"data":{"result":[]}}"#).unwrap(), None);
    }
}
