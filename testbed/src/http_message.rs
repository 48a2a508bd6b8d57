//! Request or answer of HTTP/1.1, forwarded byte for byte: signatures cover the headers.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read as _, Write},
    net::{Ipv4Addr, TcpStream},
};

/// Request or answer.
#[derive(Debug)]
pub(crate) struct HttpMessage {
    /// First line and headers, with the empty line at their end.
    head: String,
    /// Body as it was sent, with the sizes of its chunks if it has any.
    body: Vec<u8>,
}

/// Length of a body.
#[derive(Debug, PartialEq, Eq)]
enum BodyLength {
    Bytes(u64),
    Chunked,
    /// Ends with the connection.
    Unknown,
}

impl HttpMessage {
    /// Reads a request; None if the client closed the connection after the last one.
    pub(crate) fn read_request(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(head) = read_head(from)? else { return Ok(None) };
        let length = match length(&head) {
            BodyLength::Unknown => BodyLength::Bytes(0),
            known => known,
        };
        let body = read_body(from, &length)?;
        Ok(Some(Self { head, body }))
    }

    /// Reads the answer to a request with this method. The interim answer `100 Continue` is left out.
    pub(crate) fn read_answer(from: &mut impl BufRead, method: &str) -> io::Result<Self> {
        let mut head = String::new();
        while status(&head).is_empty() || status(&head) == "100" {
            head = read_head(from)?.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        }
        let has_body = method != "HEAD" && !matches!(status(&head), "204" | "304");
        let length = if has_body { length(&head) } else { BodyLength::Bytes(0) };
        let body = read_body(from, &length)?;
        Ok(Self { head, body })
    }

    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Returns the names of the headers in lower case, and their values.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (String, String)> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
    }

    /// Returns the message with another first line and other headers: `change` gets the name of each in lower
    /// case, and its line; None leaves it out.
    pub(crate) fn with_head(
        &self,
        first_line: &str,
        change: impl Fn(&str, &str) -> Option<String>,
    ) -> Self {
        let lines = self.head.lines().skip(1).filter_map(|line| {
            let (name, _) = line.split_once(':')?;
            change(&name.to_ascii_lowercase(), line)
        });
        let lines = std::iter::once(first_line.to_owned()).chain(lines);
        let head = lines.map(|line| line + "\r\n").collect::<String>() + "\r\n";
        Self { head, body: self.body.clone() }
    }

    /// Returns the message with another body.
    pub(crate) fn with_body(&self, body: String) -> Self {
        let first_line = self.head.lines().next().unwrap_or_default();
        let head = self.with_head(first_line, |name, line| match name {
            "content-length" | "transfer-encoding" => {
                Some(format!("Content-Length: {}", body.len()))
            }
            _ => Some(line.to_owned()),
        });
        Self { body: body.into_bytes(), ..head }
    }

    /// Returns the body as text; of a chunked body this includes the sizes of the chunks.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the method of a request.
    pub(crate) fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// Returns the path of a request, with its query.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) const fn has_body(&self) -> bool {
        !self.body.is_empty()
    }

    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(self.head.as_bytes())?;
        to.write_all(&self.body)
    }

    /// Writes the head and half of the body; without a body, half of the head.
    pub(crate) fn write_half(&self, to: &mut impl Write) -> io::Result<()> {
        if self.body.is_empty() {
            return to.write_all(&self.head.as_bytes()[..self.head.len() / 2]);
        }
        to.write_all(self.head.as_bytes())?;
        to.write_all(&self.body[..self.body.len() / 2])
    }
}

/// Connection to a service on this machine.
pub(crate) struct StoreConnection {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

impl StoreConnection {
    pub(crate) fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        Ok(Self { answers: BufReader::new(stream.try_clone()?), stream })
    }

    /// Returns the stream of requests.
    pub(crate) const fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a request, and returns the whole answer.
    pub(crate) fn exchange(&mut self, request: &HttpMessage) -> io::Result<HttpMessage> {
        request.write(&mut self.stream)?;
        HttpMessage::read_answer(&mut self.answers, request.method())
    }
}

/// Reads lines up to an empty one; None at the end of the connection.
fn read_head(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            let is_between = head.is_empty();
            return if is_between { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
        }
    }
    Ok(Some(head))
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn length(head: &str) -> BodyLength {
    let header = |name: &str| header(head, name);
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return BodyLength::Chunked;
    }
    let bytes = header("content-length").and_then(|value| value.parse().ok());
    bytes.map_or(BodyLength::Unknown, BodyLength::Bytes)
}

fn read_body(from: &mut impl BufRead, length: &BodyLength) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    match length {
        BodyLength::Bytes(bytes) => read_bytes(from, *bytes, &mut body)?,
        BodyLength::Unknown => from.read_to_end(&mut body).map(drop)?,
        BodyLength::Chunked => {
            loop {
                let mut line = String::new();
                from.read_line(&mut line)?;
                body.extend_from_slice(line.as_bytes());
                let size = line.trim_end().split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(size, 16)
                    .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                if size == 0 {
                    break;
                }
                read_bytes(from, size + 2, &mut body)?;
            }
            let trailer = read_trailer(from)?;
            body.extend_from_slice(trailer.as_bytes());
        }
    }
    Ok(body)
}

/// Reads the lines after the last chunk, up to an empty one.
fn read_trailer(from: &mut impl BufRead) -> io::Result<String> {
    let mut trailer = String::new();
    while trailer != "\r\n" && !trailer.ends_with("\r\n\r\n") {
        if from.read_line(&mut trailer)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(trailer)
}

fn read_bytes(from: &mut impl BufRead, count: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = from.take(count).read_to_end(body)? as u64;
    if read < count { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: &str = "PUT /bucket/f?partNumber=1 HTTP/1.1\r\nHost: h\r\ncontent-length: 4\r\n\r\nbody\
                            POST /bucket?delete HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                            3\r\nabc\r\n0\r\n\r\n\
                            GET / HTTP/1.1\r\n\r\n";

    #[test]
    fn requests_of_one_connection_are_forwarded_byte_for_byte() {
        let mut from = REQUESTS.as_bytes();
        let (mut forwarded, mut methods) = (Vec::new(), Vec::new());
        while let Some(request) = HttpMessage::read_request(&mut from).unwrap() {
            request.write(&mut forwarded).unwrap();
            methods.push(request.method().to_owned());
        }
        assert_eq!(methods, ["PUT", "POST", "GET"]);
        assert_eq!(String::from_utf8(forwarded).unwrap(), REQUESTS);
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut from = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".as_bytes();
        let answer = HttpMessage::read_answer(&mut from, "HEAD").unwrap();
        assert!(!answer.has_body());
    }

    #[test]
    fn an_interim_answer_is_left_out() {
        let mut from =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                .as_bytes();
        let answer = HttpMessage::read_answer(&mut from, "PUT").unwrap();
        assert_eq!(answer.text(), "ok");
        assert_eq!(answer.with_body("longer".to_owned()).header("content-length"), Some("6"));
    }

    #[test]
    fn half_of_a_message_ends_within_its_body() {
        let mut from = REQUESTS.as_bytes();
        let request = HttpMessage::read_request(&mut from).unwrap().unwrap();
        let mut half = Vec::new();
        request.write_half(&mut half).unwrap();
        assert!(half.ends_with(b"\r\n\r\nbo"));
    }
}
