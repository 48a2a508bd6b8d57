//! Free ports.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::Mutex,
};

use anyhow::{Context as _, Result};
use uuid::Uuid;

/// Below the range from which the kernel takes the local ports of outgoing connections. A client
/// that reconnects to a stopped service on such a port may be given that very port as its own, is
/// then connected to itself, and keeps the service from starting again.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of 127.0.0.1 that nobody listens on, and that this process was not given before.
///
/// Starts at a random place, so that processes which call_engine at the same time seldom meet.
pub fn free() -> Result<u16> {
    let mut given = GIVEN.lock().expect("nothing panics while holding the lock");
    let start = u16::try_from(Uuid::new_v4().as_u128() % u128::from(COUNT))
        .expect("a remainder is below its divisor");
    let port = (0..COUNT)
        .map(|step| FIRST + (start + step) % COUNT)
        .find(|port| !given.contains(port) && can_listen(*port))
        .context("find a free port between 20000 and 30000")?;
    given.insert(port);
    Ok(port)
}

/// On all addresses: some services also listen on more than 127.0.0.1.
fn can_listen(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: BTreeSet<_> = (0..100).map(|_| free().unwrap()).collect();
        assert_eq!(ports.len(), 100);
    }
}
