//! Schedules in which a cache could serve what was acknowledged to be gone, step by step against a tier in memory.

#[path = "coherence/bus.rs"]
mod bus;
#[path = "coherence/hub.rs"]
mod hub;
#[path = "coherence/intents.rs"]
mod intents;
#[path = "coherence/shelf.rs"]
mod shelf;

use std::sync::atomic::Ordering;
use std::time::Duration;

use storehaus_cache::l2::L2Error;
use storehaus_cache::record::RecordCache;
use storehaus_cache::{CacheConfig, CacheManager, CacheParams};

use self::shelf::{Cache, STORE, Shelf, Table, cache, manager, name, near, reading};

#[tokio::test]
async fn a_store_that_caches_nothing_invalidates_what_other_processes_cache() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let (here, there) = (manager(&shelf), manager(&shelf));
    let reader = cache(&there, &table);
    assert_eq!(name(&reader, "1").await.as_deref(), Some("old"));
    there.settle().await;

    let writer: Cache = RecordCache::new(table.clone(), CacheParams::new(here).disabled(), &STORE).unwrap();
    table.set("1", "new");
    writer.invalidate(&["1".to_owned()]).await;
    assert_eq!(name(&reader, "1").await.as_deref(), Some("new"));
}

#[test]
fn a_probe_lost_with_its_runtime_is_started_again_by_the_next_read() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "row");
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    shelf.0.fail_gets.lock().unwrap().push(L2Error::Connection("gone".to_owned()));
    shelf.0.probes.shut();
    let first = runtime();
    first.block_on(async {
        assert_eq!(name(&cache, "1").await.as_deref(), Some("row"));
        shelf.0.probes.arrival().await;
    });
    drop(first);
    runtime().block_on(async {
        assert_eq!(name(&cache, "1").await.as_deref(), Some("row"));
        let probe = tokio::time::timeout(Duration::from_secs(5), shelf.0.probes.arrival()).await;
        assert!(probe.is_ok(), "nobody asks whether the server is back");
    });
}

#[tokio::test]
async fn a_dropped_invalidation_still_removes_what_is_held_in_process() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let manager = manager(&shelf);
    let cache = near(&manager, &table).await;
    assert_eq!(name(&cache, "1").await.as_deref(), Some("old"));

    table.set("1", "new");
    shelf.0.clears.shut();
    let keys = ["1".to_owned()];
    tokio::select! {
        biased;
        () = cache.invalidate(&keys) => panic!("the removal is held"),
        () = shelf.0.clears.arrival() => {}
    }
    assert_eq!(name(&cache, "1").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_lease_shown_for_another_key_joins_nothing() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "one");
    table.set("2", "two");
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    table.0.selects.shut();
    let first = reading(&cache, "1");
    table.0.selects.arrival().await;

    // The answers of this connection are shifted by one: the GET of row 2 gets what belongs to row 1.
    let lease = shelf.0.keys.lock().unwrap()["app:users:1"].clone();
    *shelf.0.next_get.lock().unwrap() = Some(lease);
    let second = reading(&cache, "2");
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    table.0.selects.pass_one();
    table.0.selects.pass_one();
    assert_eq!(first.await.unwrap().as_deref(), Some("one"));
    assert_eq!(second.await.unwrap().as_deref(), Some("two"));
}

