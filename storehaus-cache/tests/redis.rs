//! The Redis tier against real servers, each started by the test that stops, pauses or limits it.

#![cfg(feature = "redis")]

#[path = "redis/guard.rs"]
mod guard;
#[path = "redis/intents.rs"]
mod intents;
#[path = "redis/processes.rs"]
mod processes;
#[path = "redis/server.rs"]
mod server;
#[path = "redis/wire.rs"]
mod wire;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use storehaus_cache::l2::{Bytes, L2, L2Error, LeaseReply, Reply};
use storehaus_cache::redis::{RedisSettings, RedisTier};
use storehaus_cache::remote::{Bypass, Invalidated, Remote, RemoteSettings};
use tokio::time::{Instant, timeout};

use self::server::{Server, TTL, calls, claims, code, cost, fill, keys, patient, run, sent, tier, token};

#[tokio::test]
async fn a_value_is_filled_under_its_lease_only() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let empty = tier.get("k").await.unwrap();
    assert!(empty.bytes.is_none() && empty.incarnation != 0);
    let (first, second) = (token(), token());
    assert_eq!(tier.lease("k", first, TTL).await.unwrap(), LeaseReply::Granted(empty.incarnation));
    let taken = Reply { bytes: Some(first.to_lease().to_vec().into()), incarnation: empty.incarnation };
    assert_eq!(tier.lease("k", second, TTL).await.unwrap(), LeaseReply::Taken(taken));
    let value: Vec<u8> = (0..=255).chain(*b"\r\n$-1\r\n\0").collect();
    assert_eq!(tier.fill(&[fill("k", second, b"no"), fill("other", second, b"no")]).await.unwrap(), [false, false]);
    assert_eq!(tier.fill(&[fill("other", first, b"no"), fill("k", first, &value)]).await.unwrap(), [false, true]);
    assert_eq!(tier.fill(&[fill("k", first, b"no")]).await.unwrap(), [false], "a lease is used up");
    assert_eq!(tier.get("k").await.unwrap().bytes.unwrap(), value);
    let left = tier.ttl("k").await.unwrap().unwrap();
    assert!(left <= TTL && left > TTL - Duration::from_secs(10));
    assert_eq!(tier.ttl("other").await.unwrap(), None);
}

#[tokio::test]
async fn reads_of_one_key_that_come_together_are_one_command() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let (lease, mut admin) = (token(), server.admin().await);
    tier.lease("k", lease, TTL).await.unwrap();
    tier.fill(&[fill("k", lease, b"value")]).await.unwrap();
    let reads = (0..100).map(|n| tier.get_by(if n % 10 == 0 { "none" } else { "k" }, patient()));
    let counts = cost(&mut admin, async {
        for (n, read) in join_all(reads).await.into_iter().enumerate() {
            let value = (n % 10 != 0).then(|| Bytes::from("value"));
            assert_eq!(read.unwrap().unwrap().bytes, value);
        }
    })
    .await;
    assert_eq!(counts, sent(&[("get", 2)]));
}

#[tokio::test]
async fn fills_under_several_leases_go_each_by_its_own() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let [a, b, c, d] = [token(), token(), token(), token()];
    for (key, lease) in [("a", a), ("b", b), ("c", c), ("d", d)] {
        assert!(matches!(tier.lease(key, lease, TTL).await.unwrap(), LeaseReply::Granted(_)));
    }
    run(&mut server.admin().await, "DEL c").await;
    let brief = Duration::from_secs(20);
    let mut fills =
        [fill("a", a, b"A"), fill("b", d, b"no"), fill("c", c, b"no"), fill("d", d, b"D"), fill("d", a, b"no")];
    fills[0].ttl = brief;
    assert_eq!(tier.fill(&fills).await.unwrap(), [true, false, false, true, false]);
    let stands = tier.get_many(&keys(&["a", "b", "c", "d"])).await.unwrap().bytes;
    assert_eq!(stands, [Some("A".into()), Some(b.to_lease().to_vec().into()), None, Some("D".into())]);
    assert!(tier.ttl("a").await.unwrap().unwrap() <= brief);
    assert!(tier.ttl("d").await.unwrap().unwrap() > brief);
}

