//! What writers leave under a key, state by state.

use std::time::Duration;

use storehaus_cache::codec::header::{self, Content, Expected, Millis, Token};
use storehaus_cache::l2::{Cleared, L2, L2Error, LeaseReply};
use storehaus_cache::redis::RedisTier;
use tokio::time::timeout;

use super::server::{Server, TTL, claims, code, fill, keys, patient, run, token};

/// Whether the writers of a key met, and who they are; `None` where none is.
async fn writers(tier: &RedisTier, key: &str) -> Option<(bool, Vec<Token>)> {
    let bytes = tier.get(key).await.unwrap().bytes?;
    match header::parse(&bytes, &Expected { schema: 0, identity: 0, incarnation: 0, now: Millis(0) }) {
        Content::Intents(intents) => Some((intents.shared, intents.entries().map(|(token, _)| token).collect())),
        other => panic!("{other:?}"),
    }
}

async fn changes(tier: &RedisTier, key: &str) -> u32 {
    let bytes = tier.get(key).await.unwrap().bytes.unwrap();
    u32::from_le_bytes(bytes[5..9].try_into().unwrap())
}

const fn cleared(removed: u64, lost: u64) -> Cleared {
    Cleared { removed, lost }
}

#[tokio::test]
async fn an_intent_takes_the_place_of_whatever_stands_there() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let mut admin = server.admin().await;
    let lease = token();
    tier.lease("lease", lease, TTL).await.unwrap();
    tier.lease("value", lease, TTL).await.unwrap();
    assert_eq!(tier.fill(&[fill("value", lease, b"v")]).await.unwrap(), [true]);
    run(&mut admin, "RPUSH list x").await;
    let all = keys(&["none", "lease", "value", "list"]);
    let writer = token();
    let incarnation = tier.announce(&all, writer, TTL).await.unwrap();
    assert_eq!(incarnation, tier.get("none").await.unwrap().incarnation);
    for key in &all {
        assert_eq!(writers(&tier, key).await, Some((false, vec![writer])), "{key}");
        let left = tier.ttl(key).await.unwrap().unwrap();
        assert!(left <= TTL && left > TTL / 2, "{left:?}");
    }
    // Nobody may fill: neither who had a lease, nor who asks for one.
    assert_eq!(tier.fill(&[fill("lease", lease, b"old")]).await.unwrap(), [false]);
    assert!(matches!(tier.lease("lease", token(), TTL).await.unwrap(), LeaseReply::Taken(_)));
    assert_eq!(tier.clear(&claims(&["none", "lease", "value", "list"], Some(writer))).await.unwrap(), cleared(4, 0));
    assert_eq!(tier.get_many(&all).await.unwrap().bytes, vec![None; 4]);
}

#[tokio::test]
async fn writers_that_meet_know_it_and_the_last_one_removes_the_key() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let key = keys(&["k"]);
    let (one, two, three) = (token(), token(), token());
    tier.announce(&key, one, TTL).await.unwrap();
    tier.announce(&key, two, TTL).await.unwrap();
    assert_eq!(writers(&tier, "k").await, Some((true, vec![one, two])));
    assert_eq!(tier.clear(&claims(&["k"], Some(one))).await.unwrap(), cleared(0, 0));
    // Who comes after one of them left met the other; who stayed stays marked.
    assert_eq!(writers(&tier, "k").await, Some((true, vec![two])));
    tier.announce(&key, two, TTL).await.unwrap();
    assert_eq!(writers(&tier, "k").await, Some((true, vec![two])), "announced again");
    tier.announce(&key, three, TTL).await.unwrap();
    tier.withdraw(&key, two).await.unwrap();
    assert_eq!(writers(&tier, "k").await, Some((true, vec![three])));
    assert_eq!(tier.clear(&claims(&["k"], Some(three))).await.unwrap(), cleared(1, 0));
    tier.announce(&key, token(), TTL).await.unwrap();
    assert!(matches!(writers(&tier, "k").await, Some((false, _))), "a set begins anew");
    assert_eq!(changes(&tier, "k").await, 1);
    tier.announce(&key, token(), TTL).await.unwrap();
    assert_eq!(changes(&tier, "k").await, 2);
}