#[tokio::test]
async fn the_entry_of_another_key_is_not_served_and_costs_the_connections() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "one");
    table.set("2", "two");
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    assert_eq!(name(&cache, "1").await.as_deref(), Some("one"));
    manager.settle().await;
    let entry = shelf.0.keys.lock().unwrap()["app:users:1"].clone();
    *shelf.0.next_get.lock().unwrap() = Some(entry.clone());
    assert_eq!(name(&cache, "2").await.as_deref(), Some("two"));
    assert_eq!(shelf.0.resets.load(Ordering::SeqCst), 1);

    *shelf.0.next_get.lock().unwrap() = Some(entry);
    assert!(manager.get_record::<String>("users", "2").await.is_err());
    assert_eq!(shelf.0.resets.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_lease_that_a_restored_server_shows_again_joins_nothing() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    table.0.selects.shut();
    let before = reading(&cache, "1");
    table.0.selects.arrival().await;
    let snapshot = shelf.0.keys.lock().unwrap().clone();

    table.set("1", "new");
    cache.invalidate(&["1".to_owned()]).await;
    *shelf.0.keys.lock().unwrap() = snapshot;
    shelf.0.incarnation.store(1, Ordering::SeqCst);

    let after = reading(&cache, "1");
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    table.0.selects.pass_one();
    assert_eq!(before.await.unwrap().as_deref(), Some("old"));
    table.0.selects.pass_one();
    assert_eq!(after.await.unwrap().as_deref(), Some("new"));
}

#[tokio::test]
async fn a_reader_that_goes_away_leaves_no_lease_without_a_holder() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "row");
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    shelf.0.leases.shut();
    tokio::select! {
        biased;
        _ = cache.get("1") => panic!("the reply to the lease is held"),
        () = shelf.0.leases.arrival() => {}
    }
    shelf.0.leases.pass_one();
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    assert_eq!(table.loads(), 1, "the load goes on without its reader");
    manager.settle().await;
    assert_eq!(name(&cache, "1").await.as_deref(), Some("row"));
    assert_eq!(table.loads(), 1);
}

#[tokio::test]
async fn a_batch_replaces_what_must_not_be_served() {
    let (shelf, table) = (Shelf::default(), Table::default());
    let ids = ["1".to_owned(), "2".to_owned(), "3".to_owned()];
    ids.iter().for_each(|id| table.set(id, "row"));
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    cache.get_many(&ids).await.unwrap();
    manager.settle().await;

    // Another server is promoted: nothing it has may be served.
    shelf.0.incarnation.store(1, Ordering::SeqCst);
    for _ in 0..3 {
        cache.get_many(&ids).await.unwrap();
        manager.settle().await;
    }
    assert_eq!(table.loads(), 2, "one per incarnation");
}

#[tokio::test(start_paused = true)]
async fn a_value_set_by_hand_is_stored_though_the_first_reply_was_lost() {
    let shelf = Shelf::default();
    let manager = manager(&shelf);
    shelf.0.fail_leases.lock().unwrap().push(L2Error::Connection("reset by peer".to_owned()));
    assert!(manager.set_record("temp", "1", &"one".to_owned(), 60).await.unwrap());
    assert_eq!(manager.get_record::<String>("temp", "1").await.unwrap().as_deref(), Some("one"));
}

#[tokio::test]
async fn a_value_set_before_its_store_exists_does_not_outlive_a_write() {
    let table = Table::default();
    let manager: CacheManager = CacheManager::new(CacheConfig::in_process(60, "app")).unwrap();
    assert!(manager.set_record("users", "1", &"old".to_owned(), 60).await.unwrap());
    let store = RecordCache::new(table.clone(), CacheParams::new(manager.clone()), &STORE).unwrap();
    store.invalidate(&["1".to_owned()]).await;
    assert_eq!(manager.get_record::<String>("users", "1").await.unwrap(), None);
    assert!(!manager.exists("users", "1").await.unwrap());
}

#[tokio::test]
async fn a_load_that_a_write_overtook_is_refused_once() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let manager = manager(&shelf);
    let cache = near(&manager, &table).await;
    table.0.selects.shut();
    let overtaken = reading(&cache, "1");
    table.0.selects.arrival().await;
    table.set("1", "new");
    cache.invalidate(&["1".to_owned()]).await;
    table.0.selects.pass_one();
    assert_eq!(overtaken.await.unwrap().as_deref(), Some("old"));
    manager.settle().await;
    table.0.selects.pass_one();
    assert_eq!(name(&cache, "1").await.as_deref(), Some("new"));
    manager.settle().await;
    let total = manager.get_stats().await.unwrap().total;
    assert_eq!((total.fills, total.fills_refused, total.loads), (1, 1, 2));
}

