//! Free ports.

use std::{net::TcpListener, ops::Range, process};

use anyhow::{Context as _, Result};

/// Port range below the ephemeral ports of the kernel, so that no outgoing connection takes the
/// port of a service that is stopped for a moment.
const RANGE: Range<u16> = 20_000..30_000;

/// Returns free ports of 127.0.0.1. The search starts at a port derived from the process id, so
/// that concurrent tests seldom collide.
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
    fn all_ports_are_different() {
        let [a, b, c] = free().unwrap();
        assert!(a != b && b != c && a != c);
    }
}