#[tokio::test]
async fn a_fill_after_a_removal_is_refused() {
    let server = Server::start(&[]);
    let tier = server.tier();
    for removal in ["DEL k", "FLUSHALL", "PEXPIRE k 0"] {
        let lease = token();
        assert!(matches!(tier.lease("k", lease, TTL).await.unwrap(), LeaseReply::Granted(_)));
        run(&mut server.admin().await, removal).await;
        assert_eq!(tier.fill(&[fill("k", lease, b"old")]).await.unwrap(), [false]);
        assert_eq!(tier.get("k").await.unwrap().bytes, None);
    }
    let lease = token();
    tier.lease("k", lease, TTL).await.unwrap();
    assert_eq!(tier.clear(&claims(&["k", "none"], None)).await.unwrap().removed, 1);
    assert_eq!(tier.fill(&[fill("k", lease, b"old")]).await.unwrap(), [false]);
}

#[tokio::test]
async fn one_of_many_gets_the_lease() {
    let server = Server::start(&[]);
    let tier = tier(&server.url(), 4);
    let leases = join_all((0..64).map(|_| tier.lease("k", token(), TTL))).await;
    assert_eq!(leases.iter().filter(|lease| matches!(lease, Ok(LeaseReply::Granted(_)))).count(), 1);
    assert_eq!(leases.iter().filter(|lease| matches!(lease, Ok(LeaseReply::Taken(_)))).count(), 63);
}

#[tokio::test]
async fn a_lease_is_released_by_its_holder_and_ends_by_itself() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let (mine, other) = (token(), token());
    tier.lease("k", mine, TTL).await.unwrap();
    tier.release(&[("k".to_owned(), other)]).await.unwrap();
    assert!(tier.get("k").await.unwrap().bytes.is_some());
    tier.release(&[("k".to_owned(), mine), ("none".to_owned(), mine)]).await.unwrap();
    assert_eq!(tier.get("k").await.unwrap().bytes, None);
    tier.lease("k", mine, Duration::ZERO).await.unwrap();
    assert!(tier.ttl("k").await.unwrap().is_none_or(|left| left <= Duration::from_millis(1)));
    tier.lease("forever", mine, Duration::MAX).await.unwrap();
    assert!(tier.ttl("forever").await.unwrap().is_some());
}

#[tokio::test]
async fn a_lease_replaces_what_was_seen() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let mut admin = server.admin().await;
    run(&mut admin, "SET k header-1-payload").await;
    let lease = token();
    let LeaseReply::Taken(found) = tier.replace("k", b"header-2", lease, TTL).await.unwrap() else {
        panic!("replaced another value")
    };
    assert_eq!(found.bytes.unwrap(), b"header-1-payload"[..]);
    assert!(matches!(tier.replace("k", b"header-1", lease, TTL).await.unwrap(), LeaseReply::Granted(id) if id != 0));
    assert_eq!(tier.get("k").await.unwrap().bytes.unwrap(), lease.to_lease()[..]);
    assert_eq!(tier.fill(&[fill("k", lease, b"header-3")]).await.unwrap(), [true]);
    assert!(matches!(tier.replace("nothing", b"header", lease, TTL).await.unwrap(), LeaseReply::Granted(_)));
    assert!(tier.ttl("nothing").await.unwrap().unwrap() <= TTL);
    let (one, other) = (token(), token());
    let asked = [("k".to_owned(), b"header-3".to_vec(), one), ("k".to_owned(), b"header-3".to_vec(), other)];
    let replies = tier.replace_many(&asked, TTL).await.unwrap();
    assert!(matches!(&replies[0], LeaseReply::Granted(_)));
    assert!(matches!(&replies[1], LeaseReply::Taken(found) if found.bytes.as_deref() == Some(&one.to_lease()[..])));
    // A lease is no prefix of a value: a removal during a refresh wins.
    tier.clear(&claims(&["k"], None)).await.unwrap();
    assert_eq!(tier.fill(&[fill("k", one, b"header-4")]).await.unwrap(), [false]);
}

