//! The auditor: what it finds, what it does not mistake for a violation, and what it costs.

#![cfg(feature = "redis")]

#[expect(dead_code, reason = "shared with other tests")]
#[path = "coherence/hub.rs"]
mod hub;
mod log;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "record/script.rs"]
mod script;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "coherence/shelf.rs"]
mod shelf;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use storehaus_cache::record::RecordCache;
use storehaus_cache::{AuditOptions, CacheConfig, CacheManager, CacheParams, L1, StoreStats};

use self::script::{PATIENCE, Server};
use self::shelf::{STORE, Table};

type Cache = RecordCache<Table>;

fn cache(config: CacheConfig, table: &Table) -> Cache {
    log::watch();
    RecordCache::new(table.clone(), CacheParams::new(CacheManager::new(config).unwrap()), &STORE).unwrap()
}

async fn stats(cache: &Cache) -> StoreStats {
    cache.manager().get_stats().await.unwrap().total
}

/// Waits until the counters of a store are as they must become.
async fn until(cache: &Cache, what: &str, reached: impl Fn(&StoreStats) -> bool) -> StoreStats {
    let wait = async {
        loop {
            let stats = stats(cache).await;
            if reached(&stats) {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not {what} within {PATIENCE:?}"))
}

/// Audits every hit, soon.
fn eager() -> AuditOptions {
    AuditOptions::new(1.0).with_grace(Duration::from_millis(30)).with_max_per_second(1_000)
}

/// The errors logged so far by this test.
fn errors() -> Vec<String> {
    log::lines().into_iter().filter(|line| line.starts_with("ERROR")).collect()
}

#[tokio::test]
async fn a_stale_value_injected_into_redis_is_found_with_its_story() {
    let server = Server::start();
    let table = Table::default();
    table.set("secret-id", "secret old");
    let cache = cache(server.config(), &table);
    let key = cache.key("secret-id");
    cache.get("secret-id").await.unwrap();
    cache.manager().settle().await;
    let stale = server.content(&key).await.unwrap();
    table.set("secret-id", "secret new");
    cache.invalidate(&["secret-id".to_owned()]).await;
    server.put(&key, &stale).await;

    cache.manager().audit(eager()).unwrap();
    for _ in 0..10 {
        cache.get("secret-id").await.unwrap();
    }
    let stats = until(&cache, "found", |stats| stats.audit_violations == 1).await;
    assert_eq!((stats.audited, stats.audits_skipped), (1, 0));
    let lines = errors();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let digest = format!("{:016x}", cache.explain("secret-id").await.digest);
    for part in
        ["older than the database", "store=\"users\"", &digest, "redis holds a row of ", "by this store", "by a write"]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!line.contains("secret"), "{line}");
    // In a batch too; and one entry is one violation.
    cache.get_many(&["secret-id".to_owned()]).await.unwrap();
    table.set("2", "old");
    cache.get_many(&["2".to_owned()]).await.unwrap();
    cache.manager().settle().await;
    table.set("2", "new");
    cache.get_many(&["2".to_owned()]).await.unwrap();
    until(&cache, "found", |stats| stats.audit_violations == 2).await;
    assert_eq!(errors().len(), 2);
    assert!(cache.manager().get_stats().await.unwrap().to_string().ends_with("audited 2 (2 violations)"));
}

#[tokio::test]
async fn a_row_changed_behind_an_entry_in_process_is_found() {
    let table = Table::default();
    let cache = cache(CacheConfig::in_process(60, "app"), &table);
    cache.manager().audit(eager()).unwrap();
    for id in ["1", "2", "3"] {
        table.set(id, "old");
        cache.get(id).await.unwrap();
    }
    table.set("1", "new");
    table.0.rows.lock().unwrap().remove("2");
    table.set("3", "new");
    cache.get("1").await.unwrap();
    cache.get_many(&["2".to_owned()]).await.unwrap();
    cache.get("3").await.unwrap();
    // A write, late: its entry is gone when it is compared.
    cache.invalidate(&["3".to_owned()]).await;
    let stats = until(&cache, "audited", |stats| stats.audited == 3).await;
    assert_eq!((stats.audit_violations, stats.audits_skipped), (2, 0));
}

#[tokio::test]
async fn an_entry_that_was_replaced_is_not_the_one_that_was_served() {
    let server = Server::start();
    for config in [server.config(), CacheConfig::in_process(60, "app")] {
        let table = Table::default();
        table.set("1", "old");
        let cache = cache(config, &table);
        cache.get("1").await.unwrap();
        cache.manager().settle().await;
        cache.manager().audit(eager().with_grace(Duration::from_millis(300))).unwrap();
        cache.get("1").await.unwrap();
        table.set("1", "new");
        cache.invalidate(&["1".to_owned()]).await;
        cache.get("1").await.unwrap();
        cache.manager().settle().await;
        // Out of date, and nobody was served from it.
        table.set("1", "newest");
        let stats = until(&cache, "audited", |stats| stats.audited == 1).await;
        assert_eq!(stats.audit_violations, 0);
    }
}

#[tokio::test]
async fn an_entry_within_the_bound_of_its_tier_is_no_violation() {
    let server = Server::start();
    let table = Table::default();
    table.set("1", "old");
    let bound = Duration::from_secs(2);
    let reader = cache(server.config().with_l1(L1::Bounded(bound)), &table);
    assert!(reader.manager().listen().await);
    reader.manager().audit(eager()).unwrap();
    reader.get("1").await.unwrap();
    reader.manager().settle().await;
    table.set("1", "new");
    // By a process that ends before it can tell of its write.
    server.run::<u64>(&[b"DEL", b"app:users:1"]).await;
    assert_eq!(reader.get("1").await.unwrap().as_deref().map(String::as_str), Some("old"));
    let stats = until(&reader, "audited", |stats| stats.audited == 1).await;
    assert_eq!(stats.audit_violations, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writes_at_once_are_no_violation() {
    const KEYS: usize = 300;
    let server = Server::start();
    let table = Table::default();
    let ids: Vec<String> = (0..KEYS).map(|n| n.to_string()).collect();
    ids.iter().for_each(|id| table.set(id, "0"));
    let bounded = L1::Bounded(Duration::from_millis(100));
    let caches = [cache(server.config(), &table), cache(server.config().with_l1(bounded), &table)];
    for cache in &caches {
        let options = AuditOptions::new(0.5).with_grace(Duration::from_millis(500)).with_max_per_second(1_000);
        cache.manager().audit(options).unwrap();
    }
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for (n, cache) in caches.iter().cycle().take(8).enumerate() {
        let (cache, table, ids, over) = (cache.clone(), table.clone(), ids.clone(), Arc::clone(&over));
        tasks.push(tokio::spawn(async move {
            let mut step = n;
            while !over.load(Ordering::Relaxed) {
                step = (step * 5 + 7) % (KEYS * 31);
                let id = &ids[step % KEYS];
                if n < 2 {
                    let change = cache.announce(vec![id.clone()]).await.unwrap();
                    table.set(id, &step.to_string());
                    change.settle().await.unwrap();
                } else if n < 4 {
                    cache.get_many(&ids[step % KEYS..]).await.unwrap();
                } else {
                    cache.get(id).await.unwrap();
                }
                tokio::task::yield_now().await;
            }
        }));
    }
    for cache in &caches {
        until(cache, "audited", |stats| stats.audited >= 300).await;
    }
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    for cache in &caches {
        assert_eq!(stats(cache).await.audit_violations, 0);
    }
}

#[tokio::test]
async fn off_it_costs_nothing_and_on_it_is_bounded() {
    let server = Server::start();
    let table = Table::default();
    table.set("1", "row");
    let cache = cache(server.config(), &table);
    cache.get("1").await.unwrap();
    cache.manager().settle().await;
    let gets = async || {
        let text: String = server.run(&[b"INFO", b"commandstats"]).await;
        let count = text.split("cmdstat_get:calls=").nth(1).unwrap();
        count.split(',').next().unwrap().parse::<usize>().unwrap()
    };
    let (before, loads) = (gets().await, table.loads());
    for options in [None, Some(AuditOptions::new(0.0))] {
        options.into_iter().for_each(|options| cache.manager().audit(options).unwrap());
        for _ in 0..50 {
            cache.get("1").await.unwrap();
        }
    }
    assert_eq!((gets().await, table.loads()), (before + 100, loads));

    // One waits; there is no room for another.
    let options = eager().with_grace(Duration::from_millis(500)).with_max_waiting(1);
    cache.manager().audit(options).unwrap();
    let before = gets().await;
    cache.get("1").await.unwrap();
    cache.get("1").await.unwrap();
    assert_eq!(stats(&cache).await.audits_skipped, 1);
    until(&cache, "audited", |stats| stats.audited == 1).await;
    assert_eq!((gets().await, table.loads()), (before + 4, loads + 1));
    cache.manager().audit(AuditOptions::new(0.0)).unwrap();
    cache.get("1").await.unwrap();
    assert_eq!(stats(&cache).await.audits_skipped, 1);
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_skipped() {
    let table = Table::default();
    table.set("1", "row");
    let cache = cache(CacheConfig::in_process(60, "app").with_load_timeout(50), &table);
    cache.get("1").await.unwrap();
    cache.manager().audit(eager()).unwrap();
    table.0.selects.shut();
    cache.get("1").await.unwrap();
    let stats = until(&cache, "skipped", |stats| stats.audits_skipped == 1).await;
    assert_eq!((stats.audited, stats.audit_violations), (0, 0));
    assert_eq!((stats.misses, stats.loads), (1, 1), "comparisons are no reads");
}
