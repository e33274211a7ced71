//! A TCP proxy that misbehaves on demand.
//!
//! It stands between a client and a server on the loopback and can delay and hold either direction, lose, repeat or
//! spoil single replies, swallow every byte, cut all connections, refuse or reset new ones, and send them elsewhere.
//! The switches act on open connections at once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// Bytes moved at a time; a chunk is what the delay is rolled for.
const CHUNK: usize = 16 << 10;

/// A proxy in front of one server. Dropping it closes the port and every connection.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// Opens and closes the port; the listener itself lives in `task`, where it can be dropped.
    listening: mpsc::Sender<(bool, oneshot::Sender<io::Result<()>>)>,
    task: JoinHandle<()>,
}

/// What happens to one chunk of replies: what the server sent by the time the proxy looked, one reply or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prank {
    /// So many bytes arrive, then the connection is closed.
    CutAfter(usize),
    /// It never arrives; what follows does.
    Drop,
    /// It arrives twice.
    Duplicate,
    /// Other bytes arrive in its place, as many.
    Garble,
}

/// How one direction is delayed. The same seed delays the same chunks of the same connections by the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct Delay {
    /// The share of chunks that are delayed, from 0 to 1.
    pub probability: f64,
    /// The bounds of the delay, in milliseconds, every value as likely as the others.
    pub millis: RangeInclusive<u64>,
    /// Where the random choices start.
    pub seed: u64,
}

#[derive(Debug)]
struct Shared {
    /// Where new connections go.
    upstream: Mutex<SocketAddr>,
    /// Read by every connection before each chunk; a watch, so that those who wait on it wake.
    switches: watch::Sender<Switches>,
    /// Counts the cuts; a connection ends when it changes.
    cuts: watch::Sender<u64>,
    /// How many connections are open.
    open: AtomicUsize,
    /// How many connections were accepted, those that were reset at once included.
    accepted: AtomicU64,
    /// How many chunks of requests may pass before requests are held; `u64::MAX` while there is no such bound.
    allowance: AtomicU64,
    /// What happens to the next chunk of replies; taken by the connection it happens on.
    prank: Mutex<Option<Prank>>,
    /// How many pranks were played.
    played: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct Switches {
    delay: Option<Delay>,
    delay_requests: Option<Delay>,
    hold: bool,
    hold_requests: bool,
    reset: bool,
    swallow: bool,
}

impl Proxy {
    /// Starts a proxy for `upstream` on a free port of 127.0.0.1. Needs a running tokio runtime.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            switches: watch::Sender::new(Switches::default()),
            cuts: watch::Sender::new(0),
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            allowance: AtomicU64::new(u64::MAX),
            prank: Mutex::new(None),
            played: AtomicU64::new(0),
        });
        let (listening, orders) = mpsc::channel(1);
        let task = tokio::spawn(accept(listener, addr, orders, Arc::clone(&shared)));
        Ok(Self { addr, shared, listening, task })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many connections were opened so far, those that were reset at once included.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many pranks were played so far.
    pub fn played(&self) -> u64 {
        self.shared.played.load(Ordering::SeqCst)
    }

    /// Plays a prank on the next chunk of replies, on whichever connection it comes.
    pub fn play(&self, prank: Prank) {
        *locked(&self.shared.prank) = Some(prank);
    }

    /// Sends new connections elsewhere. Open connections stay where they are.
    pub fn retarget(&self, upstream: SocketAddr) {
        *locked(&self.shared.upstream) = upstream;
    }

    /// Delays requests from now on, or no longer.
    pub fn delay_requests(&self, delay: Option<Delay>) {
        self.shared.switches.send_modify(|switches| switches.delay_requests = delay);
    }

    /// Holds every request back until told otherwise; then they go out in order. Replies still reach the client.
    pub fn hold_requests(&self, hold: bool) {
        self.shared.allowance.store(u64::MAX, Ordering::SeqCst);
        self.shared.switches.send_modify(|switches| switches.hold_requests = hold);
    }

    /// Lets so many more chunks of requests through, over all connections, and holds what follows until
    /// [`hold_requests`](Self::hold_requests) is called with `false`.
    pub fn hold_requests_after(&self, chunks: u64) {
        self.shared.allowance.store(chunks, Ordering::SeqCst);
    }

    /// Whether requests are held.
    pub fn holds_requests(&self) -> bool {
        self.shared.switches.borrow().hold_requests
    }

    /// Resets every new connection as soon as it is accepted, or serves new ones again. Open connections stay.
    pub fn reset_new(&self, reset: bool) {
        self.shared.switches.send_modify(|switches| switches.reset = reset);
    }

    /// Delays replies from now on, or no longer.
    pub fn delay_replies(&self, delay: Option<Delay>) {
        self.shared.switches.send_modify(|switches| switches.delay = delay);
    }

    /// Holds every reply back until told otherwise; then they go out in order. Requests still reach the server.
    pub fn hold_replies(&self, hold: bool) {
        self.shared.switches.send_modify(|switches| switches.hold = hold);
    }

    /// Swallows every byte of both directions and keeps the connections open, as a host that lost its power does.
    /// What was swallowed never arrives, so a connection that lived through it is of no more use.
    pub fn drop_silently(&self, swallow: bool) {
        self.shared.switches.send_modify(|switches| switches.swallow = swallow);
    }

    /// Closes every open connection; new ones are served.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Closes the port, so that new connections are refused, or opens it again. Open connections stay.
    ///
    /// # Errors
    /// When the port was taken by somebody else meanwhile.
    pub async fn refuse_new(&self, refuse: bool) -> io::Result<()> {
        let gone = || io::Error::other("the proxy is gone");
        let (done, told) = oneshot::channel();
        self.listening.send((!refuse, done)).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections are tasks in a set the aborted task owns, and end with it.
        self.task.abort();
    }
}

