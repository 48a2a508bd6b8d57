//! Reason for which the certificate of a broker is not accepted. librdkafka reports that the
//! verification failed, but not why.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use native_tls::{Certificate, HandshakeError, TlsConnector};

/// Time limit of each step of the connection.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Connects to a broker as librdkafka names it, such as `sasl_ssl://host:9093`, and returns the
/// reason of the failed verification; None if there is none, or it is not known.
pub(crate) fn reason(broker: &str, ca_file: Option<&str>) -> Option<String> {
    let address = broker.split_once("://").map_or(broker, |(_, address)| address);
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = (host, port.parse::<u16>().ok()?).to_socket_addrs().ok()?.next()?;
    let mut connector = TlsConnector::builder();
    if let Some(path) = ca_file {
        connector.disable_built_in_roots(true);
        for certificate in certificates(&fs::read_to_string(path).ok()?) {
            connector.add_root_certificate(certificate);
        }
    }
    let stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(TIMEOUT)).ok()?;
    match connector.build().ok()?.connect(host, stream) {
        Err(HandshakeError::Failure(error)) => in_parentheses(&error.to_string()),
        _ => None,
    }
}

fn certificates(pem: &str) -> impl Iterator<Item = Certificate> {
    const END: &str = "-----END CERTIFICATE-----";
    let parts = pem.split_inclusive(END);
    parts.filter_map(|part| Certificate::from_pem(part.trim_start().as_bytes()).ok())
}

/// Returns the result of the verification from an error text, which ends with it.
fn in_parentheses(error: &str) -> Option<String> {
    let (_, reason) = error.strip_suffix(')')?.rsplit_once('(')?;
    Some(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_at_the_end_of_the_error() {
        let error = "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate \
                     verify failed:../ssl/statem/statem_clnt.c:1889: (certificate has expired)";
        assert_eq!(in_parentheses(error).as_deref(), Some("certificate has expired"));
        assert_eq!(in_parentheses("connection reset"), None);
    }

    #[test]
    fn a_broker_that_is_not_reached_has_no_reason() {
        assert_eq!(reason("ssl://127.0.0.1:1", None), None);
        assert_eq!(reason("127.0.0.1", None), None);
    }
}