#[tokio::test]
async fn many_keys_in_one_round_trip() {
    let server = Server::start(&[]);
    let tier = server.tier();
    run(&mut server.admin().await, "SET a A").await;
    run(&mut server.admin().await, "RPUSH list x").await;
    let many = tier.get_many(&keys(&["a", "b", "list", "a"])).await.unwrap();
    assert_eq!(many.bytes, [Some(Bytes::from("A")), None, None, Some(Bytes::from("A"))]);
    assert!(many.incarnation != 0);
    let leases: Vec<_> = ["a", "b", "list"].map(|key| (key.to_owned(), token())).into();
    let replies = tier.lease_many(&leases, TTL).await.unwrap();
    assert!(matches!(&replies[0], LeaseReply::Taken(reply) if reply.bytes.as_deref() == Some(b"A")));
    // A list is no text of ours.
    assert!(replies[1..].iter().all(|reply| matches!(reply, LeaseReply::Granted(_))));
    let placed = tier.get_many(&keys(&["b", "list"])).await.unwrap().bytes;
    assert_eq!(placed, leases[1..].iter().map(|(_, token)| Some(token.to_lease().to_vec().into())).collect::<Vec<_>>());
    assert!(tier.get_many::<&str>(&[]).await.unwrap().bytes.is_empty());
    assert!(tier.lease_many(&[], TTL).await.unwrap().is_empty());
}

#[tokio::test]
async fn another_type_concerns_its_key_alone() {
    let server = Server::start(&[]);
    let tier = server.tier();
    run(&mut server.admin().await, "RPUSH k x").await;
    assert_eq!(tier.get("k").await, Err(L2Error::WrongType));
    assert_eq!(tier.lease("k", token(), TTL).await, Err(L2Error::WrongType));
    assert_eq!(tier.fill(&[fill("k", token(), b"v")]).await, Ok(vec![false]));
    assert_eq!(tier.release(&[("k".to_owned(), token())]).await, Ok(()));
    assert_eq!(tier.get("other").await.unwrap().bytes, None);
    // Nothing of ours stands there: a lease may take its place.
    let lease = token();
    assert!(matches!(tier.replace("k", b"\0", lease, TTL).await, Ok(LeaseReply::Granted(_))));
    assert_eq!(tier.get("k").await.unwrap().bytes, Some(lease.to_lease().to_vec().into()));
    assert_eq!(tier.clear(&claims(&["k"], None)).await.unwrap().removed, 1);
    assert_eq!(tier.open_connections(), 1);
}

#[tokio::test]
async fn a_server_that_hangs_up_is_not_dialled_for_every_command() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tier = tier(&format!("redis://{}/", listener.local_addr().unwrap()), 4);
    let dialled = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&dialled);
    let server = tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let start = Instant::now();
    for _ in 0..200 {
        assert!(matches!(tier.clear(&claims(&["k"], None)).await, Err(L2Error::Connection(_))));
    }
    // One dial each 100 ms, each followed by a look at why it failed.
    let most = 2 * (start.elapsed().as_millis() / 100 + 1);
    assert!(u128::from(dialled.load(Ordering::SeqCst)) <= most, "{dialled:?} in {:?}", start.elapsed());
    server.abort();
}

#[tokio::test]
async fn a_server_without_room_is_told_from_one_that_is_away() {
    let server = Server::start(&[]);
    let mut admin = server.admin().await;
    run(&mut admin, "CONFIG SET maxclients 1").await;
    let tier = server.tier();
    let refused = tier.get("k").await.unwrap_err();
    assert_eq!(code(&refused), "MAXCLIENTS", "{refused}");
    run(&mut admin, "CONFIG SET maxclients 100").await;
    tier.probe().await.unwrap();
    assert_eq!(tier.get("k").await.unwrap().bytes, None);
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let mut admin = server.admin().await;
    let (one, two) = (token(), token());
    tier.lease_many(&[("a".to_owned(), one), ("b".to_owned(), two)], TTL).await.unwrap();
    run(&mut admin, "SCRIPT FLUSH").await;
    let fills = [fill("a", one, b"A"), fill("b", one, b"no"), fill("b", two, b"B")];
    assert_eq!(tier.fill(&fills).await.unwrap(), [true, false, true]);
    run(&mut admin, "SCRIPT FLUSH").await;
    assert!(matches!(tier.replace("a", b"A", one, TTL).await.unwrap(), LeaseReply::Granted(_)));
    run(&mut admin, "SCRIPT FLUSH").await;
    tier.release(&[("a".to_owned(), one)]).await.unwrap();
    assert_eq!(tier.get("a").await.unwrap().bytes, None);
    let again = cost(&mut admin, tier.release(&[("a".to_owned(), one)])).await;
    assert_eq!(again, sent(&[("evalsha", 1), ("get", 1)]), "the text is sent once");
}