impl Delay {
    /// The delay of one chunk, a pure function of the seed and the place of the chunk.
    fn roll(&self, connection: u64, chunk: u64) -> Option<Duration> {
        let dice = mix(mix(self.seed ^ mix(connection)) ^ chunk);
        // The upper 53 bits are a number in 0..1 exactly.
        let share = (dice >> 11) as f64 / (1u64 << 53) as f64;
        let width = self.millis.end().saturating_sub(*self.millis.start()).saturating_add(1);
        let millis = self.millis.start().saturating_add(mix(dice) % width);
        (share < self.probability).then(|| Duration::from_millis(millis))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The finisher of splitmix64.
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

async fn accept(
    listener: TcpListener,
    addr: SocketAddr,
    mut orders: mpsc::Receiver<(bool, oneshot::Sender<io::Result<()>>)>,
    shared: Arc<Shared>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    let mut serial = 0;
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((open, done)) = order else { return };
                let result = match (open, &listener) {
                    (true, None) => TcpListener::bind(addr).await.map(|bound| listener = Some(bound)),
                    (true, Some(_)) => Ok(()),
                    (false, _) => {
                        listener = None;
                        Ok(())
                    }
                };
                // Whoever asked may have stopped waiting.
                drop(done.send(result));
            }
            accepted = next(listener.as_ref()) => {
                // A client that gave up before it was accepted concerns nobody.
                let Ok(client) = accepted else { continue };
                serial += 1;
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                if shared.switches.borrow().reset {
                    // A client that is gone already needs no reset.
                    drop(client.set_zero_linger());
                    continue;
                }
                // Subscribed here, so that a cut reaches it even before its task has run.
                connections.spawn(connection(client, serial, Open::new(Arc::clone(&shared)), shared.cuts.subscribe()));
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn next(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// Counts a connection for as long as it lives.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(client: TcpStream, serial: u64, open: Open, mut cuts: watch::Receiver<u64>) {
    let shared = &open.0;
    let upstream = *locked(&shared.upstream);
    let relay = async {
        let server = TcpStream::connect(upstream).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::try_join!(
            requests(from_client, to_server, shared, serial),
            replies(from_server, to_client, shared, serial)
        )
    };
    tokio::select! {
        _ = cuts.changed() => {}
        // However it ended, both sides are closed.
        _ = relay => {}
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, connection: u64) -> io::Result<()> {
    let mut switches = shared.switches.subscribe();
    let mut buffer = vec![0; CHUNK];
    for chunk in 0.. {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        let delay = switches.borrow().delay_requests.as_ref().and_then(|delay| delay.roll(connection, chunk));
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        if shared.is_used_up() {
            shared.switches.send_modify(|switches| switches.hold_requests = true);
        }
        let swallow = match switches.wait_for(|switches| !switches.hold_requests).await {
            Ok(switches) => switches.swallow,
            // The proxy is being dropped.
            Err(_) => return Ok(()),
        };
        if !swallow {
            to.write_all(&buffer[..length]).await?;
        }
    }
    Ok(())
}

async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, connection: u64) -> io::Result<()> {
    let mut switches = shared.switches.subscribe();
    let mut buffer = vec![0; CHUNK];
    for chunk in 0.. {
        let length = from.read(&mut buffer).await?;
        let delay = switches.borrow().delay.as_ref().and_then(|delay| delay.roll(connection, chunk));
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        let swallow = match switches.wait_for(|switches| !switches.hold).await {
            Ok(switches) => switches.swallow,
            // The proxy is being dropped.
            Err(_) => return Ok(()),
        };
        if length == 0 {
            return to.shutdown().await;
        }
        if swallow {
            continue;
        }
        let prank = locked(&shared.prank).take();
        if prank.is_some() {
            shared.played.fetch_add(1, Ordering::SeqCst);
        }
        match prank {
            None => to.write_all(&buffer[..length]).await?,
            Some(Prank::Drop) => {}
            Some(Prank::Duplicate) => {
                to.write_all(&buffer[..length]).await?;
                to.write_all(&buffer[..length]).await?;
            }
            Some(Prank::Garble) => {
                for (at, byte) in buffer[..length].iter_mut().enumerate() {
                    *byte ^= mix(connection ^ (at as u64)) as u8 | 1;
                }
                to.write_all(&buffer[..length]).await?;
            }
            Some(Prank::CutAfter(bytes)) => {
                to.write_all(&buffer[..length.min(bytes)]).await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
    }
    Ok(())
}

impl Shared {
    /// Whether the chunk at hand is the first that may not pass any more.
    fn is_used_up(&self) -> bool {
        let take = |left: u64| (left != u64::MAX).then(|| left.saturating_sub(1));
        self.allowance.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) == Ok(0)
    }
}

#[cfg(test)]
mod tests;
