//! What readers and other writers see of a write, from its announcement to its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use storehaus_cache::l2::L2Error;
use storehaus_cache::record::RecordCache;
use storehaus_cache::{CacheConfig, CacheError, CacheManager, CacheParams, Coherence, L1, OnCacheDown, StoreStats};

use super::shelf::{Cache, STORE, Shelf, Table, cache, manager, name, near};

fn one() -> Vec<String> {
    vec!["1".to_owned()]
}

fn with(shelf: &Shelf, table: &Table, change: impl FnOnce(CacheParams<Shelf>) -> CacheParams<Shelf>) -> Cache {
    RecordCache::new(table.clone(), change(CacheParams::new(manager(shelf))), &STORE).unwrap()
}

async fn stats(cache: &Cache) -> StoreStats {
    cache.manager().get_stats().await.unwrap().total
}

/// Lets every task run as far as it can.
async fn quiet() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

fn unreachable() -> L2Error {
    L2Error::Connection("reset by peer".to_owned())
}

#[tokio::test]
async fn while_a_row_is_written_everybody_asks_the_database_and_keeps_nothing() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let (writer, reader) = (cache(&manager(&shelf), &table), cache(&manager(&shelf), &table));
    let l1 = with(&shelf, &table, |params| params.with_l1(L1::Bounded(Duration::from_secs(60))));
    for store in [&writer, &reader, &l1] {
        assert_eq!(name(store, "1").await.as_deref(), Some("old"));
        store.manager().settle().await;
    }
    // In process, another instance's row is as old as its bound allows: only what it reads anew counts here.
    l1.invalidate(&one()).await;
    let change = writer.announce(one()).await.unwrap();
    let (loads, fills) = (table.loads(), stats(&reader).await.fills);
    for (n, text) in ["old", "new", "new"].into_iter().enumerate() {
        table.set("1", text);
        for store in [&reader, &writer, &l1] {
            assert_eq!(name(store, "1").await.as_deref(), Some(text));
            assert_eq!(store.get_many(&one()).await.unwrap()[0].as_deref().map(String::as_str), Some(text));
            quiet().await;
        }
        assert_eq!(table.loads(), loads + (n + 1) * 6);
    }
    assert_eq!(stats(&reader).await.fills, fills);
    assert!(!reader.manager().set_record("users", "1", &"by hand".to_owned(), 60).await.unwrap());
    assert_eq!(reader.manager().get_record::<String>("users", "1").await.unwrap(), None);
    assert!(!reader.manager().delete_record("users", "1").await.unwrap());
    assert!(shelf.0.intents("app:users:1").is_some(), "what is removed by hand is not the intent");

    change.settle().await.unwrap();
    for store in [&reader, &writer, &l1] {
        let loads = table.loads();
        assert_eq!(name(store, "1").await.as_deref(), Some("new"));
        store.manager().settle().await;
        assert_eq!(name(store, "1").await.as_deref(), Some("new"));
        assert!(table.loads() <= loads + 1, "cached again");
    }
    let total = stats(&writer).await;
    assert_eq!((total.intents_placed, total.intents_refused, total.intents_lost), (1, 0, 0));
}

/// The commit of a process that dies before it clears is seen at once, by everybody, and the key is used again when the
/// intent has ended.
#[tokio::test]
async fn a_writer_that_dies_leaves_nothing_old_behind() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let reader = cache(&manager(&shelf), &table);
    assert_eq!(name(&reader, "1").await.as_deref(), Some("old"));
    reader.manager().settle().await;

    let dead = cache(&manager(&shelf), &table);
    let change = dead.announce(one()).await.unwrap();
    table.set("1", "new");
    // No code of a killed process runs any more.
    std::mem::forget(change);
    drop(dead);
    for _ in 0..3 {
        assert_eq!(name(&reader, "1").await.as_deref(), Some("new"));
        reader.manager().settle().await;
    }
    shelf.0.now.fetch_add(30_000, Ordering::SeqCst);
    assert_eq!(shelf.0.intents("app:users:1"), None);
    let loads = table.loads();
    for _ in 0..3 {
        assert_eq!(name(&reader, "1").await.as_deref(), Some("new"));
        reader.manager().settle().await;
    }
    assert_eq!(table.loads(), loads + 1);
}

