//! Proxy between workers and PostgreSQL that injects faults at lake commits.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

/// Fault of a COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// PostgreSQL commits; the response is dropped and the connection closed.
    ResponseLost,
    /// The connection is closed before PostgreSQL receives it; the transaction is rolled back.
    CommitLost,
    /// It is delayed until [`CommitProxy::release`].
    CommitHeld,
}

/// Started proxy. It runs until the process ends.
#[derive(Debug)]
pub struct CommitProxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    fault: Mutex<CommitFault>,
    /// Number of commits that still get a fault.
    armed: AtomicUsize,
    injected: AtomicUsize,
    released: AtomicBool,
    /// Bytes to forward before all connections are closed; None for no limit.
    bytes_left: Mutex<Option<u64>>,
}

/// Text that only the message of a lake commit contains.
const MESSAGE: &[u8] = br#""ducktide":1"#;

const COMMIT: &[u8] = b"COMMIT";

/// End of the message of the function that commits in one statement.
const COMMIT_FUNCTION: &[u8] = br#""ducktide_commit_files":1"#;

impl CommitProxy {
    /// Starts a proxy of the server at this URL; at first it forwards everything.
    pub fn start(url: &str, fault: CommitFault) -> Result<Self> {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port_of(url)?));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let port = listener.local_addr().context("listen")?.port();
        let (armed, injected) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (released, bytes_left) = (AtomicBool::new(false), Mutex::new(None));
        let fault = Mutex::new(fault);
        let state = State { server, fault, armed, injected, released, bytes_left };
        let state = Arc::new(state);
        thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for client in listener.incoming().flatten() {
                    // If the server is down, the proxy closes the connection.
                    let _ = connect(&state, client);
                }
            }
        });
        Ok(Self { port, state })
    }

    /// Returns the URL with the port of the proxy.
    pub fn url(&self, url: &str) -> Result<String> {
        let port = port_of(url)?;
        Ok(url.replace(&format!(":{port}/"), &format!(":{}/", self.port)))
    }

    /// Injects the fault into the next `commits` lake commits.
    pub fn arm(&self, commits: usize) {
        self.state.released.store(false, Ordering::SeqCst);
        self.state.armed.store(commits, Ordering::SeqCst);
    }

    /// Injects another fault into the next `commits` lake commits.
    pub fn arm_with(&self, fault: CommitFault, commits: usize) {
        *lock(&self.state.fault) = fault;
        self.arm(commits);
    }

    /// Forwards everything again.
    pub fn disarm(&self) {
        self.state.armed.store(0, Ordering::SeqCst);
        *lock(&self.state.bytes_left) = None;
        self.release();
    }

    /// Closes all connections after `bytes` more bytes in both directions together.
    pub fn cut_after(&self, bytes: u64) {
        *lock(&self.state.bytes_left) = Some(bytes);
    }

    /// Returns true if the connections were closed since [`cut_after`](Self::cut_after).
    #[must_use]
    pub fn has_cut(&self) -> bool {
        lock(&self.state.bytes_left).is_none()
    }

    /// Forwards delayed commits.
    pub fn release(&self) {
        self.state.released.store(true, Ordering::SeqCst);
    }

    /// Returns the number of commits that got a fault.
    #[must_use]
    pub fn injected(&self) -> usize {
        self.state.injected.load(Ordering::SeqCst)
    }
}

impl State {
    /// Returns true if this commit gets a fault, and counts it.
    fn take(&self) -> bool {
        let one_less = |armed: usize| armed.checked_sub(1);
        let taken = self.armed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        if taken {
            self.injected.fetch_add(1, Ordering::SeqCst);
        }
        taken
    }

    /// Returns how many of these bytes are forwarded.
    fn admit(&self, count: usize) -> usize {
        let mut bytes_left = lock(&self.bytes_left);
        let Some(left) = bytes_left.as_mut() else { return count };
        let admitted = count.min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= admitted as u64;
        if admitted < count {
            // Every open connection was closed, or is at its next byte; new connections are not.
            *bytes_left = None;
        }
        admitted
    }

