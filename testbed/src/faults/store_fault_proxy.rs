//! Proxy of an object store that injects faults and counts requests.

mod request_kind;

use std::{
    io::{self, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

pub use self::request_kind::{RequestCounts, RequestKind};
use crate::http_message::{HttpMessage, StoreConnection};

/// Fault that the proxy injects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreFault {
    /// No fault.
    None,
    /// One of `every` requests is answered with 503 `SlowDown`; with 1, all are.
    Throttled {
        /// Number of requests with one fault, on average.
        every: u64,
    },
    /// Every request is answered with 500 `InternalError`.
    Failing,
    /// One of `every` PUTs and POSTs is carried out, and its connection is closed without an answer.
    AnswersLost {
        /// Number of PUTs and POSTs with one fault, on average.
        every: u64,
    },
    /// The connection of one of `every` requests is closed in the middle of the body of the request, or of
    /// the answer if the request has none.
    Torn {
        /// Number of requests with one fault, on average.
        every: u64,
    },
    /// Every answer is delayed by this time.
    Delayed(Duration),
    /// Every connection is closed at once.
    Unreachable,
}

/// Started proxy. It runs until the process ends.
#[derive(Debug)]
pub struct StoreFaultProxy {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    fault: StoreFault,
    /// Number of requests that the fault applies to, since it was set.
    turn: u64,
    received: RequestCounts,
    disturbed: RequestCounts,
}

impl StoreFaultProxy {
    /// Starts a proxy of the store at this port; at first it forwards everything.
    pub fn start(store: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let port = listener.local_addr().context("listen")?.port();
        let state = Arc::new(Mutex::new(State {
            fault: StoreFault::None,
            turn: 0,
            received: RequestCounts::default(),
            disturbed: RequestCounts::default(),
        }));
        thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for client in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    // Errors are ignored: the client may have closed the connection.
                    thread::spawn(move || drop(serve(client, store, &state)));
                }
            }
        });
        Ok(Self { port, state })
    }

    /// Returns the port of the proxy.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Sets the fault of further requests, also of open connections.
    pub fn set_fault(&self, fault: StoreFault) {
        let mut state = lock(&self.state);
        (state.fault, state.turn) = (fault, 0);
    }

    /// Returns the numbers of requests since the start.
    #[must_use]
    pub fn received(&self) -> RequestCounts {
        lock(&self.state).received.clone()
    }

    /// Returns the numbers of requests that got a fault since the start. Delays are not counted.
    #[must_use]
    pub fn disturbed(&self) -> RequestCounts {
        lock(&self.state).disturbed.clone()
    }
}

impl State {
    /// Counts a request, and returns its fault.
    fn take(&mut self, kind: RequestKind) -> StoreFault {
        self.received.add(kind);
        let every = match self.fault {
            StoreFault::None | StoreFault::Delayed(_) => return self.fault,
            StoreFault::AnswersLost { .. } if !kind.writes() => return StoreFault::None,
            StoreFault::Throttled { every }
            | StoreFault::AnswersLost { every }
            | StoreFault::Torn { every } => every,
            StoreFault::Failing | StoreFault::Unreachable => 1,
        };
        self.turn += 1;
        if !is_hit(self.turn, every) {
            return StoreFault::None;
        }
        self.disturbed.add(kind);
        self.fault
    }
}

/// Returns whether a request gets a fault that one of `every` gets. At irregular intervals: a client that
/// repeats the same sequence of requests must not meet it at the same request forever.
fn is_hit(turn: u64, every: u64) -> bool {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (turn ^ (turn << 17)).wrapping_mul(GOLDEN_RATIO);
    ((mixed ^ (mixed >> 29)).wrapping_mul(GOLDEN_RATIO) >> 32).is_multiple_of(every)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forwards the requests of a connection one by one, until one side or a fault closes it.
fn serve(mut client: TcpStream, store: u16, state: &Mutex<State>) -> io::Result<()> {
    if lock(state).fault == StoreFault::Unreachable {
        return Ok(());
    }
    client.set_nodelay(true)?;
    let mut requests = BufReader::new(client.try_clone()?);
    let mut store = StoreConnection::open(store)?;
    while let Some(request) = HttpMessage::read_request(&mut requests)? {
        let kind = RequestKind::of(request.method(), request.target());
        match lock(state).take(kind) {
            StoreFault::None => store.exchange(&request)?.write(&mut client)?,
            StoreFault::Delayed(time) => {
                let answer = store.exchange(&request)?;
                thread::sleep(time);
                answer.write(&mut client)?;
            }
            StoreFault::Throttled { .. } => {
                client.write_all(refusal("503 Slow Down", "SlowDown", kind).as_bytes())?;
            }
            StoreFault::Failing => {
                let refusal = refusal("500 Internal Server Error", "InternalError", kind);
                client.write_all(refusal.as_bytes())?;
            }
            StoreFault::AnswersLost { .. } => return store.exchange(&request).map(drop),
            StoreFault::Torn { .. } if request.has_body() => {
                return request.write_half(store.stream());
            }
            StoreFault::Torn { .. } => return store.exchange(&request)?.write_half(&mut client),
            StoreFault::Unreachable => return Ok(()),
        }
    }
    Ok(())
}

/// Returns the answer of a store with this status and error code.
fn refusal(status: &str, code: &str, kind: RequestKind) -> String {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>Please retry.</Message></Error>"
    );
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    if kind == RequestKind::Head { head } else { head + &body }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(fault: StoreFault) -> State {
        let counts = RequestCounts::default;
        State { fault, turn: 0, received: counts(), disturbed: counts() }
    }

    #[test]
    fn about_one_of_three_requests_is_throttled_at_irregular_intervals() {
        let mut state = state(StoreFault::Throttled { every: 3 });
        let hits: Vec<_> =
            (0..300_usize).filter(|_| state.take(RequestKind::Get) != StoreFault::None).collect();
        assert!((80..120).contains(&hits.len()), "{hits:?}");
        assert!(hits.windows(2).any(|pair| pair[1] - pair[0] > 5), "{hits:?}");
        assert_eq!(state.received.of(RequestKind::Get), 300);
        assert_eq!(state.disturbed.of(RequestKind::Get), hits.len() as u64);
    }

    #[test]
    fn only_answers_to_writes_are_lost() {
        let mut state = state(StoreFault::AnswersLost { every: 1 });
        assert_eq!(state.take(RequestKind::List), StoreFault::None);
        assert_ne!(state.take(RequestKind::Part), StoreFault::None);
    }

    #[test]
    fn a_refusal_of_head_has_no_body() {
        assert!(refusal("503 Slow Down", "SlowDown", RequestKind::Head).ends_with("\r\n\r\n"));
        assert!(refusal("503 Slow Down", "SlowDown", RequestKind::Put).contains("<Code>SlowDown<"));
    }
}
