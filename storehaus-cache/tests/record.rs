//! The read-through cache step by step: every load waits for the test, so each interleaving is one that was chosen.

#![cfg(feature = "redis")]

#[path = "record/script.rs"]
mod script;

use std::time::Duration;

use futures_util::FutureExt as _;
use storehaus_cache::codec::header::Token;
use storehaus_cache::loader::{Aborted, Loader};
use storehaus_cache::record::RecordCache;
use storehaus_cache::{CacheManager, CacheParams, L1};

use self::script::{Failed, INFO, KINDS, Kind, PATIENCE, Scene, Server};

fn some(row: &str) -> Result<Option<String>, Failed> {
    Ok(Some(row.to_owned()))
}

#[tokio::test]
async fn a_row_loaded_before_a_write_is_not_kept() {
    let server = Server::start();
    for kind in KINDS {
        let mut scene = Scene::new(kind.config(&server)).ready(kind).await;
        let early = scene.get(1);
        let call = scene.call().await;
        scene.cache.invalidate(&[1]).await;
        call.answer("old");
        assert_eq!(early.await.unwrap(), some("old"), "{kind:?}");
        scene.manager().settle().await;
        let refused = scene.stats().await;
        assert!(refused.fills_refused >= 1 && refused.fills == 0, "{kind:?} {refused:?}");
        scene.load(1, "new").await;
        scene.hit(1, "new").await;
        scene.cache.invalidate(&[1]).await;
    }
}

