//! Servers that must not be cached on, and servers that become another one under a living connection.

use std::num::NonZeroUsize;
use std::time::Duration;

use storehaus_cache::l2::L2;
use storehaus_cache::redis::{RedisSettings, RedisTier};
use storehaus_cache::remote::{Bypass, Invalidated, Remote, RemoteSettings};
use storehaus_cache::{CacheConfig, CacheError, CacheManager};
use tokio::time::timeout;

use crate::server::{Server, claims, code, cost, patient, run, sent};

const PATIENCE: Duration = Duration::from_secs(20);

/// A tier that tries each connection on the keys of `app`.
fn trying(url: &str) -> RedisTier {
    let prefix = Some("app".to_owned());
    let pool_size = NonZeroUsize::MIN;
    RedisTier::new(RedisSettings { prefix, pool_size, connect_timeout: PATIENCE, ..RedisSettings::new(url) }).unwrap()
}

#[tokio::test]
async fn a_server_that_cannot_be_invalidated_is_not_read() {
    let server = Server::start(&[]);
    let mut admin = server.admin().await;
    let all = "+get +mget +set +del +eval +evalsha";
    for (refused, named) in [("-del", "DEL"), ("-eval", "EVAL"), ("-set", "SET"), ("-get", "GET"), ("-mget", "MGET")] {
        run(&mut admin, &format!("ACL SETUSER {named} reset on >pw ~app:* {all} {refused}")).await;
        let tier = trying(&format!("redis://{named}:pw@127.0.0.1:{}/", server.port));
        let error = tier.get("app:k").await.unwrap_err();
        assert_eq!(code(&error), "NOPERM", "{refused}");
        let text = error.to_string();
        let names = ["SET", "GET", "MGET", "EVAL", "DEL"]
            .iter()
            .any(|name| text.contains(&format!("cannot work without {name}")));
        assert!(names && !text.contains("app:"), "{text}");
        assert_eq!(tier.open_connections(), 0);
        assert!(tier.probe().await.is_err(), "{refused}");
    }
    run(&mut admin, &format!("ACL SETUSER few reset on >pw ~app:* {all}")).await;
    let tier = trying(&format!("redis://few:pw@127.0.0.1:{}/", server.port));
    assert_eq!(tier.get("app:k").await.unwrap().incarnation, 0, "INFO is not allowed, and not needed");
    tier.probe().await.unwrap();
}

#[tokio::test]
async fn a_refused_server_is_bypassed_with_the_reason_until_it_allows_removals() {
    let server = Server::start(&[]);
    let mut admin = server.admin().await;
    run(&mut admin, "ACL SETUSER app on >pw ~app:* +@all -del -unlink").await;
    let url = format!("redis://app:pw@127.0.0.1:{}/", server.port);
    let remote = Remote::new(trying(&url), RemoteSettings::new("app:*"));
    assert_eq!(remote.get("app:k", patient()).await, Err(Bypass::Failed));
    assert_eq!(remote.get("app:k", patient()).await, Err(Bypass::Down));
    let reason = remote.state().last_error.unwrap();
    assert!(reason.contains("NOPERM"), "{reason}");
    assert_eq!(remote.invalidate(claims(&["app:k"], None)).await, Invalidated::Journaled);

    let manager = CacheManager::new(CacheConfig::new(&url, 60, "app")).unwrap();
    let error = manager.health_check().await.unwrap_err();
    assert!(matches!(&error, CacheError::Refused(_)) && error.to_string().contains("cannot work without"), "{error}");

    run(&mut admin, "ACL SETUSER app +del").await;
    timeout(PATIENCE, remote.wait_until_up()).await.expect("the rights are there");
    assert_eq!(remote.get("app:k", patient()).await.unwrap().bytes, None);
    assert_eq!(remote.stats().pending_invalidations, 0);
    assert!(manager.health_check().await.unwrap().redis);
}

#[tokio::test]
async fn lack_of_memory_is_no_reason_to_refuse_a_server() {
    let server = Server::start(&[]);
    run(&mut server.admin().await, "CONFIG SET maxmemory 1").await;
    assert_eq!(trying(&server.url()).clear(&claims(&["app:k"], None)).await.unwrap().removed, 0);
    run(&mut server.admin().await, "CONFIG SET maxmemory 0").await;
    run(&mut server.admin().await, "REPLICAOF 127.0.0.1 1").await;
    assert_eq!(code(&trying(&server.url()).get("app:k").await.unwrap_err()), "READONLY");
}

#[tokio::test]
async fn the_trial_is_part_of_the_greeting() {
    let server = Server::start(&[]);
    let tier = trying(&server.url());
    let mut admin = server.admin().await;
    let mut first = cost(&mut admin, async { tier.get("app:k").await.unwrap() }).await;
    first.retain(|(name, _)| !name.starts_with("script") && !name.starts_with("client") && name != "hello");
    // A GET of the trial, one inside its script, and the one asked for.
    assert_eq!(first, sent(&[("del", 1), ("eval", 1), ("get", 3), ("mget", 1), ("set", 1)]));
    assert_eq!(run(&mut admin, "DBSIZE").await, redis::Value::Int(0), "nothing is left");
    assert_eq!(cost(&mut admin, async { tier.get("app:k").await.unwrap() }).await, sent(&[("get", 1)]));
}

#[tokio::test]
async fn a_server_that_becomes_another_one_is_noticed_on_a_living_connection() {
    let server = Server::start(&["--enable-debug-command", "local"]);
    let tier = server.tier();
    let before = tier.get("k").await.unwrap().incarnation;
    run(&mut server.admin().await, "DEBUG CHANGE-REPL-ID").await;
    assert_eq!(tier.get("k").await.unwrap().incarnation, before, "the connection lives on");
    timeout(PATIENCE, async { while tier.get("k").await.unwrap().incarnation == before {} })
        .await
        .expect("nobody asks who the server is");
}

#[tokio::test]
async fn a_server_that_does_not_tell_who_it_is_is_not_given_up() {
    let server = Server::start(&[]);
    let mut admin = server.admin().await;
    run(&mut admin, "ACL SETUSER app on >pw ~app:* +get +mget +set +del +evalsha +eval +client").await;
    let tier = trying(&format!("redis://app:pw@127.0.0.1:{}/", server.port));
    assert_eq!(tier.get("app:k").await.unwrap().incarnation, 0);
    let clients = async |admin: &mut redis::aio::MultiplexedConnection| -> Vec<String> {
        let list: String = redis::from_redis_value(run(admin, "CLIENT LIST TYPE normal").await).unwrap();
        let ours = list.lines().filter(|line| line.contains("user=app "));
        ours.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
    };
    let before = clients(&mut admin).await;
    let past_a_look = tokio::time::Instant::now() + Duration::from_millis(1_300);
    while tokio::time::Instant::now() < past_a_look {
        assert_eq!(tier.get("app:k").await.unwrap().incarnation, 0);
    }
    assert_eq!(clients(&mut admin).await, before);
}