    fn await_release(&self) {
        while !self.released.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn port_of(url: &str) -> Result<u16> {
    let host = url.rsplit_once('/').map_or(url, |(host, _)| host);
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.with_context(|| format!("find the port in `{url}`"))
}

fn connect(state: &Arc<State>, client: TcpStream) -> std::io::Result<()> {
    let server = TcpStream::connect(state.server)?;
    let drop_responses = Arc::new(AtomicBool::new(false));
    let pipe = |from, to| Pipe { from, to, state: Arc::clone(state) };
    let responses = pipe(server.try_clone()?, client.try_clone()?);
    let requests = pipe(client, server);
    thread::spawn({
        let drop_responses = Arc::clone(&drop_responses);
        move || responses.run(|_| !drop_responses.load(Ordering::SeqCst))
    });
    let state = Arc::clone(state);
    let mut seen = Requests::default();
    thread::spawn(move || {
        requests.run(|bytes| {
            if !(seen.is_lake_commit(bytes) && state.take()) {
                return true;
            }
            let fault = *lock(&state.fault);
            if fault == CommitFault::CommitHeld {
                state.await_release();
                return true;
            }
            drop_responses.store(true, Ordering::SeqCst);
            fault == CommitFault::ResponseLost
        });
    });
    Ok(())
}

/// One direction of a connection.
struct Pipe {
    from: TcpStream,
    to: TcpStream,
    state: Arc<State>,
}

impl Pipe {
    /// Forwards bytes until one side closes or `pass` returns false; then closes both sides.
    fn run(mut self, mut pass: impl FnMut(&[u8]) -> bool) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = self.from.read(&mut buffer) {
            let bytes = &buffer[..count];
            if !pass(bytes) {
                break;
            }
            let admitted = self.state.admit(count);
            if self.to.write_all(&bytes[..admitted]).is_err() || admitted < count {
                break;
            }
        }
        for side in [&self.from, &self.to] {
            // The other direction may have closed it already.
            let _ = side.shutdown(Shutdown::Both);
        }
    }
}

/// State of the requests of a connection.
#[derive(Default)]
struct Requests {
    /// Last bytes of the previous read: a word can be split between two reads.
    tail: Vec<u8>,
    /// True if the open transaction contains a message of a lake commit.
    has_message: bool,
}

impl Requests {
    /// Returns true if these bytes contain the COMMIT of a lake commit.
    fn is_lake_commit(&mut self, bytes: &[u8]) -> bool {
        self.tail.extend(bytes);
        self.has_message |= contains(&self.tail, MESSAGE);
        if contains(&self.tail, COMMIT_FUNCTION) {
            self.tail.clear();
            return true;
        }
        let commits = contains(&self.tail, COMMIT);
        let keep = self.tail.len().min(COMMIT_FUNCTION.len() - 1);
        self.tail.drain(..self.tail.len() - keep);
        if !commits {
            return false;
        }
        self.tail.clear();
        std::mem::take(&mut self.has_message)
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_commit_after_a_message_is_a_lake_commit() {
        let mut requests = Requests::default();
        assert!(!requests.is_lake_commit(b"SELECT 1"));
        assert!(!requests.is_lake_commit(b"COMMIT"));
        assert!(!requests.is_lake_commit(br#"INSERT ... '{"duck"#));
        assert!(!requests.is_lake_commit(br#"tide":1,"kind"..."#));
        assert!(requests.is_lake_commit(b"COMMIT"));
        assert!(!requests.is_lake_commit(b"COMMIT"));
        assert!(!requests.is_lake_commit(br#"{"ducktide_com"#));
        assert!(requests.is_lake_commit(br#"mit_files":1}"#));
    }

    #[test]
    fn a_url_gets_the_port_of_the_proxy() {
        let url = "postgres://postgres@127.0.0.1:5432/lake";
        let proxy = CommitProxy::start(url, CommitFault::ResponseLost).unwrap();
        assert_eq!(
            proxy.url(url).unwrap(),
            format!("postgres://postgres@127.0.0.1:{}/lake", proxy.port)
        );
    }
}
