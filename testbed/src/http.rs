//! HTTP requests of the testbed.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

/// Maximum time for a response of a service on this machine.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the body of the response to `GET path` from a service on this machine; an error unless
/// the status is 200 or 201.
pub fn get(port: u16, path: &str) -> Result<String> {
    // HTTP/1.0: the response ends with the connection and is not chunked.
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n");
    // A server on a busy machine can close a connection without a response; a GET can be sent again.
    match exchange(port, &request) {
        Err(error) if error.to_string().contains(NO_HEADER) => exchange(port, &request),
        answer => answer,
    }
}

/// Text of the error of a connection that ends before the response.
const NO_HEADER: &str = "read response: no header";

/// Sends `PUT path` without a body to a service on this machine; an error unless it succeeds.
pub(crate) fn put(port: u16, path: &str) -> Result<()> {
    let head = "Host: 127.0.0.1\r\nContent-Length: 0";
    exchange(port, &format!("PUT {path} HTTP/1.0\r\n{head}\r\n\r\n")).map(drop)
}

/// Returns the body of the response to a `POST` of JSON to a path below the URL of a service on
/// this machine; an error unless the status is 200 or 201.
pub(crate) fn post(url: &str, path: &str, body: &str) -> Result<String> {
    request("POST", url, path, body)
}

/// Returns the body of the response to a `DELETE`; an error unless the status is 200 or 201.
pub(crate) fn delete(url: &str, path: &str) -> Result<String> {
    request("DELETE", url, path, "")
}

fn request(method: &str, url: &str, path: &str, body: &str) -> Result<String> {
    let (host, base) = url.trim_start_matches("http://").split_once('/').unwrap_or((url, ""));
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let port = port.with_context(|| format!("find the port in `{url}`"))?;
    let length = body.len();
    exchange(
        port,
        &format!(
            "{method} /{base}{path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ),
    )
}

fn exchange(port: u16, request: &str) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).context("connect")?;
    stream.set_read_timeout(Some(TIMEOUT)).context("set a timeout")?;
    stream.write_all(request.as_bytes()).context("send request")?;
    let mut response = String::new();
    stream.read_to_string(&mut response).context("read response")?;
    let (head, body) = response.split_once("\r\n\r\n").context(NO_HEADER)?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if !matches!(status, "200" | "201") {
        bail!("unexpected response status=`{status}` body=`{}`", body.trim());
    }
    Ok(body.to_owned())
}
