//! A TCP proxy that misbehaves on demand.
//!
//! It stands between a client and a server on the loopback and can delay replies, hold them, swallow every byte, cut
//! all connections and refuse new ones. The switches act on open connections at once.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// How replies are delayed. The same seed delays the same chunks of the same connections by the same time.
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
    upstream: SocketAddr,
    /// Read by every connection before each chunk; a watch, so that those who wait on it wake.
    switches: watch::Sender<Switches>,
    /// Counts the cuts; a connection ends when it changes.
    cuts: watch::Sender<u64>,
    /// How many connections are open.
    open: AtomicUsize,
}

#[derive(Clone, Debug, Default)]
struct Switches {
    delay: Option<Delay>,
    hold: bool,
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
            upstream,
            switches: watch::Sender::new(Switches::default()),
            cuts: watch::Sender::new(0),
            open: AtomicUsize::new(0),
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
    let relay = async {
        let server = TcpStream::connect(shared.upstream).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::try_join!(
            requests(from_client, to_server, shared.switches.subscribe()),
            replies(from_server, to_client, shared.switches.subscribe(), serial),
        )
    };
    tokio::select! {
        _ = cuts.changed() => {}
        // However it ended, both sides are closed.
        _ = relay => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    switches: watch::Receiver<Switches>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        if !switches.borrow().swallow {
            to.write_all(&buffer[..length]).await?;
        }
    }
}