#[tokio::test]
async fn a_clearing_spares_the_intents_of_others_and_tells_them() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let key = keys(&["k"]);
    let (writer, gone) = (token(), token());
    tier.announce(&key, writer, TTL).await.unwrap();
    assert_eq!(tier.clear(&claims(&["k"], None)).await.unwrap(), cleared(0, 0));
    assert_eq!(writers(&tier, "k").await, Some((true, vec![writer])));
    assert_eq!(tier.clear(&claims(&["k"], Some(gone))).await.unwrap(), cleared(0, 1));
    assert_eq!(tier.delete_matching("*").await.unwrap(), 0);
    assert_eq!(writers(&tier, "k").await, Some((true, vec![writer])));
    assert_eq!(tier.clear(&claims(&["k"], Some(writer))).await.unwrap(), cleared(1, 0));
}

#[tokio::test]
async fn a_lost_intent_clears_whatever_came_in_its_place() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let key = keys(&["k"]);
    for removal in ["DEL k", "FLUSHALL", "PEXPIRE k 0"] {
        let (writer, lease) = (token(), token());
        tier.announce(&key, writer, TTL).await.unwrap();
        run(&mut server.admin().await, removal).await;
        tier.lease("k", lease, TTL).await.unwrap();
        assert_eq!(tier.renew(&key, writer, TTL).await.unwrap(), [false]);
        assert_eq!(tier.fill(&[fill("k", lease, b"old")]).await.unwrap(), [true]);
        tier.withdraw(&key, writer).await.unwrap();
        assert!(tier.get("k").await.unwrap().bytes.is_some(), "a withdrawal removes its intent alone");
        assert_eq!(tier.clear(&claims(&["k"], Some(writer))).await.unwrap(), cleared(1, 1));
        assert_eq!(tier.clear(&claims(&["k"], Some(writer))).await.unwrap(), cleared(0, 1));
    }
}

#[tokio::test]
async fn an_intent_ends_with_its_time_unless_it_is_renewed() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let brief = Duration::from_millis(20);
    let (dead, alive) = (token(), token());
    let gone = async |key: &'static str| {
        let wait = async { while tier.get(key).await.unwrap().bytes.is_some() {} };
        timeout(Duration::from_secs(10), wait).await.expect("the intent does not end");
    };
    tier.announce(&keys(&["alone", "both"]), dead, brief).await.unwrap();
    tier.announce(&keys(&["both"]), alive, TTL).await.unwrap();
    gone("alone").await;
    // It ends to nothing, and another writer is not kept from its own time.
    assert_eq!(tier.renew(&keys(&["alone", "both"]), dead, TTL).await.unwrap(), [false, false]);
    assert_eq!(tier.clear(&claims(&["both"], Some(dead))).await.unwrap(), cleared(0, 1));
    assert_eq!(writers(&tier, "both").await, Some((true, vec![alive])));
    assert!(tier.ttl("both").await.unwrap().unwrap() > TTL / 2);

    tier.announce(&keys(&["renewed"]), alive, Duration::from_secs(1)).await.unwrap();
    assert_eq!(tier.renew(&keys(&["none", "renewed"]), alive, TTL).await.unwrap(), [false, true]);
    assert!(tier.ttl("renewed").await.unwrap().unwrap() > TTL / 2);
    assert_eq!(writers(&tier, "renewed").await, Some((false, vec![alive])));
    tier.withdraw(&keys(&["renewed"]), alive).await.unwrap();
    assert_eq!(tier.get("renewed").await.unwrap().bytes, None);
}

#[tokio::test]
async fn a_thousand_intents_take_one_round_trip_and_few_calls() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let many: Vec<String> = (0..1000).map(|n| format!("k{n}")).collect();
    let writer = token();
    tier.announce(&many, writer, TTL).await.unwrap();
    assert_eq!(tier.renew(&many, writer, TTL).await.unwrap(), vec![true; 1000]);
    assert_eq!(
        tier.clear(&many.iter().map(|key| (key.clone(), Some(writer))).collect::<Vec<_>>()).await.unwrap(),
        cleared(1000, 0)
    );
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut server.admin().await).await.unwrap();
    assert!(stats.contains("cmdstat_evalsha:calls=24,"), "{stats}");
}

#[tokio::test]
async fn scripts_that_were_forgotten_are_sent_again() {
    let server = Server::start(&[]);
    let tier = server.tier();
    let mut admin = server.admin().await;
    let (key, writer) = (keys(&["k"]), token());
    tier.get("warm").await.unwrap();
    run(&mut admin, "SCRIPT FLUSH").await;
    tier.announce(&key, writer, TTL).await.unwrap();
    run(&mut admin, "SCRIPT FLUSH").await;
    assert_eq!(tier.renew(&key, writer, TTL).await.unwrap(), [true]);
    run(&mut admin, "SCRIPT FLUSH").await;
    assert_eq!(tier.clear(&claims(&["k"], Some(writer))).await.unwrap(), cleared(1, 0));
    run(&mut admin, "SCRIPT FLUSH").await;
    tier.withdraw(&key, writer).await.unwrap();
}