#[tokio::test]
async fn a_row_of_another_key_is_served_and_not_kept() {
    let (shelf, table) = (Shelf::default(), Table::default());
    // As a database whose text ignores case: it finds the row of "bob" under "BOB" too.
    table.set("BOB", "row of bob");
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    for loads in 1..=3 {
        assert_eq!(name(&cache, "BOB").await.as_deref(), Some("row of bob"));
        manager.settle().await;
        assert_eq!(table.loads(), loads, "kept under a key that no write invalidates");
    }
    assert_eq!(*shelf.0.keys.lock().unwrap(), std::collections::BTreeMap::new());
}

#[tokio::test]
async fn large_batches_are_read_in_parts() {
    let (shelf, table) = (Shelf::default(), Table::default());
    let ids: Vec<String> = (0..2_500).map(|id| id.to_string()).collect();
    ids.iter().for_each(|id| table.set(id, "row"));
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    assert!(cache.get_many(&ids).await.unwrap().iter().all(Option::is_some));
    manager.settle().await;
    assert_eq!((shelf.0.many_gets.load(Ordering::SeqCst), table.loads()), (3, 3));
    assert!(cache.get_many(&ids).await.unwrap().iter().all(Option::is_some));
    assert_eq!((shelf.0.many_gets.load(Ordering::SeqCst), table.loads()), (6, 3));
}

#[tokio::test]
async fn what_is_owed_is_removed_before_anything_is_read() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    assert_eq!(name(&cache, "1").await.as_deref(), Some("old"));
    manager.settle().await;
    assert_eq!(shelf.0.keys.lock().unwrap().len(), 1);

    table.set("1", "new");
    drop(cache.announce(vec!["1".to_owned()]).await.unwrap());
    assert_eq!(name(&cache, "1").await.as_deref(), Some("new"));
    assert_eq!(manager.get_stats().await.unwrap().total.bypassed, 1);
}

#[tokio::test]
async fn a_load_does_not_fill_under_the_lease_of_another_process() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let (here, there) = (manager(&shelf), manager(&shelf));
    let (slow, quick) = (cache(&here, &table), cache(&there, &table));
    table.0.selects.shut();
    let overtaken = reading(&slow, "1");
    table.0.selects.arrival().await;
    table.set("1", "new");
    quick.invalidate(&["1".to_owned()]).await;
    let later = reading(&quick, "1");
    table.0.selects.arrival().await;

    // The key holds a lease again, but not the one of the first load.
    table.0.selects.pass_one();
    assert_eq!(overtaken.await.unwrap().as_deref(), Some("old"));
    here.settle().await;
    assert_eq!(here.get_stats().await.unwrap().total.fills_refused, 1);
    table.0.selects.pass_one();
    assert_eq!(later.await.unwrap().as_deref(), Some("new"));
    there.settle().await;
    assert_eq!(name(&slow, "1").await.as_deref(), Some("new"));
    assert_eq!(table.loads(), 2, "the second load was kept");
}

/// Reads rows that are not there until reads ask for a lease without a look.
async fn grow_cold(cache: &Cache) {
    for missing in 100..116 {
        assert_eq!(name(cache, &missing.to_string()).await, None);
    }
}