/// The reply to COMMIT was lost, and the database commits after everything was cleared.
#[tokio::test(start_paused = true)]
async fn a_commit_that_comes_late_is_not_hidden() {
    let (shelf, table) = (Shelf::default(), Table::default());
    let alone: CacheManager<Shelf> = {
        let config = CacheConfig::in_process(60_000, "app").with_l1(L1::Bounded(Duration::from_secs(60_000)));
        CacheManager::with_tier(config, shelf.clone()).unwrap()
    };
    let (writer, reader) = (cache(&alone, &table), cache(&manager(&shelf), &table));
    for settled in [false, true] {
        table.set("1", "old");
        for store in [&writer, &reader] {
            assert_eq!(name(store, "1").await.as_deref(), Some("old"));
            store.manager().settle().await;
        }
        let change = writer.announce(one()).await.unwrap();
        match settled {
            true => change.settle().await.unwrap(),
            false => change.doubt().await,
        }
        for store in [&writer, &reader] {
            assert_eq!(name(store, "1").await.as_deref(), Some("old"));
            store.manager().settle().await;
        }
        table.set("1", "new");
        for store in [&writer, &reader] {
            // What a settled change cleared was kept again before the late commit.
            assert_eq!(name(store, "1").await.as_deref(), Some(if settled { "old" } else { "new" }));
        }
        pass(&shelf, Duration::from_secs(31)).await;
        let loads = table.loads();
        for store in [&writer, &reader, &writer, &reader] {
            name(store, "1").await.unwrap();
            store.manager().settle().await;
        }
        assert!(table.loads() <= loads + 1, "kept again");
        writer.invalidate(&one()).await;
    }
}

#[tokio::test]
async fn what_is_delivered_late_takes_the_intent_along() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let cache = cache(&manager(&shelf), &table);
    let change = cache.announce(one()).await.unwrap();
    shelf.0.probes.shut();
    shelf.0.fail_clears.lock().unwrap().push(L2Error::Refused { code: "READONLY".to_owned(), detail: String::new() });
    shelf.0.fail_clears.lock().unwrap().push(L2Error::Refused { code: "NOPERM".to_owned(), detail: String::new() });
    change.settle().await.unwrap();
    assert_eq!(cache.manager().get_stats().await.unwrap().pending_invalidations, 1);
    assert!(shelf.0.intents("app:users:1").is_some());
    for _ in 0..4 {
        shelf.0.probes.pass_one();
    }
    while cache.manager().get_stats().await.unwrap().pending_invalidations > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(shelf.0.intents("app:users:1"), None);
}

#[tokio::test]
async fn without_intents_a_writer_that_dies_leaves_the_old_row() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let reader = cache(&manager(&shelf), &table);
    assert_eq!(name(&reader, "1").await.as_deref(), Some("old"));
    reader.manager().settle().await;
    let writer = with(&shelf, &table, |params| params.with_coherence(Coherence::Ttl));
    let change = writer.announce(one()).await.unwrap();
    table.set("1", "new");
    assert_eq!(name(&reader, "1").await.as_deref(), Some("old"), "until the TTL ends");
    assert_eq!(shelf.0.announces.load(Ordering::SeqCst), 0);
    change.settle().await.unwrap();
    assert_eq!(name(&reader, "1").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_write_that_came_to_nothing_removes_its_intent_alone() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "row");
    let (one_writer, other) = (cache(&manager(&shelf), &table), cache(&manager(&shelf), &table));
    let (first, second) = (one_writer.announce(one()).await.unwrap(), other.announce(one()).await.unwrap());
    first.withdraw().await;
    one_writer.manager().settle().await;
    assert!(matches!(shelf.0.intents("app:users:1"), Some((true, left)) if left.len() == 1));
    second.withdraw().await;
    other.manager().settle().await;
    assert_eq!(shelf.0.intents("app:users:1"), None);
    assert_eq!(stats(&other).await.invalidations, 0);
    let loads = table.loads();
    for _ in 0..3 {
        assert_eq!(name(&other, "1").await.as_deref(), Some("row"));
        other.manager().settle().await;
    }
    assert_eq!(table.loads(), loads + 1);
}

