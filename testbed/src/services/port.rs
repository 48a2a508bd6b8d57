//! Free ports.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::Mutex,
};

use anyhow::{Context as _, Result};
use uuid::Uuid;

/// First port, below the range of local ports of outgoing connections. A client that reconnects to
/// a stopped service on a port of that range can get the same port as its own: it is then connected
/// to itself, and the service cannot start again.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

static ALLOCATED: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Returns a port of 127.0.0.1 that is not in use, and that this function has not returned before.
///
/// Starts the search at a random port, so that concurrent processes seldom get the same one.
pub fn free() -> Result<u16> {
    let mut allocated = ALLOCATED.lock().expect("nothing panics while holding the lock");
    let start = u16::try_from(Uuid::new_v4().as_u128() % u128::from(COUNT))
        .expect("a remainder is below its divisor");
    let port = (0..COUNT)
        .map(|step| FIRST + (start + step) % COUNT)
        .find(|port| !allocated.contains(port) && can_listen(*port))
        .context("find a free port between 20000 and 30000")?;
    allocated.insert(port);
    Ok(port)
}

/// Checks all addresses: some services listen on more than 127.0.0.1.
fn can_listen(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_returned_twice() {
        let ports: BTreeSet<_> = (0..100).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 100);
    }
}
