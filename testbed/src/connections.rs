//! Connections to servers of the tests.

use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result};

/// Starts a server with a thread for each connection, and returns its port. It runs until the process ends.
pub(crate) fn serve(
    connection: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let port = listener.local_addr().context("listen")?.port();
    let connection = Arc::new(connection);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let connection = Arc::clone(&connection);
            // Errors are ignored: the client may have closed the connection.
            thread::spawn(move || drop(connection(client)));
        }
    });
    Ok(port)
}