async fn replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut switches: watch::Receiver<Switches>,
    connection: u64,
) -> io::Result<()> {
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
        if !swallow {
            to.write_all(&buffer[..length]).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use tokio::time::timeout;

    /// Far more than anything here takes; only a failure waits for it.
    const SOON: Duration = Duration::from_secs(10);

    /// Long enough for bytes that must not arrive to arrive; a slow machine can only make the test pass.
    const QUIET: Duration = Duration::from_millis(50);

    /// A server that echoes, and tells whenever it has.
    async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<usize>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                        if stream.write_all(&buffer[..length]).await.is_err() || tell.send(length).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (addr, told)
    }

    async fn exchange(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        receive(stream, text.len()).await
    }

    async fn receive(stream: &mut TcpStream, length: usize) -> io::Result<Vec<u8>> {
        let mut back = vec![0; length];
        timeout(SOON, stream.read_exact(&mut back)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(back)
    }

    async fn is_quiet(stream: &mut TcpStream) -> bool {
        timeout(QUIET, stream.read(&mut [0; 16])).await.is_err()
    }

    /// Whether the other side closes, by whatever means.
    async fn closes(stream: &mut TcpStream) -> bool {
        matches!(timeout(SOON, stream.read(&mut [0; 16])).await, Ok(Ok(0) | Err(_)))
    }

    #[tokio::test]
    async fn bytes_pass() {
        let (upstream, _told) = echo().await;
        let proxy = Proxy::start(upstream).await.unwrap();
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let text = vec![7; 5 * CHUNK];
        let (mut from, mut to) = client.split();
        let sent = async { to.write_all(&text).await };
        let mut back = vec![0; text.len()];
        let (sent, read) = tokio::join!(sent, timeout(SOON, from.read_exact(&mut back)));
        sent.unwrap();
        read.unwrap().unwrap();
        assert_eq!(back, text);
        assert_eq!(proxy.connections(), 1);
    }

    #[tokio::test]
    async fn held_replies_arrive_when_released() {
        let (upstream, mut told) = echo().await;
        let proxy = Proxy::start(upstream).await.unwrap();
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        proxy.hold_replies(true);
        client.write_all(b"one").await.unwrap();
        assert_eq!(told.recv().await, Some(3));
        assert!(is_quiet(&mut client).await);
        proxy.hold_replies(false);
        assert_eq!(receive(&mut client, 3).await.unwrap(), b"one");
    }

    #[tokio::test]
    async fn delayed_replies_arrive_late_and_in_order() {
        let (upstream, _told) = echo().await;
        let proxy = Proxy::start(upstream).await.unwrap();
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let wait = Duration::from_millis(40);
        proxy.delay_replies(Some(Delay { probability: 1.0, millis: 40..=40, seed: 1 }));
        let started = Instant::now();
        assert_eq!(exchange(&mut client, b"late").await.unwrap(), b"late");
        assert!(started.elapsed() >= wait, "{:?}", started.elapsed());

        proxy.delay_replies(Some(Delay { probability: 0.5, millis: 0..=2, seed: 1 }));
        let numbers: Vec<u8> = (0..200).collect();
        for number in &numbers {
            client.write_all(&[*number]).await.unwrap();
        }
        assert_eq!(receive(&mut client, numbers.len()).await.unwrap(), numbers);
    }

    #[tokio::test]
    async fn a_cut_closes_what_is_open_even_while_it_is_held() {
        let (upstream, mut told) = echo().await;
        let proxy = Proxy::start(upstream).await.unwrap();
        let mut idle = TcpStream::connect(proxy.addr()).await.unwrap();
        exchange(&mut idle, b"x").await.unwrap();
        told.recv().await.unwrap();
        let mut held = TcpStream::connect(proxy.addr()).await.unwrap();
        proxy.hold_replies(true);
        held.write_all(b"y").await.unwrap();
        told.recv().await.unwrap();
        assert_eq!(proxy.connections(), 2);
        proxy.cut();
        assert!(closes(&mut idle).await && closes(&mut held).await);
        proxy.hold_replies(false);
        let mut fresh = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(exchange(&mut fresh, b"again").await.unwrap(), b"again");
        assert_eq!(proxy.connections(), 1);
    }

    #[tokio::test]
    async fn refusing_spares_what_is_open() {
        let (upstream, _told) = echo().await;
        let proxy = Proxy::start(upstream).await.unwrap();
        let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
        exchange(&mut old, b"x").await.unwrap();
        proxy.refuse_new(true).await.unwrap();
        let refused = TcpStream::connect(proxy.addr()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(exchange(&mut old, b"still").await.unwrap(), b"still");
        proxy.refuse_new(false).await.unwrap();
        let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(exchange(&mut new, b"new").await.unwrap(), b"new");
    }

    #[tokio::test]
    async fn swallowed_bytes_never_arrive() {
        let (upstream, mut told) = echo().await;
        let proxy = Proxy::start(upstream).await.unwrap();
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        exchange(&mut client, b"x").await.unwrap();
        told.recv().await.unwrap();
        proxy.drop_silently(true);
        client.write_all(b"lost").await.unwrap();
        assert!(is_quiet(&mut client).await);
        assert!(told.try_recv().is_err());
        proxy.drop_silently(false);
        assert_eq!(exchange(&mut client, b"found").await.unwrap(), b"found");
        assert_eq!(told.recv().await, Some(5));
    }

    #[tokio::test]
    async fn dropping_the_proxy_closes_everything() {
        let (upstream, _told) = echo().await;
        let proxy = Proxy::start(upstream).await.unwrap();
        let addr = proxy.addr();
        let mut client = TcpStream::connect(addr).await.unwrap();
        exchange(&mut client, b"x").await.unwrap();
        drop(proxy);
        assert!(closes(&mut client).await);
        assert!(TcpStream::connect(addr).await.is_err());
    }

    #[tokio::test]
    async fn a_client_is_closed_when_the_server_is_away() {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let proxy = Proxy::start(nobody).await.unwrap();
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        assert!(closes(&mut client).await);
    }

    #[test]
    fn a_seed_repeats_its_delays() {
        let delay = |seed| Delay { probability: 0.25, millis: 5..=9, seed };
        let rolls = |seed| (0..4000).map(|at| delay(seed).roll(at % 7, at)).collect::<Vec<_>>();
        assert_eq!(rolls(1), rolls(1));
        assert_ne!(rolls(1), rolls(2));
        let delays: Vec<_> = rolls(1).into_iter().flatten().map(|delay| delay.as_millis()).collect();
        assert!((800..1200).contains(&delays.len()), "{}", delays.len());
        for millis in 5..=9 {
            assert!(delays.contains(&millis), "{millis} ms never came");
        }
        assert!(delays.iter().all(|millis| (5..=9).contains(millis)));
    }

    #[test]
    fn probabilities_of_zero_and_one_are_exact() {
        let rolls =
            |probability| (0..1000).filter_map(move |at| Delay { probability, millis: 0..=0, seed: 3 }.roll(0, at));
        assert_eq!((rolls(0.0).count(), rolls(1.0).count()), (0, 1000));
    }
}