#[tokio::test]
async fn each_operation_costs_the_commands_it_names() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let admin = &mut server.admin().await;
    tier.get("warm").await.unwrap();
    let (one, two) = (token(), token());
    assert_eq!(cost(admin, tier.get("k")).await, sent(&[("get", 1)]));
    assert_eq!(cost(admin, tier.get_many(&keys(&["k", "l", "m"]))).await, sent(&[("mget", 1)]));
    assert_eq!(cost(admin, tier.lease("k", one, TTL)).await, sent(&[("set", 1)]));
    let both = [("k".to_owned(), one), ("l".to_owned(), two)];
    assert_eq!(cost(admin, tier.lease_many(&both, TTL)).await, sent(&[("set", 2)]), "one stands already");
    let filled = cost(admin, tier.fill(&[fill("k", one, b"v")])).await;
    assert_eq!(filled, sent(&[("evalsha", 1), ("get", 1), ("set", 1)]));
    tier.lease("m", two, TTL).await.unwrap();
    let filled = cost(admin, tier.fill(&[fill("l", two, b"v"), fill("m", two, b"v")])).await;
    assert_eq!(filled, sent(&[("evalsha", 1), ("mget", 1), ("set", 2)]));
    let released = cost(admin, tier.release(&[("l".to_owned(), two), ("m".to_owned(), one)])).await;
    assert_eq!(released, sent(&[("evalsha", 1), ("mget", 1)]), "a value is no lease");
    assert_eq!(cost(admin, tier.ttl("k")).await, sent(&[("pttl", 1)]));
    let named = keys(&["k", "l"]);
    let in_script = |commands: &[(&str, u64)]| {
        let mut all = sent(&[&[("evalsha", 1), ("mget", 1), ("time", 1)], commands].concat());
        all.sort();
        all
    };
    assert_eq!(cost(admin, tier.announce(&named, one, TTL)).await, in_script(&[("set", 2)]));
    assert_eq!(cost(admin, tier.renew(&named, one, TTL)).await, in_script(&[("set", 2)]));
    assert_eq!(cost(admin, tier.clear(&claims(&["k", "l"], Some(one)))).await, in_script(&[("del", 1)]));
    assert_eq!(cost(admin, tier.withdraw(&named, one)).await, in_script(&[]));
    assert_eq!(cost(admin, tier.fill(&[])).await, sent(&[]));
}

#[tokio::test]
async fn keys_are_removed_by_pattern_in_steps() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let mut admin = server.admin().await;
    let mut pipeline = redis::pipe();
    for n in 0..2500 {
        pipeline.cmd("SET").arg(format!("app:s:{n}")).arg("v").ignore();
    }
    pipeline.cmd("SET").arg("app2:s:1").arg("v").ignore().cmd("SET").arg("ap[p]:s:1").arg("v").ignore();
    pipeline.exec_async(&mut admin).await.unwrap();
    assert_eq!(tier.delete_matching("app:s:*").await.unwrap(), 2500);
    assert_eq!(tier.delete_matching(r"ap\[p\]:*").await.unwrap(), 1);
    let stats = calls(&mut admin).await;
    assert!(!stats.iter().any(|(name, _)| name == "keys" || name.starts_with("flush")), "{stats:?}");
    assert_eq!(tier.get("app2:s:1").await.unwrap().bytes.unwrap(), b"v"[..]);
}

