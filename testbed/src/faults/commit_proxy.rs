//! Stands between workers and PostgreSQL, and breaks the connection at a lake commit.

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

/// What becomes of a COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// PostgreSQL commits; its answer is dropped, and the connection with it.
    ResponseLost,
    /// The connection is dropped before PostgreSQL hears of it; everything is rolled back.
    CommitLost,
    /// It is on its way until [`CommitProxy::release`].
    CommitHeld,
}

/// A started proxy. It goes on until the process ends.
#[derive(Debug)]
pub struct CommitProxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    fault: Mutex<CommitFault>,
    /// Commits that are still to be broken.
    armed: AtomicUsize,
    injected: AtomicUsize,
    released: AtomicBool,
    /// Bytes that still pass before all connections are cut, if they are to be.
    bytes_left: Mutex<Option<u64>>,
}

/// What only the message of one of our commits contains, on its way to the catalog.
const MESSAGE: &[u8] = br#""ducktide":1"#;

const COMMIT: &[u8] = b"COMMIT";

impl CommitProxy {
    /// Starts a proxy before the server at this URL, which lets everything through.
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
                    // A server that is down refuses; so does its proxy, by closing.
                    let _ = connect(&state, client);
                }
            }
        });
        Ok(Self { port, state })
    }

    /// The URL by way of the proxy.
    pub fn url(&self, url: &str) -> Result<String> {
        let port = port_of(url)?;
        Ok(url.replace(&format!(":{port}/"), &format!(":{}/", self.port)))
    }

    /// Breaks the next lake commits, one after the other.
    pub fn arm(&self, commits: usize) {
        self.state.released.store(false, Ordering::SeqCst);
        self.state.armed.store(commits, Ordering::SeqCst);
    }

    /// Breaks the next lake commits in another way than the one it was started with.
    pub fn arm_with(&self, fault: CommitFault, commits: usize) {
        *lock(&self.state.fault) = fault;
        self.arm(commits);
    }

    /// Nothing is broken any more.
    pub fn disarm(&self) {
        self.state.armed.store(0, Ordering::SeqCst);
        *lock(&self.state.bytes_left) = None;
        self.release();
    }

    /// Cuts every connection after so many more bytes, in either direction, wherever that is.
    pub fn cut_after(&self, bytes: u64) {
        *lock(&self.state.bytes_left) = Some(bytes);
    }

    /// Whether connections were cut since that was asked for.
    #[must_use]
    pub fn has_cut(&self) -> bool {
        lock(&self.state.bytes_left).is_none()
    }

    /// Lets commits go on that are held.
    pub fn release(&self) {
        self.state.released.store(true, Ordering::SeqCst);
    }

    /// How many commits were broken.
    #[must_use]
    pub fn injected(&self) -> usize {
        self.state.injected.load(Ordering::SeqCst)
    }
}

impl State {
    /// Whether this commit is one to break.
    fn take(&self) -> bool {
        let one_less = |armed: usize| armed.checked_sub(1);
        let taken = self.armed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        if taken {
            self.injected.fetch_add(1, Ordering::SeqCst);
        }
        taken
    }

    /// How many of these bytes may pass.
    fn admit(&self, count: usize) -> usize {
        let mut bytes_left = lock(&self.bytes_left);
        let Some(left) = bytes_left.as_mut() else { return count };
        let admitted = count.min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= admitted as u64;
        if admitted < count {
            // Everything that is open was cut, or is by its next byte; new connections live.
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
    let answers = pipe(server.try_clone()?, client.try_clone()?);
    let requests = pipe(client, server);
    thread::spawn({
        let drop_responses = Arc::clone(&drop_responses);
        move || answers.run(|_| !drop_responses.load(Ordering::SeqCst))
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
    /// Hands bytes on until one side closes, or `pass` says no; then both sides are closed.
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

/// What a connection's requests say so far.
#[derive(Default)]
struct Requests {
    /// The end of the bytes before: words may be cut in two.
    tail: Vec<u8>,
    /// Whether the open transaction contains a message of ours.
    has_message: bool,
}

impl Requests {
    /// Whether these bytes hold the COMMIT of a transaction with a message of ours.
    fn is_lake_commit(&mut self, bytes: &[u8]) -> bool {
        self.tail.extend(bytes);
        self.has_message |= contains(&self.tail, MESSAGE);
        let commits = contains(&self.tail, COMMIT);
        let keep = self.tail.len().min(MESSAGE.len() - 1);
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
    fn only_the_commit_after_a_message_of_ours_is_a_lake_commit() {
        let mut requests = Requests::default();
        assert!(!requests.is_lake_commit(b"SELECT 1"));
        assert!(!requests.is_lake_commit(b"COMMIT"));
        assert!(!requests.is_lake_commit(br#"INSERT ... '{"duck"#));
        assert!(!requests.is_lake_commit(br#"tide":1,"kind"..."#));
        assert!(requests.is_lake_commit(b"COMMIT"));
        assert!(!requests.is_lake_commit(b"COMMIT"));
    }

    #[test]
    fn a_url_leads_through_the_proxy() {
        let url = "postgres://postgres@127.0.0.1:5432/lake";
        let proxy = CommitProxy::start(url, CommitFault::ResponseLost).unwrap();
        assert_eq!(
            proxy.url(url).unwrap(),
            format!("postgres://postgres@127.0.0.1:{}/lake", proxy.port)
        );
    }
}
