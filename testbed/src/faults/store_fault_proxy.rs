//! Proxy of an object store that injects faults and counts requests.

mod request_kind;

use std::{
    io::{self, BufReader, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

pub use self::request_kind::{RequestCounts, RequestKind};
use super::credential_server;
use crate::{
    connections,
    http_message::{HttpMessage, StoreConnection},
    s3_signature,
};

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
    /// Lists lack the objects that were written after the fault was set.
    ListsBehind,
    /// A request whose session token is missing or has expired is answered with 403 `ExpiredToken`. Others
    /// are signed again: tokens are those of a [`CredentialServer`](super::CredentialServer), which the store
    /// does not know.
    TokensExpire,
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
    /// Time at which the fault was set.
    since: Timestamp,
    /// Number of requests that the fault applies to, since it was set.
    turn: u64,
    received: RequestCounts,
    disturbed: RequestCounts,
}

impl StoreFaultProxy {
    /// Starts a proxy of the store at this port; at first it forwards everything.
    pub fn start(store: u16) -> Result<Self> {
        let state = Arc::new(Mutex::new(State {
            fault: StoreFault::None,
            since: Timestamp::now(),
            turn: 0,
            received: RequestCounts::default(),
            disturbed: RequestCounts::default(),
        }));
        let shared = Arc::clone(&state);
        let port = connections::serve(move |client| serve(client, store, &shared))?;
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
        (state.fault, state.since, state.turn) = (fault, Timestamp::now(), 0);
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
    fn take(&mut self, kind: RequestKind, token: Option<&str>) -> StoreFault {
        self.received.add(kind);
        let every = match self.fault {
            StoreFault::ListsBehind if kind != RequestKind::List => return StoreFault::None,
            StoreFault::TokensExpire if token.is_some_and(credential_server::is_valid) => {
                return StoreFault::None;
            }
            StoreFault::None | StoreFault::Delayed(_) => return self.fault,
            StoreFault::AnswersLost { .. } if !kind.writes() => return StoreFault::None,
            StoreFault::Throttled { every }
            | StoreFault::AnswersLost { every }
            | StoreFault::Torn { every } => every,
            StoreFault::ListsBehind
            | StoreFault::TokensExpire
            | StoreFault::Failing
            | StoreFault::Unreachable => 1,
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
        let token = s3_signature::session_token(&request);
        let (fault, since) = {
            let mut state = lock(state);
            (state.take(kind, token), state.since)
        };
        let request = if token.is_some() {
            let keep = |_: &str, line: &str| Some(line.to_owned());
            s3_signature::signed_again(&request, Timestamp::now(), keep)?
        } else {
            request
        };
        match fault {
            StoreFault::None => store.exchange(&request)?.write(&mut client)?,
            StoreFault::Delayed(time) => {
                let answer = store.exchange(&request)?;
                thread::sleep(time);
                answer.write(&mut client)?;
            }
            StoreFault::Throttled { .. } => {
                client.write_all(refusal("503 Slow Down", "SlowDown", kind).as_bytes())?;
            }
            StoreFault::ListsBehind => {
                let answer = store.exchange(&request)?;
                answer.with_body(list_before(&answer.text(), since)).write(&mut client)?;
            }
            StoreFault::TokensExpire => {
                client.write_all(refusal("403 Forbidden", "ExpiredToken", kind).as_bytes())?;
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

/// Returns an answer to a list without the objects that were written since a time.
fn list_before(answer: &str, since: Timestamp) -> String {
    const END: &str = "</Contents>";
    let is_older = |object: &&str| {
        let after = object.split_once("<LastModified>").map_or("", |(_, after)| after);
        let time = after.split_once('<').map_or("", |(time, _)| time);
        time.parse::<Timestamp>().is_ok_and(|time| time < since)
    };
    let Some((head, objects)) = answer.split_once("<Contents>") else { return answer.to_owned() };
    let (objects, tail) = objects.rsplit_once(END).unwrap_or((objects, ""));
    let objects = objects.split("<Contents>").filter(is_older);
    let kept: Vec<_> =
        objects.map(|object| format!("<Contents>{}{END}", object.trim_end_matches(END))).collect();
    format!("{head}{}{tail}", kept.concat())
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
    use std::net::Ipv4Addr;

    use super::*;

    fn state(fault: StoreFault) -> State {
        let counts = RequestCounts::default;
        let since = Timestamp::UNIX_EPOCH;
        State { fault, since, turn: 0, received: counts(), disturbed: counts() }
    }

    #[test]
    fn about_one_of_three_requests_is_throttled_at_irregular_intervals() {
        let mut state = state(StoreFault::Throttled { every: 3 });
        let hits: Vec<_> = (0..300_usize)
            .filter(|_| state.take(RequestKind::Get, None) != StoreFault::None)
            .collect();
        assert!((80..120).contains(&hits.len()), "{hits:?}");
        assert!(hits.windows(2).any(|pair| pair[1] - pair[0] > 5), "{hits:?}");
        assert_eq!(state.received.of(RequestKind::Get), 300);
        assert_eq!(state.disturbed.of(RequestKind::Get), hits.len() as u64);
    }

    #[test]
    fn only_answers_to_writes_are_lost() {
        let mut state = state(StoreFault::AnswersLost { every: 1 });
        assert_eq!(state.take(RequestKind::List, None), StoreFault::None);
        assert_ne!(state.take(RequestKind::Part, None), StoreFault::None);
    }

    /// Starts a store that answers each request with a body of this size.
    fn store_with_answers_of(bytes: usize) -> u16 {
        let answer = move |mut client: TcpStream| {
            let mut requests = BufReader::new(client.try_clone()?);
            while HttpMessage::read_request(&mut requests)?.is_some() {
                write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n")?;
                client.write_all(&vec![b'x'; bytes])?;
            }
            Ok(())
        };
        connections::serve(answer).unwrap()
    }

    /// DuckDB sends a request while it has not read the answer to another one.
    #[test]
    fn a_client_that_does_not_read_delays_no_other() {
        let size = 64 << 20;
        let proxy = StoreFaultProxy::start(store_with_answers_of(size)).unwrap();
        let connect = || {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
            client.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
            client.write_all(b"GET /bucket/f HTTP/1.1\r\n\r\n").unwrap();
            client
        };
        let waiting = connect();
        let mut begun = [0];
        waiting.peek(&mut begun).unwrap();

        let answer = HttpMessage::read_answer(&mut BufReader::new(connect()), "GET").unwrap();
        assert_eq!(answer.text().len(), size);
        assert_eq!(proxy.received().total(), 2);
    }

    #[test]
    fn a_list_that_is_behind_lacks_new_objects() {
        let object =
            |time| format!("<Contents><Key>f</Key><LastModified>{time}</LastModified></Contents>");
        let (old, new) = (object("2026-01-01T00:00:00Z"), object("2026-01-03T00:00:00.5Z"));
        let answer = format!("<List>{new}{old}{new}<KeyCount>3</KeyCount></List>");
        let since = "2026-01-02T00:00:00Z".parse().unwrap();
        assert_eq!(
            list_before(&answer, since),
            format!("<List>{old}<KeyCount>3</KeyCount></List>")
        );
        let empty = "<List><KeyCount>0</KeyCount></List>";
        assert_eq!(list_before(empty, since), empty);
    }

    #[test]
    fn only_requests_without_a_valid_token_are_refused() {
        let mut state = state(StoreFault::TokensExpire);
        let valid = credential_server::token(Timestamp::MAX);
        assert_eq!(state.take(RequestKind::Put, Some(&valid)), StoreFault::None);
        let expired = credential_server::token(Timestamp::UNIX_EPOCH);
        for token in [None, Some(expired.as_str()), Some("other")] {
            assert_eq!(state.take(RequestKind::Put, token), StoreFault::TokensExpire);
        }
    }

    #[test]
    fn a_refusal_of_head_has_no_body() {
        assert!(refusal("503 Slow Down", "SlowDown", RequestKind::Head).ends_with("\r\n\r\n"));
        assert!(refusal("503 Slow Down", "SlowDown", RequestKind::Put).contains("<Code>SlowDown<"));
    }
}
