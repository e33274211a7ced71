//! What `explain` says of every state an entry can be in.

#![cfg(feature = "redis")]

#[expect(dead_code, reason = "shared with other tests")]
#[path = "coherence/hub.rs"]
mod hub;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "record/script.rs"]
mod script;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "coherence/shelf.rs"]
mod shelf;

use std::time::Duration;

use proptest::prelude::*;
use storehaus_cache::codec::header::{self, Millis, Stamp, Token};
use storehaus_cache::codec::{Cacheable as _, to_bytes};
use storehaus_cache::explain::{Held, InvalidatedBy, Mismatch, State};
use storehaus_cache::record::RecordCache;
use storehaus_cache::{CacheConfig, CacheManager, CacheParams, L1};

use self::script::{PATIENCE, Server};
use self::shelf::{STORE, Table};

type Cache = RecordCache<Table>;

fn cache(config: CacheConfig, table: &Table) -> Cache {
    let manager = CacheManager::new(config).unwrap();
    RecordCache::new(table.clone(), CacheParams::new(manager).with_negative_ttl(30), &STORE).unwrap()
}

async fn fill(cache: &Cache, id: &str) {
    cache.get(id).await.unwrap();
    cache.manager().settle().await;
}

async fn in_redis(cache: &Cache, id: &str) -> Held {
    cache.explain(id).await.redis.unwrap()
}

#[tokio::test]
async fn a_row_in_redis() {
    let server = Server::start();
    let table = Table::default();
    table.set("1", "row");
    let (here, there) = (cache(server.config(), &table), cache(server.config(), &table));
    assert_eq!(in_redis(&here, "1").await.state, State::Nothing);
    fill(&here, "1").await;
    fill(&here, "none").await;

    let explanation = here.explain("1").await;
    let held = explanation.redis.clone().unwrap();
    assert_eq!((explanation.store.as_str(), &explanation.in_process), ("users", &None));
    assert_eq!(explanation.digest, header::identity(&here.key("1")));
    assert_eq!(held.state, State::Value);
    assert_eq!(held.size, Some(server.content(&here.key("1")).await.unwrap().len() as u64));
    assert!(held.age.unwrap() < PATIENCE, "{held:?}");
    assert!(held.ttl.unwrap() <= Duration::from_secs(60), "{held:?}");
    assert!(held.incarnation.is_some() && held.incarnation == held.server, "{held:?}");
    assert!(held.filler.unwrap().this_store);
    let elsewhere = in_redis(&there, "1").await;
    let (mine, theirs) = (held.filler.unwrap(), elsewhere.filler.unwrap());
    assert!(!theirs.this_store);
    assert_eq!((mine.instance, mine.serial), (theirs.instance, theirs.serial));

    let absent = in_redis(&here, "none").await;
    assert_eq!(absent.state, State::Absent);
    assert!(absent.ttl.unwrap() <= Duration::from_secs(30));

    let text = explanation.to_string();
    for part in ["of users: redis holds a row of ", " s old, by this store (token ", ", on this server ("] {
        assert!(text.contains(part), "{text}");
    }
    assert!(text.ends_with("; no invalidation remembered"), "{text}");
}

#[tokio::test]
async fn a_load_under_way() {
    let server = Server::start();
    for config in [server.config(), CacheConfig::in_process(60, "app"), server.config().with_l1(L1::Bounded(PATIENCE))]
    {
        let table = Table::default();
        table.set("1", "row");
        table.0.selects.shut();
        let cache = cache(config, &table);
        cache.manager().listen().await;
        let reader = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get("1").await }
        });
        table.0.selects.arrival().await;
        let explanation = cache.explain("1").await;
        for held in [&explanation.redis, &explanation.in_process].into_iter().flatten() {
            assert_eq!(held.state, State::Lease);
        }
        if let Some(held) = &explanation.redis {
            assert!(held.filler.unwrap().this_store && held.ttl.unwrap() <= Duration::from_secs(5), "{held:?}");
        }
        table.0.selects.pass_one();
        reader.await.unwrap().unwrap();
        cache.manager().settle().await;
        let explanation = cache.explain("1").await;
        for held in [&explanation.redis, &explanation.in_process].into_iter().flatten() {
            assert_eq!(held.state, State::Value);
        }
        cache.invalidate(&["1".to_owned()]).await;
    }
}

#[tokio::test]
async fn a_row_in_process() {
    let table = Table::default();
    table.set("1", "row");
    let cache = cache(CacheConfig::in_process(60, "app"), &table);
    assert_eq!(cache.explain("1").await.in_process.unwrap().state, State::Nothing);
    fill(&cache, "1").await;
    fill(&cache, "none").await;
    let explanation = cache.explain("1").await;
    let held = explanation.in_process.clone().unwrap();
    assert_eq!((&held.state, &explanation.redis), (&State::Value, &None));
    assert!(held.age.unwrap() + held.ttl.unwrap() <= Duration::from_secs(61), "{held:?}");
    assert_eq!(cache.explain("none").await.in_process.unwrap().state, State::Absent);
    assert!(explanation.to_string().contains("this process holds a row, "), "{explanation}");

    let disabled: Cache = {
        let manager = CacheManager::new(CacheConfig::in_process(60, "app")).unwrap();
        RecordCache::new(table, CacheParams::new(manager).disabled(), &STORE).unwrap()
    };
    let explanation = disabled.explain("1").await;
    assert_eq!((explanation.redis.as_ref(), explanation.in_process.as_ref()), (None, None));
    assert!(explanation.to_string().contains("the store caches nothing"), "{explanation}");
}

