//! Free ports.

use std::{net::TcpListener, ops::Range, process};

use anyhow::{Context as _, Result};

/// Below the range from which the kernel takes the ports of outgoing connections: a service that is
/// stopped for a moment must get its own back.
const RANGE: Range<u16> = 20_000..30_000;

/// So many ports of 127.0.0.1 that nobody listens on. The search starts where this process's id says,
/// so that tests which run at the same time seldom meet.
pub(super) fn free<const N: usize>() -> Result<[u16; N]> {
    let length = usize::from(RANGE.end - RANGE.start);
    let start = usize::try_from(process::id()).context("read a process id")? * 64 % length;
    let free: Vec<_> = RANGE
        .cycle()
        .skip(start)
        .take(length)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .take(N)
        .collect();
    free.try_into().ok().context("find free ports between 20000 and 30000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let [a, b, c] = free().unwrap();
        assert!(a != b && b != c && a != c);
    }
}