#[tokio::test]
async fn the_number_of_connections_is_bounded() {
    let server = Server::start(&[]);
    let tier = tier(&server.url(), 3);
    let mut admin = server.admin().await;
    for _ in 0..3 {
        let answers = join_all((0..200).map(|_| tier.get("k"))).await;
        assert!(answers.iter().all(Result::is_ok));
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut admin).await.unwrap();
        let ours = clients.lines().filter(|line| !line.contains("cmd=client")).count();
        assert!((1..=3).contains(&ours), "{ours} connections");
    }
    assert_eq!(tier.open_connections(), 3);
    // Each one that is dropped is replaced, not added.
    for _ in 0..3 {
        tier.reset();
        assert_eq!(tier.open_connections(), 0);
        assert!(join_all((0..200).map(|_| tier.get("k"))).await.iter().all(Result::is_ok));
        assert!(tier.open_connections() <= 3);
    }
}

#[tokio::test]
async fn a_read_on_a_dropped_connection_is_repeated_on_a_new_one() {
    let server = Server::start(&[]);
    let tier = server.tier();
    tier.get("k").await.unwrap();
    for _ in 0..20 {
        run(&mut server.admin().await, "CLIENT KILL TYPE normal SKIPME yes").await;
        tier.get("k").await.unwrap();
        run(&mut server.admin().await, "CLIENT KILL TYPE normal SKIPME yes").await;
        tier.get_many(&keys(&["k"])).await.unwrap();
    }
    assert_eq!(tier.open_connections(), 1);
}

#[test]
fn a_connection_of_a_runtime_that_ended_is_replaced() {
    let server = Server::start(&[]);
    let tier = tier(&server.url(), 2);
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for _ in 0..4 {
            assert_eq!(runtime.block_on(async { timeout(TTL, tier.get("k")).await }).unwrap().unwrap().bytes, None);
        }
    }
    assert!(tier.open_connections() <= 2);
}

#[tokio::test]
async fn an_absent_server_is_an_error_at_once_that_names_the_address() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tier = tier(&format!("redis://user:canary@127.0.0.1:{port}/"), 2);
    let start = Instant::now();
    for answer in join_all((0..200).map(|_| tier.get("k"))).await {
        let text = answer.unwrap_err().to_string();
        assert!(text.contains(&format!("127.0.0.1:{port}: connection refused")), "{text}");
        assert!(!text.contains("canary"));
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let server = Server::start(&["--requirepass", "right"]);
    let at = format!("127.0.0.1:{}", server.port);
    let wrong = tier(&format!("redis://:canary-wrong@{at}/"), 1).get("k").await.unwrap_err();
    assert_eq!(code(&wrong), "WRONGPASS");
    assert!(!format!("{wrong} {wrong:?}").contains("canary"));
    assert_eq!(code(&tier(&format!("redis://{at}/"), 1).get("k").await.unwrap_err()), "NOAUTH");

    let url = format!("redis://:right@{at}/");
    let tier = tier(&url, 1);
    let lease = token();
    tier.lease("k", lease, TTL).await.unwrap();
    let mut admin = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();

    run(&mut admin, "CONFIG SET maxmemory 1").await;
    assert_eq!(code(&tier.lease("l", token(), TTL).await.unwrap_err()), "OOM");
    assert_eq!(code(&tier.fill(&[fill("k", lease, b"v")]).await.unwrap_err()), "OOM");
    assert_eq!(code(&tier.replace("l", b"", token(), TTL).await.unwrap_err()), "OOM");
    assert_eq!(tier.clear(&claims(&["k"], None)).await.unwrap().removed, 1);
    run(&mut admin, "CONFIG SET maxmemory 0").await;

    run(&mut admin, "CONFIG SET min-replicas-to-write 1").await;
    assert_eq!(code(&tier.lease("k", lease, TTL).await.unwrap_err()), "NOREPLICAS");
    assert_eq!(code(&tier.clear(&claims(&["k"], None)).await.unwrap_err()), "NOREPLICAS");
    run(&mut admin, "CONFIG SET min-replicas-to-write 0").await;

    run(&mut admin, "REPLICAOF 127.0.0.1 1").await;
    assert_eq!(code(&tier.clear(&claims(&["k"], None)).await.unwrap_err()), "READONLY");
    run(&mut admin, "CONFIG SET replica-serve-stale-data no").await;
    assert_eq!(code(&tier.get("k").await.unwrap_err()), "MASTERDOWN");
    assert_eq!(code(&tier.probe().await.unwrap_err()), "MASTERDOWN");
    run(&mut admin, "REPLICAOF NO ONE").await;
    assert_eq!(tier.probe().await, Ok(()));
    assert_eq!(tier.open_connections(), 1, "a refusal leaves the connection alone");
}

