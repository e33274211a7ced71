//! Schedules in which a cache could serve what was acknowledged to be gone, step by step against a tier in memory.

#[path = "coherence/shelf.rs"]
mod shelf;

use std::sync::atomic::Ordering;
use std::time::Duration;

use storehaus_cache::l2::L2Error;
use storehaus_cache::record::RecordCache;
use storehaus_cache::{CacheParams, L1};

use self::shelf::{Cache, STORE, Shelf, Table, cache, manager, name};

#[tokio::test]
async fn a_store_that_caches_nothing_invalidates_what_other_processes_cache() {
    let (shelf, table) = (Shelf::default(), Table::default());
    table.set("1", "old");
    let (here, there) = (manager(&shelf), manager(&shelf));
    let reader = cache(&there, &table);
    assert_eq!(name(&reader, "1").await.as_deref(), Some("old"));
    there.settle().await;

    let writer: Cache =
        RecordCache::new(table.clone(), CacheParams::new(here).disabled(), &STORE).unwrap();
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
    let params = CacheParams::new(manager.clone()).with_l1(L1::Bounded(Duration::from_secs(60)));
    let cache: Cache = RecordCache::new(table.clone(), params, &STORE).unwrap();
    assert_eq!(name(&cache, "1").await.as_deref(), Some("old"));

    table.set("1", "new");
    shelf.0.deletes.shut();
    let keys = ["1".to_owned()];
    tokio::select! {
        biased;
        () = cache.invalidate(&keys) => panic!("the removal is held"),
        () = shelf.0.deletes.arrival() => {}
    }
    assert_eq!(name(&cache, "1").await.as_deref(), Some("new"));
}
