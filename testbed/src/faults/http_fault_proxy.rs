//! Stands before a service that speaks HTTP, and lets it look ill.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

/// What is the matter with the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpFault {
    /// Nothing.
    None,
    /// It answers 500.
    InternalServerError,
    /// It takes this long to accept a connection.
    Slow(Duration),
}

/// A started proxy. It goes on until the process ends.
#[derive(Debug)]
pub struct HttpFaultProxy {
    port: u16,
    fault: Arc<Mutex<HttpFault>>,
}

const ERROR: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\
                     Connection: close\r\n\r\n";

impl HttpFaultProxy {
    /// Starts a proxy before a service on this machine; it lets everything through.
    pub fn start(service: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let port = listener.local_addr().context("listen")?.port();
        let fault = Arc::new(Mutex::new(HttpFault::None));
        thread::spawn({
            let fault = Arc::clone(&fault);
            move || {
                for client in listener.incoming().flatten() {
                    let fault = *fault.lock().unwrap_or_else(PoisonError::into_inner);
                    // A client that gives up is no matter of ours.
                    thread::spawn(move || drop(serve(client, service, fault)));
                }
            }
        });
        Ok(Self { port, fault })
    }

    /// The proxy's port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// New connections meet this from now on.
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
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    io::copy(&mut client, &mut server)?;
    server.shutdown(Shutdown::Write)
}