#[tokio::test]
async fn a_user_with_few_rights_is_served() {
    let server = Server::start(&[]);
    let mut admin = server.admin().await;
    run(&mut admin, "ACL SETUSER app on >pw ~app:* +get +set +del +time +evalsha +eval").await;
    let tier = tier(&format!("redis://app:pw@127.0.0.1:{}/", server.port), 1);
    let lease = token();
    assert_eq!(tier.lease("app:k", lease, TTL).await.unwrap(), LeaseReply::Granted(0), "INFO is not allowed");
    assert_eq!(tier.fill(&[fill("app:k", lease, b"v")]).await.unwrap(), [true], "SCRIPT LOAD is not allowed");
    assert_eq!(tier.get("app:k").await.unwrap().bytes.unwrap(), b"v"[..]);
    let error = tier.get("other:canary").await.unwrap_err();
    assert_eq!(code(&error), "NOPERM");
    let error = tier.get_many(&keys(&["app:canary"])).await.unwrap_err();
    assert!(code(&error) == "NOPERM" && !error.to_string().contains("canary"), "{error}");
}

#[tokio::test]
async fn a_server_that_does_not_know_a_command_is_not_quoted() {
    let server = Server::start(&["--rename-command", "PTTL", ""]);
    let error = server.tier().ttl("canary").await.unwrap_err();
    assert_eq!(error.to_string(), "the cache server refused the command: ERR: unknown command 'PTTL'");
}