/// A read gets no row that was read before it began, and yet no more than one statement per row is under way.
#[tokio::test]
async fn reads_of_a_row_being_written_share_the_load_after_they_came() {
    let shelf = Shelf::default();
    for local in [false, true] {
        let table = Table::default();
        table.set("1", "1");
        let manager = match local {
            false => manager(&shelf),
            true => CacheManager::with_tier(
                CacheConfig::in_process(60, "app").with_l1(L1::Bounded(Duration::MAX)),
                shelf.clone(),
            )
            .unwrap(),
        };
        let cache = cache(&manager, &table);
        let change = cache.announce(one()).await.unwrap();
        table.0.selects.shut();
        let read = || {
            let cache = cache.clone();
            tokio::spawn(async move { name(&cache, "1").await })
        };
        let first = read();
        table.0.selects.arrival().await;
        table.set("1", "2");
        let second: Vec<_> = (0..20).map(|_| read()).collect();
        quiet().await;
        assert_eq!(table.loads(), 1);
        table.0.selects.pass_one();
        table.0.selects.arrival().await;
        table.set("1", "3");
        let third = read();
        quiet().await;
        assert_eq!(table.loads(), 2);
        table.0.selects.pass_one();
        table.0.selects.pass_one();
        assert_eq!(first.await.unwrap().as_deref(), Some("1"));
        for read in second {
            assert_eq!(read.await.unwrap().as_deref(), Some("2"));
        }
        assert_eq!(third.await.unwrap().as_deref(), Some("3"));
        assert_eq!(table.loads(), 3);
        change.withdraw().await;
        manager.settle().await;
    }
}

#[tokio::test]
async fn a_batch_loads_what_is_being_written_with_the_rest() {
    let (shelf, table) = (Shelf::default(), Table::default());
    let ids = ["1".to_owned(), "2".to_owned(), "3".to_owned()];
    ids.iter().for_each(|id| table.set(id, "row"));
    let (writer, reader) = (cache(&manager(&shelf), &table), cache(&manager(&shelf), &table));
    let change = writer.announce(vec!["2".to_owned()]).await.unwrap();
    for (loads, store) in [(1, &reader), (2, &reader), (3, &writer)] {
        assert!(store.get_many(&ids).await.unwrap().iter().all(Option::is_some));
        quiet().await;
        assert_eq!(table.loads(), loads);
    }
    assert_eq!(stats(&reader).await.fills, 2);
    change.settle().await.unwrap();
    reader.get_many(&ids).await.unwrap();
    reader.manager().settle().await;
    reader.get_many(&ids).await.unwrap();
    assert_eq!(table.loads(), 4);
}

#[tokio::test]
async fn in_process_alone_nothing_is_served_or_kept_while_a_row_is_written() {
    let table = Table::default();
    table.set("1", "old");
    let manager: CacheManager = CacheManager::new(CacheConfig::in_process(60, "app")).unwrap();
    let cache = RecordCache::new(table.clone(), CacheParams::new(manager.clone()), &STORE).unwrap();
    cache.get("1").await.unwrap();
    let change = cache.announce(one()).await.unwrap();
    assert_eq!(cache.get("1").await.unwrap().as_deref().map(String::as_str), Some("old"));
    table.set("1", "new");
    for _ in 0..2 {
        assert_eq!(cache.get("1").await.unwrap().as_deref().map(String::as_str), Some("new"), "committed is committed");
        assert_eq!(cache.get_many(&one()).await.unwrap()[0].as_deref().map(String::as_str), Some("new"));
    }
    assert!(!manager.set_record("users", "1", &"by hand".to_owned(), 60).await.unwrap());
    let loads = table.loads();
    change.settle().await.unwrap();
    for _ in 0..2 {
        assert_eq!(cache.get("1").await.unwrap().as_deref().map(String::as_str), Some("new"));
    }
    assert_eq!(table.loads(), loads + 1);
}