#[tokio::test]
async fn a_server_without_memory_still_clears() {
    let server = Server::start(&[]);
    let (tier, remote) = (server.tier(), server.remote());
    let mut admin = server.admin().await;
    let (one, two, three) = (token(), token(), token());
    tier.announce(&keys(&["alone", "both"]), one, TTL).await.unwrap();
    tier.announce(&keys(&["both"]), two, TTL).await.unwrap();
    run(&mut admin, "SET app:k old").await;
    run(&mut admin, "CONFIG SET maxmemory 1").await;
    assert_eq!(code(&tier.announce(&keys(&["new"]), three, TTL).await.unwrap_err()), "OOM");
    assert_eq!(code(&tier.renew(&keys(&["alone"]), one, TTL).await.unwrap_err()), "OOM");
    tier.withdraw(&keys(&["both"]), token()).await.unwrap();
    assert_eq!(code(&tier.withdraw(&keys(&["both"]), two).await.unwrap_err()), "OOM");
    assert_eq!(writers(&tier, "both").await, Some((true, vec![one, two])));
    // What would be left of the set cannot be stored.
    assert_eq!(tier.clear(&claims(&["both"], Some(one))).await.unwrap(), cleared(1, 0));
    assert_eq!(tier.clear(&claims(&["both", "alone"], Some(one))).await.unwrap(), cleared(1, 1));
    assert_eq!(tier.clear(&claims(&["both"], Some(two))).await.unwrap(), cleared(0, 1));

    // A writer clears the key instead.
    assert_eq!(remote.announce(&keys(&["app:k"]), three, TTL).await, Ok(None));
    assert!(remote.is_up());
    assert_eq!(remote.get("app:k", patient()).await.unwrap().bytes, None);
    run(&mut admin, "CONFIG SET maxmemory 0").await;
    assert!(remote.announce(&keys(&["app:k"]), three, TTL).await.unwrap().is_some());
}

#[tokio::test]
async fn refusals_keep_their_names_inside_scripts() {
    let server = Server::start(&[]);
    let (tier, mut admin) = (server.tier(), server.admin().await);
    let (key, writer) = (keys(&["k"]), token());
    let refused = async |expected: &str| {
        // A key under which nothing stands is no proof that the server takes writes.
        for answer in [
            tier.announce(&key, writer, TTL).await.map(drop),
            tier.clear(&claims(&["k"], Some(writer))).await.map(drop),
            tier.clear(&claims(&["none"], None)).await.map(drop),
        ] {
            assert_eq!(code(&answer.unwrap_err()), expected);
        }
    };
    run(&mut admin, "CONFIG SET min-replicas-to-write 1").await;
    refused("NOREPLICAS").await;
    run(&mut admin, "CONFIG SET min-replicas-to-write 0").await;
    run(&mut admin, "REPLICAOF 127.0.0.1 1").await;
    refused("READONLY").await;
    run(&mut admin, "REPLICAOF NO ONE").await;

    run(&mut admin, "ACL SETUSER app on >pw ~* +@all -del").await;
    let limited = super::server::tier(&format!("redis://app:pw@127.0.0.1:{}/", server.port), 1);
    limited.announce(&key, writer, TTL).await.unwrap();
    let error = limited.clear(&claims(&["k"], Some(writer))).await.unwrap_err();
    assert!(matches!(&error, L2Error::Refused { code, .. } if code == "NOPERM"), "{error}");
}

#[tokio::test]
async fn a_hung_server_keeps_each_writer_waiting_once() {
    let server = Server::start(&[]);
    let remote = server.remote();
    let (key, writer) = (keys(&["app:k"]), token());
    assert!(remote.announce(&key, writer, TTL).await.unwrap().is_some());
    server.signal("-STOP");
    assert!(remote.announce(&key, writer, TTL).await.is_err());
    let timeouts = remote.stats().timeouts;
    for _ in 0..100 {
        assert!(remote.announce(&key, writer, TTL).await.is_err());
    }
    assert_eq!(remote.stats().timeouts, timeouts, "nothing was sent");
    assert!(!remote.is_up());
    server.signal("-CONT");
    timeout(Duration::from_secs(10), remote.wait_until_up()).await.expect("in use again");
    assert!(remote.announce(&key, writer, TTL).await.unwrap().is_some());
}