#[test]
fn bad_settings_are_refused_without_the_password() {
    for url in
        ["", "redis", "http://u:canary@host", "redis://u:canary@host:notaport", "redis://u:canary@h/notadb", "canary@["]
    {
        let error = RedisTier::new(RedisSettings::new(url)).unwrap_err();
        assert!(error.starts_with("the redis url is not valid: "), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    let settings = RedisSettings::new("redis://u:canary@127.0.0.1/");
    assert!(!format!("{settings:?} {:?}", RedisTier::new(settings.clone())).contains("canary"));
}

#[tokio::test]
async fn a_restarted_server_is_another_one_and_soon_in_use() {
    let mut server = Server::start(&[]);
    let remote = server.remote();
    let before = remote.get("app:k", patient()).await.unwrap().incarnation;
    server.kill();
    for _ in 0..100 {
        let start = Instant::now();
        assert!(remote.get("app:k", remote.deadline()).await.is_err());
        assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    }
    assert!(!remote.is_up());
    server.restart(&[]);
    timeout(Duration::from_secs(1), remote.wait_until_up()).await.expect("in use within a second");
    let after = remote.get("app:k", patient()).await.unwrap().incarnation;
    assert!(before != 0 && after != 0 && before != after);
}

#[tokio::test]
async fn a_promoted_replica_is_another_server() {
    let primary = Server::start(&[]);
    let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    let before = primary.tier().get("k").await.unwrap().incarnation;
    run(&mut replica.admin().await, "REPLICAOF NO ONE").await;
    let after = replica.tier().get("k").await.unwrap().incarnation;
    assert!(after != 0 && before != after);
}

#[tokio::test]
async fn a_hung_server_costs_each_reader_one_budget() {
    let server = Server::start(&[]);
    let remote = server.remote();
    remote.get("app:k", patient()).await.unwrap();
    server.signal("-STOP");
    let start = Instant::now();
    let answers = join_all((0..50).map(|_| remote.get("app:k", remote.deadline()))).await;
    assert!(answers.iter().all(Result::is_err));
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    let start = Instant::now();
    for _ in 0..10_000 {
        assert_eq!(remote.get("app:k", remote.deadline()).await, Err(Bypass::Down));
    }
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    server.signal("-CONT");
    timeout(Duration::from_secs(1), remote.wait_until_up()).await.expect("in use within a second");
    remote.get("app:k", patient()).await.unwrap();
}

#[tokio::test]
async fn what_could_not_be_removed_is_removed_before_it_is_read() {
    // Writes stop while reads are answered: the server still has the old value, and would serve it.
    let server = Server::start(&[]);
    let remote = server.remote();
    let mut admin = server.admin().await;
    run(&mut admin, "SET app:k old").await;
    assert!(remote.get("app:k", patient()).await.unwrap().bytes.is_some());
    run(&mut admin, "CONFIG SET min-replicas-to-write 1").await;
    assert_eq!(remote.invalidate(claims(&["app:k"], None)).await, Invalidated::Journaled);
    assert_eq!(remote.get("app:k", remote.deadline()).await, Err(Bypass::Down));
    assert!(timeout(Duration::from_millis(300), remote.wait_until_up()).await.is_err(), "the probe alone is no proof");
    assert_eq!(remote.stats().pending_invalidations, 1);
    run(&mut admin, "CONFIG SET min-replicas-to-write 0").await;
    timeout(Duration::from_secs(1), remote.wait_until_up()).await.expect("in use within a second");
    let read = remote.get("app:k", patient()).await.unwrap();
    assert_eq!((read.bytes, remote.stats().journal_replayed), (None, 1));
}

#[tokio::test]
async fn a_value_that_comes_back_with_a_restart_is_removed_before_it_is_read() {
    let mut server = Server::start(&[]);
    let remote = server.remote();
    let mut admin = server.admin().await;
    run(&mut admin, "SET app:k old").await;
    run(&mut admin, "SAVE").await;
    assert!(remote.get("app:k", patient()).await.unwrap().bytes.is_some());
    server.kill();
    assert_eq!(remote.invalidate(claims(&["app:k"], None)).await, Invalidated::Journaled);
    server.restart(&["--dbfilename", "dump.rdb"]);
    assert_eq!(run(&mut server.admin().await, "EXISTS app:k").await, redis::Value::Int(1), "the file brought it back");
    timeout(Duration::from_secs(1), remote.wait_until_up()).await.expect("in use within a second");
    assert_eq!(remote.get("app:k", patient()).await.unwrap().bytes, None);
}

#[tokio::test]
async fn a_wrong_password_opens_the_breaker_and_is_named() {
    let server = Server::start(&["--requirepass", "right"]);
    let url = format!("redis://:canary@127.0.0.1:{}/", server.port);
    let remote = Remote::new(tier(&url, 2), RemoteSettings::new("app:*"));
    let start = Instant::now();
    assert_eq!(remote.get("app:k", patient()).await, Err(Bypass::Failed));
    assert!(start.elapsed() < Duration::from_secs(1));
    let state = remote.state();
    assert!(!state.up);
    let error = state.last_error.unwrap();
    assert!(error.contains("WRONGPASS") && !error.contains("canary"), "{error}");
    assert_eq!(remote.stats().refused, 1);
}

#[tokio::test]
async fn a_connection_of_a_new_incarnation_ends_those_of_the_old_one() {
    let server = Server::start(&["--enable-debug-command", "local"]);
    let tier = tier(&server.url(), 2);
    let before = tier.get("k").await.unwrap().incarnation;
    while tier.open_connections() < 2 {
        assert_eq!(tier.get("k").await.unwrap().incarnation, before);
    }
    let mut admin = server.admin().await;
    run(&mut admin, "DEBUG CHANGE-REPL-ID").await;
    // One of the two is cut; the other lives on and knows nothing.
    let clients: String = redis::from_redis_value(run(&mut admin, "CLIENT LIST TYPE normal").await).unwrap();
    let own: i64 = redis::from_redis_value(run(&mut admin, "CLIENT ID").await).unwrap();
    let ids = clients.lines().filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse::<i64>().ok());
    let victim = ids.filter(|id| *id != own).min().unwrap();
    run(&mut admin, &format!("CLIENT KILL ID {victim}")).await;
    timeout(Duration::from_secs(10), async {
        while tier.get("k").await.map_or(before, |reply| reply.incarnation) == before {}
    })
    .await
    .expect("the connection was not opened again");
    for _ in 0..8 {
        assert_ne!(tier.get("k").await.unwrap().incarnation, before);
    }
}
