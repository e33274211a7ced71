//! What the tier makes of servers that answer nonsense, and of connections that stand still.

use std::time::Duration;

use futures_util::FutureExt as _;
use storehaus_cache::l2::{L2, L2Error};
use storehaus_cache::redis::RedisTier;
use storehaus_cache::remote::{Bypass, Remote, RemoteSettings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::server::{Server, TTL, fill, patient, tier, token};

/// Greets a client, and answers each command after that with `reply`.
async fn play(mut client: TcpStream, reply: &'static [u8]) {
    let mut bytes = vec![0; 1 << 16];
    let mut greeted = false;
    while let Ok(1..) = client.read(&mut bytes).await {
        // The replication id, and the scripts.
        let answer = if greeted { reply } else { b"$0\r\n\r\n+\r\n+\r\n+\r\n+\r\n+\r\n+\r\n+\r\n" };
        // The greeting may come in parts.
        greeted = true;
        if client.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// A tier on a server that answers like this.
async fn tier_on(reply: &'static [u8]) -> RedisTier {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(play(client, reply));
        }
    });
    tier(&format!("redis://{address}/"), 1)
}

#[tokio::test]
async fn nonsense_is_an_error_and_ends_the_connection() {
    let garbage: [&[u8]; 7] = [
        b"?",
        b"$-7\r\n",
        b"$1\r\nabc",
        b":1\r\n",
        b"*1\r\n$1\r\na\r\n",
        b"+OK\r\n",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
    ];
    for reply in garbage {
        let tier = tier_on(reply).await;
        for _ in 0..3 {
            let answer = timeout(TTL, tier.get("k")).await.expect("hangs");
            assert!(matches!(&answer, Err(L2Error::Connection(_))), "{answer:?} to {}", reply.escape_ascii());
        }
        let remote = Remote::new(tier, RemoteSettings::new("app:*"));
        assert_eq!(remote.get("app:k", patient()).await, Err(Bypass::Failed), "to {}", reply.escape_ascii());
        assert_eq!(remote.stats().connection_errors, 1);
        assert!(!remote.is_up());
    }
}

#[tokio::test]
async fn half_a_reply_costs_one_budget() {
    for reply in [&b"$100\r\nabc"[..], b"*2\r\n+a\r\n", b"+", b"$5\r\nabcde\r"] {
        let remote = Remote::new(tier_on(reply).await, RemoteSettings::new("app:*"));
        let answer = timeout(TTL, remote.get("app:k", remote.deadline())).await.expect("hangs");
        assert_eq!(answer, Err(Bypass::Failed));
        let stats = remote.stats();
        assert_eq!((stats.timeouts, stats.breaker_opened), (1, 1), "to {}", reply.escape_ascii());
    }
}

#[test]
fn a_connection_of_a_runtime_that_stands_still_costs_one_budget() {
    let server = Server::start(&[]);
    let remote = Remote::new(tier(&server.url(), 1), RemoteSettings::new("app:*"));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    first.block_on(remote.get("app:k", patient())).unwrap();
    // The first is not driven any more, and its connection with it.
    second.block_on(async {
        let start = Instant::now();
        let answer = timeout(TTL, remote.get("app:k", remote.deadline())).await.expect("hangs");
        assert_eq!(answer, Err(Bypass::Failed));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        timeout(TTL, remote.wait_until_up()).await.expect("in use again");
        remote.get("app:k", patient()).await.unwrap();
    });
}

#[tokio::test]
async fn reads_that_are_given_up_take_no_answers_along() {
    let server = Server::start(&[]);
    let tier = tier(&server.url(), 1);
    for n in 0..20 {
        let (key, lease) = (format!("k{n}"), token());
        tier.lease(&key, lease, TTL).await.unwrap();
        assert_eq!(tier.fill(&[fill(&key, lease, key.as_bytes())]).await, Ok(vec![true]));
    }
    for round in 0..200 {
        let key = format!("k{}", round % 20);
        // Polled once, so that it is sent, and dropped.
        let given_up = format!("k{}", (round + 1) % 20);
        assert!(tier.get_by(&given_up, patient()).now_or_never().is_none());
        assert_eq!(tier.get_by(&key, patient()).await.unwrap().unwrap().bytes, Some(key.into()));
    }
    assert_eq!(tier.open_connections(), 1);
}

#[tokio::test]
async fn the_user_and_the_database_of_the_url_are_used() {
    let server = Server::start(&[]);
    let mut admin = server.admin().await;
    crate::server::run(&mut admin, "ACL SETUSER app on >p%w ~* +@all").await;
    let named = tier(&format!("redis://app:p%25w@127.0.0.1:{}/3", server.port), 1);
    let lease = token();
    named.lease("k", lease, TTL).await.unwrap();
    assert_eq!(named.fill(&[fill("k", lease, b"v")]).await, Ok(vec![true]));
    assert_eq!(server.tier().get("k").await.unwrap().bytes, None, "it is in another database");
    let third = tier(&format!("redis://127.0.0.1:{}/3", server.port), 1);
    assert_eq!(third.get("k").await.unwrap().bytes, Some("v".into()));
    let error = tier(&format!("redis://127.0.0.1:{}/99", server.port), 1).get("k").await.unwrap_err();
    assert!(error.to_string().contains("DB index is out of range"), "{error}");
    let error = tier(&format!("redis://:canary@127.0.0.1:{}/", Server::start(&[]).port), 1).get("k").await;
    assert!(!format!("{error:?}").contains("canary"));
}

#[tokio::test]
async fn sockets_of_the_machine_work_as_well() {
    let directory = std::env::temp_dir().join(format!("storehaus-socket-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let socket = directory.join("redis.sock");
    let _server = Server::start(&["--unixsocket", socket.to_str().unwrap()]);
    let remote = Remote::new(tier(&format!("unix://{}", socket.display()), 2), RemoteSettings::new("app:*"));
    let lease = token();
    let granted = remote.lease("app:k", lease, TTL, patient()).await.unwrap();
    assert!(matches!(granted, storehaus_cache::l2::LeaseReply::Granted(id) if id != 0));
    assert_eq!(remote.fill(&[fill("app:k", lease, b"v\r\n\0")], patient()).await, Ok(vec![true]));
    assert_eq!(remote.get("app:k", patient()).await.unwrap().bytes, Some("v\r\n\0".into()));
    let keys = vec!["app:k".to_owned(), "app:l".to_owned()];
    let many = remote.get_many(&keys, patient()).await.unwrap();
    assert_eq!(many.bytes, [Some("v\r\n\0".into()), None]);
    remote.invalidate(crate::server::claims(&["app:k"], None)).await;
    assert_eq!(remote.get("app:k", patient()).await.unwrap().bytes, None);
    std::fs::remove_dir_all(&directory).unwrap();
}
