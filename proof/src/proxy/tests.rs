//! The misbehaviour itself, against a server that echoes.

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

#[tokio::test]
async fn held_requests_reach_the_server_when_released() {
    let (upstream, mut told) = echo().await;
    let proxy = Proxy::start(upstream).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.hold_requests_after(1);
    assert_eq!(exchange(&mut client, b"one").await.unwrap(), b"one");
    told.recv().await.unwrap();
    assert!(!proxy.holds_requests());
    client.write_all(b"two").await.unwrap();
    assert!(is_quiet(&mut client).await && proxy.holds_requests());
    assert!(told.try_recv().is_err());
    proxy.hold_requests(false);
    assert_eq!(receive(&mut client, 3).await.unwrap(), b"two");
    assert_eq!(exchange(&mut client, b"three").await.unwrap(), b"three");
}

#[tokio::test]
async fn delayed_requests_arrive_late() {
    let (upstream, _told) = echo().await;
    let proxy = Proxy::start(upstream).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.delay_requests(Some(Delay { probability: 1.0, millis: 40..=40, seed: 1 }));
    let started = Instant::now();
    assert_eq!(exchange(&mut client, b"late").await.unwrap(), b"late");
    assert!(started.elapsed() >= Duration::from_millis(40), "{:?}", started.elapsed());
}

#[tokio::test]
async fn each_prank_is_played_once() {
    let (upstream, _told) = echo().await;
    let proxy = Proxy::start(upstream).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.play(Prank::Drop);
    client.write_all(b"lost").await.unwrap();
    assert!(is_quiet(&mut client).await);
    proxy.play(Prank::Duplicate);
    client.write_all(b"two").await.unwrap();
    assert_eq!(receive(&mut client, 6).await.unwrap(), b"twotwo");
    proxy.play(Prank::Garble);
    let spoiled = exchange(&mut client, b"four").await.unwrap();
    assert!(spoiled.iter().zip(b"four").all(|(one, other)| one != other), "{spoiled:?}");
    assert_eq!(exchange(&mut client, b"five").await.unwrap(), b"five");
    proxy.play(Prank::CutAfter(2));
    client.write_all(b"seven").await.unwrap();
    assert_eq!(receive(&mut client, 2).await.unwrap(), b"se");
    assert!(closes(&mut client).await);
    assert_eq!(proxy.played(), 4);
}

#[tokio::test]
async fn new_connections_are_reset_or_sent_elsewhere() {
    let (upstream, mut told) = echo().await;
    let (other, mut other_told) = echo().await;
    let proxy = Proxy::start(upstream).await.unwrap();
    proxy.reset_new(true);
    let mut reset = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(closes(&mut reset).await);
    proxy.reset_new(false);
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut old, b"x").await.unwrap();
    proxy.retarget(other);
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut new, b"y").await.unwrap();
    exchange(&mut old, b"z").await.unwrap();
    assert_eq!((told.recv().await, told.recv().await, other_told.recv().await), (Some(1), Some(1), Some(1)));
    assert_eq!(proxy.accepted(), 3);
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
    let rolls = |probability| (0..1000).filter_map(move |at| Delay { probability, millis: 0..=0, seed: 3 }.roll(0, at));
    assert_eq!((rolls(0.0).count(), rolls(1.0).count()), (0, 1000));
}