#[tokio::test]
async fn reads_that_find_a_lease_asked_for_share_the_load_under_it() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "row");
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    grow_cold(&cache).await;
    manager.settle().await;
    let (asked, loads) = (shelf.0.asked.load(Ordering::SeqCst), table.loads());
    shelf.0.leases.shut();
    let read = || reading(&cache, "1");
    let first = read();
    shelf.0.leases.arrival().await;
    let others = [read(), read(), read()];
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    shelf.0.leases.open();
    assert_eq!(first.await.unwrap().as_deref(), Some("row"));
    for other in others {
        assert_eq!(other.await.unwrap().as_deref(), Some("row"));
    }
    assert_eq!((shelf.0.asked.load(Ordering::SeqCst) - asked, table.loads() - loads), (1, 1));
    assert_eq!(manager.get_stats().await.unwrap().total.joined, 3);
}

#[tokio::test]
async fn the_answer_to_a_lease_asked_for_earlier_is_not_shared() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let (here, there) = (manager(&shelf), manager(&shelf));
    let (cold, other) = (cache(&here, &table), cache(&there, &table));
    grow_cold(&cold).await;
    assert_eq!(name(&other, "1").await.as_deref(), Some("old"));
    there.settle().await;
    shelf.0.leases.shut();
    let first = reading(&cold, "1");
    shelf.0.leases.arrival().await;
    // The answer is on its way: the old row.
    table.set("1", "new");
    cold.invalidate(&["1".to_owned()]).await;
    let second = reading(&cold, "1");
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    shelf.0.leases.open();
    assert_eq!(first.await.unwrap().as_deref(), Some("old"));
    assert_eq!(second.await.unwrap().as_deref(), Some("new"));
}

#[tokio::test]
async fn a_load_that_began_before_a_write_is_not_shared_after_it() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    grow_cold(&cache).await;
    table.0.selects.shut();
    let first = reading(&cache, "1");
    table.0.selects.arrival().await;
    table.set("1", "new");
    cache.invalidate(&["1".to_owned()]).await;
    table.0.selects.pass_one();
    table.0.selects.pass_one();
    assert_eq!(name(&cache, "1").await.as_deref(), Some("new"));
    assert_eq!(first.await.unwrap().as_deref(), Some("old"));
}

#[tokio::test]
async fn a_flush_takes_the_permission_of_a_load_along() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let manager = manager(&shelf);
    let cache = cache(&manager, &table);
    table.0.selects.shut();
    let overtaken = reading(&cache, "1");
    table.0.selects.arrival().await;
    // The write finds nothing to clear: the load must not take that for leave to fill.
    shelf.0.keys.lock().unwrap().clear();
    table.set("1", "new");
    cache.invalidate(&["1".to_owned()]).await;
    table.0.selects.pass_one();
    assert_eq!(overtaken.await.unwrap().as_deref(), Some("old"));
    manager.settle().await;
    table.0.selects.pass_one();
    assert_eq!(name(&cache, "1").await.as_deref(), Some("new"));
    assert_eq!(manager.get_stats().await.unwrap().total.fills_refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_another_process_is_not_joined_across_a_failover() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let (here, there) = (manager(&shelf), manager(&shelf));
    let (holder, waiting) = (cache(&here, &table), cache(&there, &table));
    table.0.selects.shut();
    let first = reading(&holder, "1");
    table.0.selects.arrival().await;
    let snapshot = shelf.0.keys.lock().unwrap().clone();

    // The other process finds the lease, waits, finds it gone, and loads by itself.
    let second = reading(&waiting, "1");
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    shelf.0.keys.lock().unwrap().clear();
    table.0.selects.arrival().await;

    table.set("1", "new");
    holder.invalidate(&["1".to_owned()]).await;
    *shelf.0.keys.lock().unwrap() = snapshot;
    shelf.0.incarnation.store(1, Ordering::SeqCst);
    let third = reading(&waiting, "1");
    for _ in 0..16 {
        tokio::task::yield_now().await;
    }
    (0..3).for_each(|_| table.0.selects.pass_one());
    assert_eq!(third.await.unwrap().as_deref(), Some("new"));
    assert_eq!(first.await.unwrap().as_deref(), Some("old"));
    assert_eq!(second.await.unwrap().as_deref(), Some("old"));
}