#[tokio::test]
async fn a_write_goes_on_without_redis_unless_it_is_told_not_to() {
    for (params, goes_on) in [
        (|params: CacheParams<Shelf>| params) as fn(CacheParams<Shelf>) -> CacheParams<Shelf>,
        |params| params.with_on_cache_down(OnCacheDown::Refuse),
        |params| params.with_coherence(Coherence::Strict),
        |params| params.with_coherence(Coherence::Ttl).with_on_cache_down(OnCacheDown::Refuse),
    ]
    .into_iter()
    .zip([true, false, false, true])
    {
        let (shelf, table) = (Shelf::default(), Table::default());
        table.set("1", "old");
        let cache = with(&shelf, &table, params);
        shelf.0.probes.shut();
        shelf.0.fail_announces.lock().unwrap().push(unreachable());
        let attempts = || shelf.0.announces.load(Ordering::SeqCst);
        match cache.announce(one()).await {
            Ok(change) => {
                assert!(goes_on);
                table.set("1", "new");
                change.settle().await.unwrap();
            }
            Err(error) => {
                assert!(!goes_on && matches!(error, CacheError::ConnectionError(_)), "{error}");
                let before = attempts();
                assert!(cache.announce(one()).await.is_err());
                assert_eq!(attempts(), before, "an outage is asked once");
                assert_eq!(stats(&cache).await.invalidations, 0);
            }
        }
        assert_eq!(name(&cache, "1").await.as_deref(), Some(if goes_on { "new" } else { "old" }));
        let expected = if attempts() == 0 { (0, 0) } else { (0, if goes_on { 1 } else { 2 }) };
        let total = stats(&cache).await;
        assert_eq!((total.intents_placed, total.intents_refused), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_strict_write_that_redis_does_not_confirm_says_so() {
    let (shelf, table) = (Shelf::default(), Table::default());
    for (coherence, strict) in [(Coherence::Strict, true), (Coherence::CrashSafe, false)] {
        table.set("1", "old");
        let cache = with(&shelf, &table, |params| params.with_coherence(coherence));
        assert_eq!(name(&cache, "1").await.as_deref(), Some("old"));
        let change = cache.announce(one()).await.unwrap();
        table.set("1", "new");
        let refused = L2Error::Refused { code: "NOPERM".to_owned(), detail: String::new() };
        shelf.0.fail_clears.lock().unwrap().push(refused);
        let settled = change.settle().await;
        assert_eq!(settled.is_err(), strict, "{settled:?}");
        // Remembered all the same, and delivered soon.
        assert_eq!(cache.manager().get_stats().await.unwrap().pending_invalidations, 1);
        assert_eq!(name(&cache, "1").await.as_deref(), Some("new"));
        while cache.manager().get_stats().await.unwrap().pending_invalidations > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shelf.0.now.fetch_add(30_000, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_refused_announcement_leaves_the_earlier_ones() {
    let (shelf, table) = (Shelf::default(), Table::default());
    ["1", "2"].iter().for_each(|id| table.set(id, "old"));
    let params = |params: CacheParams<Shelf>| {
        params.with_on_cache_down(OnCacheDown::Refuse).with_l1(L1::Bounded(Duration::from_secs(60)))
    };
    let cache = with(&shelf, &table, params);
    let mut change = cache.announce(one()).await.unwrap();
    shelf.0.fail_announces.lock().unwrap().push(unreachable());
    assert!(change.announce(vec!["2".to_owned()]).await.is_err());
    ["1", "2"].iter().for_each(|id| table.set(id, "new"));
    change.settle().await.unwrap();
    assert_eq!(stats(&cache).await.invalidations, 1);
    assert_eq!(shelf.0.intents("app:users:2"), None);
    for id in ["1", "2"] {
        assert_eq!(name(&cache, id).await.as_deref(), Some("new"));
    }
}

/// Moves both clocks.
async fn pass(shelf: &Shelf, time: Duration) {
    shelf.0.now.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    tokio::time::advance(time).await;
    quiet().await;
}

#[tokio::test(start_paused = true)]
async fn intents_are_renewed_while_their_change_is_open() {
    let (shelf, table) = (Shelf::default(), Table::default());
    let cache = cache(&manager(&shelf), &table);
    let mut changes = Vec::new();
    for id in ["1", "2", "3"] {
        changes.push(cache.announce(vec![id.to_owned()]).await.unwrap());
    }
    for _ in 0..120 {
        pass(&shelf, Duration::from_secs(1)).await;
        for id in ["1", "2", "3"] {
            assert!(shelf.0.intents(&format!("app:users:{id}")).is_some());
        }
    }
    let renewals = shelf.0.renewals.load(Ordering::SeqCst);
    assert!((3 * 6..=3 * 12).contains(&renewals), "{renewals} renewals in four times the intent TTL");
    assert_eq!(shelf.0.announces.load(Ordering::SeqCst), 3);
    for change in changes {
        change.settle().await.unwrap();
    }
    for _ in 0..60 {
        pass(&shelf, Duration::from_secs(1)).await;
    }
    assert_eq!(shelf.0.renewals.load(Ordering::SeqCst), renewals);
    // The next one is renewed again.
    let change = cache.announce(one()).await.unwrap();
    for _ in 0..60 {
        pass(&shelf, Duration::from_secs(1)).await;
    }
    assert!(shelf.0.intents("app:users:1").is_some());
    change.withdraw().await;
    assert_eq!(stats(&cache).await.intents_lost, 0);
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_was_lost_is_placed_again() {
    let (shelf, table) = (Shelf::default(), Table::default());
    let cache = cache(&manager(&shelf), &table);
    let mut change = cache.announce(one()).await.unwrap();
    change.announce(vec!["2".to_owned()]).await.unwrap();
    shelf.0.keys.lock().unwrap().remove("app:users:1");
    for _ in 0..25 {
        pass(&shelf, Duration::from_secs(1)).await;
    }
    assert!(shelf.0.intents("app:users:1").is_some(), "by the renewal");

    // A process that stood still for longer than its intents last finds out before COMMIT.
    shelf.0.now.fetch_add(60_000, Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(60)).await;
    change.confirm().await.unwrap();
    for id in ["1", "2"] {
        assert!(shelf.0.intents(&format!("app:users:{id}")).is_some(), "{id}");
    }
    let commands = shelf.0.announces.load(Ordering::SeqCst) + shelf.0.renewals.load(Ordering::SeqCst);
    change.confirm().await.unwrap();
    assert_eq!(shelf.0.announces.load(Ordering::SeqCst) + shelf.0.renewals.load(Ordering::SeqCst), commands);
    change.settle().await.unwrap();
    for id in ["1", "2"] {
        assert_eq!(shelf.0.intents(&format!("app:users:{id}")), None);
    }

    // And one that nobody missed clears all the same.
    table.set("1", "old");
    let change = cache.announce(one()).await.unwrap();
    shelf.0.keys.lock().unwrap().clear();
    assert_eq!(name(&cache, "1").await.as_deref(), Some("old"));
    quiet().await;
    assert!(shelf.0.keys.lock().unwrap().contains_key("app:users:1"), "filled in its absence");
    table.set("1", "new");
    let lost = stats(&cache).await.intents_lost;
    change.settle().await.unwrap();
    assert_eq!(name(&cache, "1").await.as_deref(), Some("new"));
    assert_eq!(stats(&cache).await.intents_lost, lost + 1);
}

#[tokio::test]
async fn a_confirmation_that_fails_is_judged_as_an_announcement() {
    for (coherence, refuses) in [(Coherence::CrashSafe, false), (Coherence::Strict, true)] {
        let (shelf, table) = (Shelf::default(), Table::default());
        let config = CacheConfig::in_process(60, "app").with_intent_ttl(100).with_coherence(coherence);
        let manager = CacheManager::with_tier(config, shelf.clone()).unwrap();
        let cache = cache(&manager, &table);
        let oom = L2Error::Refused { code: "OOM".to_owned(), detail: String::new() };
        shelf.0.fail_announces.lock().unwrap().push(oom);
        let mut change = cache.announce(one()).await.unwrap();
        assert_eq!(stats(&cache).await.intents_refused, 1);
        shelf.0.fail_announces.lock().unwrap().push(unreachable());
        assert_eq!(change.confirm().await.is_err(), refuses);
        change.settle().await.unwrap();
    }
}

#[tokio::test]
async fn what_a_store_without_a_cache_writes_is_announced_for_others() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let writer = with(&shelf, &table, CacheParams::disabled);
    let change = writer.announce(one()).await.unwrap();
    assert!(shelf.0.intents("app:users:1").is_some());
    change.settle().await.unwrap();
    assert_eq!(shelf.0.intents("app:users:1"), None);
}

/// A row that is read past the tiers, as while it is written here, may be newer than what another read has put into the tier in
/// process meanwhile: who has seen it is not served the older one.
#[tokio::test]
async fn what_was_read_beside_a_write_is_not_followed_by_something_older() {
    let (shelf, table) = (Shelf::default(), Table::default());
    let store = near(&manager(&shelf), &table).await;
    let change = store.announce(one()).await.unwrap();
    // What the other process is about to commit.
    table.set("1", "new");
    table.0.selects.shut();
    let beside = tokio::spawn({
        let store = store.clone();
        async move { name(&store, "1").await }
    });
    table.0.selects.arrival().await;
    table.set("1", "old");
    change.settle().await.unwrap();
    let landed = store.get_many(&one()).await.unwrap();
    assert_eq!(landed[0].as_deref().map(String::as_str), Some("old"));
    let loads = table.loads();
    assert_eq!((name(&store, "1").await.as_deref(), table.loads()), (Some("old"), loads), "it stands in process");

    let elsewhere = cache(&manager(&shelf), &table).announce(one()).await.unwrap();
    table.set("1", "new");
    table.0.selects.open();
    assert_eq!(beside.await.unwrap().as_deref(), Some("new"));
    assert_eq!(name(&store, "1").await.as_deref(), Some("new"));
    elsewhere.settle().await.unwrap();
}
