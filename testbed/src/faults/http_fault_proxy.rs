//! Proxy of an HTTP service that injects errors and delays.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::connections;

/// Fault that the proxy injects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpFault {
    /// No fault.
    None,
    /// Every response has status 500.
    InternalServerError,
    /// Every connection is delayed by this time.
    Slow(Duration),
}

/// Started proxy. It runs until the process ends.
#[derive(Debug)]
pub struct HttpFaultProxy {
    port: u16,
    fault: Arc<Mutex<HttpFault>>,
}

const ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\
                     Connection: close\r\n\r\n";

impl HttpFaultProxy {
    /// Starts a proxy of a service on this machine; at first it forwards everything.
    pub fn start(service: u16) -> Result<Self> {
        let fault = Arc::new(Mutex::new(HttpFault::None));
        let shared = Arc::clone(&fault);
        let port = connections::serve(move |client| {
            let fault = *shared.lock().unwrap_or_else(PoisonError::into_inner);
            serve(client, service, fault)
        })?;
        Ok(Self { port, fault })
    }

    /// Returns the port of the proxy.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Sets the fault of new connections.
    pub fn set_fault(&self, fault: HttpFault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }
}

fn serve(mut client: TcpStream, service: u16, fault: HttpFault) -> io::Result<()> {
    match fault {
        HttpFault::None => {}
        HttpFault::Slow(pause) => thread::sleep(pause),
        HttpFault::InternalServerError => {
            let mut request = [0; 4096];
            let _ = client.read(&mut request)?;
            return client.write_all(ERROR.as_bytes());
        }
    }
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, service))?;
    let (mut responses, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut responses, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    io::copy(&mut client, &mut server)?;
    server.shutdown(Shutdown::Write)
}