#[tokio::test]
async fn what_is_not_served_has_its_reason() {
    let mut server = Server::start();
    let table = Table::default();
    table.set("1", "one");
    table.set("2", "two");
    let one = cache(server.config(), &table);
    let key = one.key("1");
    fill(&one, "1").await;
    fill(&one, "2").await;
    let row = server.content(&key).await.unwrap();
    let other = server.content(&one.key("2")).await.unwrap();
    let stamp = header::stamp_of(&row).unwrap();
    let sealed = |stamp: &Stamp, payload: &[u8]| {
        let mut bytes = header::open(stamp, payload.len());
        bytes.extend_from_slice(payload);
        header::seal(&mut bytes);
        bytes
    };
    let payload = to_bytes(&"one".to_owned()).unwrap();
    let damaged = [&row[..row.len() - 1], &[row[row.len() - 1] ^ 1]].concat();
    for (content, reason) in [
        (b"{\"id\": 1}".to_vec(), Mismatch::Format),
        (damaged, Mismatch::Checksum),
        (other, Mismatch::Identity),
        (sealed(&stamp, b"\xff"), Mismatch::Codec),
        (sealed(&Stamp { schema: stamp.schema ^ 1, ..stamp }, &payload), Mismatch::Schema),
        (sealed(&Stamp { expires: Millis(1), ..stamp }, &payload), Mismatch::Expired),
    ] {
        server.put(&key, &content).await;
        let held = in_redis(&one, "1").await;
        assert_eq!(held.state, State::Unusable(reason));
        let is_ours = !matches!(reason, Mismatch::Format | Mismatch::Checksum);
        assert_eq!(held.filler.is_some(), is_ours, "{held:?}");
    }
    assert_eq!(one.manager().get_stats().await.unwrap().total.decode_errors, 0, "a look is no read");
    // What is right is told apart from all of these.
    assert_eq!(stamp.schema, String::SCHEMA);
    server.put(&key, &sealed(&stamp, &payload)).await;
    assert_eq!(in_redis(&one, "1").await.state, State::Value);

    server.run::<()>(&[b"DEL", key.as_bytes()]).await;
    server.run::<()>(&[b"RPUSH", key.as_bytes(), b"x"]).await;
    assert_eq!(in_redis(&one, "1").await.state, State::Unusable(Mismatch::Format));

    server.run::<()>(&[b"SET", key.as_bytes(), &row]).await;
    assert_eq!(in_redis(&one, "1").await.ttl, Some(Duration::MAX));
    server.run::<()>(&[b"SAVE"]).await;
    server.restart();
    let again = cache(server.config(), &table);
    let held = in_redis(&again, "1").await;
    assert_eq!(held.state, State::Unusable(Mismatch::Incarnation));
    assert!(held.incarnation != held.server, "{held:?}");
    assert!(held.to_string().contains("on another server"), "{held}");

    let foreign = Token { instance: 1, serial: 2 };
    server.put(&key, &foreign.to_lease()).await;
    let held = in_redis(&again, "1").await;
    let filler = held.filler.unwrap();
    assert_eq!((&held.state, filler.instance, filler.serial, filler.this_store), (&State::Lease, 1, 2, false));
}

#[tokio::test]
async fn the_last_invalidation_and_a_server_that_is_away() {
    let server = Server::start();
    let table = Table::default();
    table.set("1", "row");
    let config = server.config().with_timeout(200).with_retry_attempts(1);
    let cache = cache(config, &table);
    fill(&cache, "1").await;
    let by = async || cache.explain("1").await.last_invalidation.map(|last| last.by);
    assert_eq!(by().await, None);
    cache.invalidate(&["1".to_owned(), "2".to_owned()]).await;
    assert_eq!(by().await, Some(InvalidatedBy::Write));
    let last = cache.explain("2").await.last_invalidation.unwrap();
    assert!(last.age < PATIENCE && last.by == InvalidatedBy::Write, "{last:?}");
    cache.manager().delete_record("users", "1").await.unwrap();
    assert_eq!(by().await, Some(InvalidatedBy::Hand));

    drop(server);
    cache.invalidate(&["1".to_owned()]).await;
    let explanation = cache.explain("1").await;
    assert_eq!(by().await, Some(InvalidatedBy::WriteUnconfirmed));
    assert!(explanation.bypassed);
    let state = explanation.redis.as_ref().unwrap().state.clone();
    assert!(matches!(state, State::Unknown(_)), "{state:?}");
    assert!(explanation.to_string().contains("; redis is bypassed"), "{explanation}");
}

#[test]
fn no_explanation_holds_a_row_or_an_id() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    let table = Table::default();
    let caches = [server.config().with_l1(L1::Bounded(PATIENCE)), server.config(), CacheConfig::in_process(60, "app")]
        .map(|config| cache(config, &table));
    // No text of these stands in an explanation by chance.
    let text = "[g-z]{1,3}canary[^ ]{0,8}";
    proptest!(ProptestConfig::with_cases(32), |(id in text, row in text, other in any::<[u8; 8]>())| {
        table.set(&id, &row);
        runtime.block_on(async {
            let mut said = Vec::new();
            for cache in &caches {
                fill(cache, &id).await;
                said.push(cache.explain(&id).await);
                cache.invalidate(std::slice::from_ref(&id)).await;
                said.push(cache.explain(&id).await);
            }
            server.put(&caches[0].key(&id), &[row.as_bytes(), &other].concat()).await;
            said.push(caches[0].explain(&id).await);
            for explanation in said {
                let text = format!("{explanation} {explanation:?}");
                prop_assert!(!text.contains("canary"), "{}", text);
            }
            caches[0].invalidate(std::slice::from_ref(&id)).await;
            Ok(())
        })?;
    });
}