#[tokio::test]
async fn a_read_after_a_write_does_not_join_a_load_before_it() {
    let server = Server::start();
    for kind in KINDS {
        let mut scene = Scene::new(kind.config(&server)).ready(kind).await;
        let early = scene.get(1);
        let before = scene.call().await;
        scene.cache.invalidate(&[1]).await;
        let late = scene.get(1);
        let after = scene.call().await;
        after.answer("new");
        assert_eq!(late.await.unwrap(), some("new"), "{kind:?}");
        scene.manager().settle().await;
        // The older load ends last, and changes nothing.
        before.answer("old");
        assert_eq!(early.await.unwrap(), some("old"), "{kind:?}");
        scene.manager().settle().await;
        scene.hit(1, "new").await;
        scene.cache.invalidate(&[1]).await;
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_the_load_along() {
    let server = Server::start();
    for kind in KINDS {
        let mut scene = Scene::new(kind.config(&server)).ready(kind).await;
        let first = scene.get(1);
        let call = scene.call().await;
        let (second, third) = (scene.get(1), scene.get(1));
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        call.answer("row");
        assert_eq!((second.await.unwrap(), third.await.unwrap()), (some("row"), some("row")), "{kind:?}");
        scene.manager().settle().await;
        scene.hit(1, "row").await;
        let stats = scene.stats().await;
        assert_eq!((stats.loads, stats.fills), (1, 1), "{kind:?}");
        scene.cache.invalidate(&[1]).await;
    }
}

#[tokio::test]
async fn a_load_that_fails_reaches_who_waits_and_nobody_else() {
    let server = Server::start();
    for kind in KINDS {
        let limit = Duration::from_millis(150);
        let mut scene = Scene::new(kind.config(&server).with_load_timeout(limit)).ready(kind).await;
        let read = scene.get(1);
        scene.call().await.fail();
        assert_eq!(read.await.unwrap(), Err(Failed::Refused), "{kind:?}");
        scene.manager().settle().await;

        let read = scene.get(1);
        scene.call().await.vanish();
        assert_eq!(read.await.unwrap(), Err(Failed::Aborted(Aborted::Lost)), "{kind:?}");
        scene.manager().settle().await;

        let read = scene.get(2);
        let call = scene.call().await;
        assert_eq!(read.await.unwrap(), Err(Failed::Aborted(Aborted::TimedOut(limit))), "{kind:?}");
        drop(call);
        scene.manager().settle().await;

        let read = scene.get_many(&[3, 4]);
        scene.call().await.fail();
        assert_eq!(read.await.unwrap(), Err(Failed::Refused), "{kind:?}");
        scene.manager().settle().await;
        for key in 1..=4 {
            scene.load(key, "row").await;
            scene.hit(key, "row").await;
        }
        scene.cache.invalidate(&[1, 2, 3, 4]).await;
    }
}

#[tokio::test]
async fn all_who_wait_in_process_get_the_failure() {
    let server = Server::start();
    for kind in [Kind::InProcess, Kind::Both] {
        let mut scene = Scene::new(kind.config(&server)).ready(kind).await;
        let first = scene.get(1);
        let call = scene.call().await;
        let mut second = Box::pin(scene.cache.get(&1i64));
        // One poll: it waits for the load under way.
        assert!(second.as_mut().now_or_never().is_none());
        call.fail();
        assert_eq!(second.await.unwrap_err(), Failed::Refused);
        assert_eq!(first.await.unwrap(), Err(Failed::Refused));
    }
}

/// Puts something under the key of row 1 and reads it.
async fn replaced(server: &Server, scene: &mut Scene, what: &str, content: &[u8]) {
    let key = scene.cache.key(&1i64);
    server.put(&key, content).await;
    scene.load(1, what).await;
    scene.hit(1, what).await;
}

#[tokio::test]
async fn what_is_no_row_of_the_key_is_replaced() {
    let server = Server::start();
    let mut scene = Scene::new(server.config());
    let (one, two) = (scene.cache.key(&1i64), scene.cache.key(&2i64));
    scene.load(1, "one").await;
    scene.load(2, "two").await;
    let (row, other) = (server.content(&one).await.unwrap(), server.content(&two).await.unwrap());

    let mut flipped = row.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let damaged: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("another program's", b"{\"id\": 1}"),
        ("flipped", &flipped),
        ("cut", &row[..row.len() - 1]),
        ("long", &[&row[..], b"x"].concat()),
        ("another key's", &other),
    ];
    for (n, (what, content)) in damaged.into_iter().enumerate() {
        replaced(&server, &mut scene, what, content).await;
        assert_eq!(scene.stats().await.decode_errors, n as u64 + 1, "{what}");
    }

    // A value of another type, as another version of the model would leave it.
    let before = scene.stats().await;
    assert!(CacheManager::new(server.config()).unwrap().set_record("rows", "1", &7i64, 60).await.unwrap());
    scene.load(1, "new").await;
    scene.hit(1, "new").await;
    let after = scene.stats().await;
    assert_eq!((after.outdated, after.decode_errors), (before.outdated + 1, before.decode_errors));

    // A list, which no write of ours leaves: replaced like the others, by one load.
    for many in [false, true] {
        server.run::<()>(&[b"DEL", one.as_bytes()]).await;
        server.run::<()>(&[b"RPUSH", one.as_bytes(), b"x"]).await;
        if many {
            let read = scene.get_many(&[1, 2]);
            scene.call().await.answer("in its place");
            assert_eq!(read.await.unwrap(), Ok(vec![Some("in its place".to_owned()), Some("two".to_owned())]));
            scene.cache.manager().settle().await;
        } else {
            scene.load(1, "in its place").await;
        }
        scene.hit(1, "in its place").await;
    }
    scene.cache.invalidate(&[1]).await;
    scene.load(1, "again").await;
    scene.hit(1, "again").await;
}

#[tokio::test]
async fn a_value_of_the_server_before_its_restart_is_not_served() {
    let mut server = Server::start();
    let mut scene = Scene::new(server.config());
    scene.load(1, "old").await;
    server.run::<()>(&[b"SAVE"]).await;
    scene.cache.invalidate(&[1]).await;
    // The restart brings back what was deleted.
    server.restart();
    assert!(server.content(&scene.cache.key(&1i64)).await.is_some());
    // A new instance, so that no broken connection has a part in it.
    let mut scene = Scene::new(server.config());
    scene.load(1, "new").await;
    scene.hit(1, "new").await;
    assert_eq!(scene.stats().await.outdated, 1);
}

#[tokio::test]
async fn a_lease_nobody_holds_any_more_is_taken_over_by_its_maker_alone() {
    let server = Server::start();
    let mut scene = Scene::new(server.config());
    let key = scene.cache.key(&1i64);
    let read = scene.get(1);
    let call = scene.call().await;
    let own = server.content(&key).await.unwrap();
    call.answer("row");
    assert_eq!(read.await.unwrap(), some("row"));
    scene.manager().settle().await;
    assert_ne!(server.content(&key).await.unwrap(), own);

    // As a lease whose grant was never heard of.
    server.put(&key, &own).await;
    scene.load(1, "taken over").await;
    scene.hit(1, "taken over").await;

    // Another process's: waited for within the read budget, then passed by without storing anything.
    let foreign = Token { instance: 1, serial: 2 }.to_lease();
    server.put(&key, &foreign).await;
    let mut hasty = Scene::new(server.config().with_read_budget(200));
    hasty.load(1, "past the lease").await;
    assert_eq!(server.content(&key).await.unwrap(), foreign);
    assert_eq!(hasty.stats().await.fills, 0);
    let read = hasty.get_many(&[1]);
    hasty.call().await.answer("past the lease");
    read.await.unwrap().unwrap();
    hasty.manager().settle().await;
    assert_eq!(server.content(&key).await.unwrap(), foreign);
}

#[tokio::test]
async fn a_second_process_waits_for_the_load_of_the_first() {
    let server = Server::start();
    let (mut first, mut second) = (Scene::new(server.config()), Scene::new(server.config()));
    let read = first.get(1);
    let call = first.call().await;
    let waits = second.get(1);
    call.answer("row");
    assert_eq!(read.await.unwrap(), some("row"));
    assert_eq!(waits.await.unwrap(), some("row"));
    second.hit(1, "row").await;
    assert_eq!(second.stats().await.loads, 0);

    // The write of one ends the load of the other.
    first.cache.invalidate(&[1]).await;
    let early = first.get(1);
    let call = first.call().await;
    second.cache.invalidate(&[1]).await;
    call.answer("old");
    assert_eq!(early.await.unwrap(), some("old"));
    first.manager().settle().await;
    second.load(1, "new").await;
    first.hit(1, "new").await;
}

#[tokio::test]
async fn a_value_beyond_the_limit_is_not_kept_in_redis() {
    let server = Server::start();
    let mut scene = Scene::new(server.config().with_max_value_bytes(500));
    scene.load(1, &"x".repeat(400)).await;
    scene.hit(1, &"x".repeat(400)).await;
    for _ in 0..2 {
        scene.load(2, &"x".repeat(500)).await;
        // Not even a lease is left.
        assert_eq!(server.content(&scene.cache.key(&2i64)).await, None);
    }
    assert_eq!(scene.stats().await.oversized, 2);
}

#[tokio::test]
async fn a_row_is_kept_in_process_no_longer_than_its_bound() {
    let server = Server::start();
    let config = |bound| server.config().with_l1(L1::Bounded(bound));
    let mut long = Scene::new(config(PATIENCE)).ready(Kind::Both).await;
    let short = Scene::new(config(Duration::from_millis(100))).ready(Kind::Both).await;
    let mut source = Scene::new(server.config());
    source.load(1, "old").await;
    long.hit(1, "old").await;
    let read = short.get(1);
    assert_eq!(read.await.unwrap(), some("old"));

    // A write nobody is told of.
    server.run::<()>(&[b"DEL", source.cache.key(&1i64).as_bytes()]).await;
    source.load(1, "new").await;
    let reads = async {
        while short.get(1).await.unwrap() != some("new") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE / 2, reads).await.expect("the bound has no end");
    // The bound is the user's choice; a write of this very instance is seen at once.
    long.hit(1, "old").await;
    long.cache.invalidate(&[1]).await;
    long.load(1, "newest").await;
}

#[tokio::test]
async fn an_absent_row_is_kept_if_asked_for() {
    let server = Server::start();
    for kind in KINDS {
        let manager = CacheManager::new(kind.config(&server)).unwrap();
        let mut scene = Scene::with(CacheParams::new(&manager).with_negative_ttl(60)).ready(kind).await;
        let read = scene.get(1);
        scene.call().await.find_nothing();
        assert_eq!(read.await.unwrap(), Ok(None));
        manager.settle().await;
        assert_eq!(scene.get(1).await.unwrap(), Ok(None), "{kind:?}");
        // A read under way when the row is created keeps nothing either.
        scene.cache.invalidate(&[1]).await;
        let early = scene.get(1);
        let call = scene.call().await;
        scene.cache.invalidate(&[1]).await;
        call.find_nothing();
        assert_eq!(early.await.unwrap(), Ok(None));
        manager.settle().await;
        scene.load(1, "made").await;
        scene.cache.invalidate(&[1]).await;
    }
}

#[tokio::test]
async fn many_rows_are_leased_loaded_and_kept_together() {
    let server = Server::start();
    for kind in KINDS {
        let mut scene = Scene::new(kind.config(&server)).ready(kind).await;
        scene.load(1, "one").await;
        let single = scene.get(2);
        let held = scene.call().await;
        let many = scene.get_many(&[1, 2, 3, 4, 3]);
        let call = scene.call().await;
        // What is loaded by another read of this process is joined where the tier in process says so.
        let expected = if kind == Kind::Redis { vec![2, 3, 4] } else { vec![3, 4] };
        assert_eq!(call.keys, expected, "{kind:?}");
        // A write of one of them, while they are loaded: that one is not kept.
        scene.cache.invalidate(&[3]).await;
        held.answer("many");
        call.answer("many");
        let row = |text: &str| Some(text.to_owned());
        let expected = vec![row("one"), row("many"), row("many"), row("many"), row("many")];
        assert_eq!(many.await.unwrap(), Ok(expected), "{kind:?}");
        assert_eq!(single.await.unwrap(), some("many"));
        scene.manager().settle().await;
        for key in [2, 4] {
            scene.hit(key, "many").await;
        }
        scene.load(3, "written").await;
        assert_eq!(scene.get_many(&[]).await.unwrap(), Ok(Vec::new()));
        scene.cache.invalidate(&[1, 2, 3, 4]).await;
    }
}

/// The same table by the text of its key.
struct ByText;

impl Loader for ByText {
    type Key = String;
    type Value = String;
    type Error = Failed;

    async fn load(&self, key: &String) -> Result<Option<String>, Failed> {
        static LOADS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = LOADS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Ok(Some(format!("{key} load {n}")))
    }

    async fn load_many(&self, _keys: &[String]) -> Result<Vec<(String, String)>, Failed> {
        Ok(Vec::new())
    }

    fn aborted(&self, why: Aborted) -> Failed {
        Failed::Aborted(why)
    }
}

#[tokio::test]
async fn stores_with_keys_of_other_types_on_the_table_are_invalidated_too() {
    let server = Server::start();
    for kind in KINDS {
        let manager = CacheManager::new(kind.config(&server)).unwrap();
        let scene = Scene::with(CacheParams::new(&manager)).ready(kind).await;
        let other = RecordCache::new(ByText, CacheParams::new(&manager).with_prefix("text"), &INFO).unwrap();
        let first = other.get("1").await.unwrap();
        let neighbour = other.get("10").await.unwrap();
        manager.settle().await;
        assert_eq!(other.get("1").await.unwrap(), first, "{kind:?}");
        scene.cache.invalidate(&[1]).await;
        assert_ne!(other.get("1").await.unwrap(), first, "{kind:?}");
        assert_eq!(other.get("10").await.unwrap(), neighbour, "{kind:?}");
    }
}
