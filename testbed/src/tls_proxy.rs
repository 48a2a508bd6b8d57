//! TLS end point in front of an HTTP service, with client certificates and authentication.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result};
use openssl::{
    pkey::PKey,
    ssl::{SslAcceptor, SslMethod, SslStream, SslVerifyMode},
    x509::X509,
};

use crate::certificates::IssuedCertificate;

/// Clients that the proxy accepts.
#[derive(Debug, Clone, Default)]
pub struct AcceptedClients {
    /// Value of the header `Authorization`; None for any client.
    pub authorization: Option<String>,
    /// True to require a certificate of the authority.
    pub with_certificate: bool,
}

/// Started proxy. It runs until the process ends.
#[derive(Debug)]
pub struct TlsProxy {
    port: u16,
    accepted: Arc<Mutex<Option<String>>>,
}

impl TlsProxy {
    /// Starts a proxy of a service on this machine, with a certificate and the file of an authority
    /// that signs client certificates.
    pub fn start(
        service: u16,
        certificate: &IssuedCertificate,
        ca_file: &Path,
        clients: AcceptedClients,
    ) -> Result<Self> {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
        acceptor.set_private_key(&*PKey::private_key_from_pem(&certificate.key)?)?;
        acceptor.set_certificate(&*X509::from_pem(&certificate.certificate)?)?;
        acceptor.set_ca_file(ca_file)?;
        if clients.with_certificate {
            acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        let acceptor = acceptor.build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let port = listener.local_addr().context("listen")?.port();
        let accepted = Arc::new(Mutex::new(clients.authorization));
        let shared = Arc::clone(&accepted);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                // Errors are expected: tests try clients that are not accepted.
                thread::spawn(move || {
                    let authorization =
                        shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let authorization = authorization.as_deref();
                    acceptor.accept(client).map(|client| serve(client, service, authorization)).ok()
                });
            }
        });
        Ok(Self { port, accepted })
    }

    /// Returns the port of the proxy.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Sets the value of the header `Authorization` that further requests need.
    pub fn set_authorization(&self, value: &str) {
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(value.to_owned());
    }
}

const DENIED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Forwards one request, and closes the connection after the response.
fn serve(
    client: SslStream<TcpStream>,
    service: u16,
    authorization: Option<&str>,
) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let (mut head, mut length, mut is_allowed) = (String::new(), 0, authorization.is_none());
    loop {
        let mut line = String::new();
        if client.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match &*name.to_ascii_lowercase() {
            "authorization" => is_allowed |= authorization == Some(value.trim()),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
        if !name.eq_ignore_ascii_case("connection") {
            head.push_str(&line);
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    let mut client = client.into_inner();
    if is_allowed {
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, service))?;
        server.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
        server.write_all(&body)?;
        io::copy(&mut server, &mut client)?;
    } else {
        client.write_all(DENIED.as_bytes())?;
    }
    let _ = client.shutdown();
    Ok(())
}
