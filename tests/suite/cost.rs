//! How many statements and Redis commands each operation takes, counted at sqlx and at a Redis server of the test's own.
//!
//! The counts of Redis include what its scripts do: a fill is one `EVALSHA`, with a `GET` and a `SET` inside; a lease
//! that is given back is one `EVALSHA`, with a `GET` and a `DEL` inside.

use std::collections::BTreeMap;

use storehaus::backend::Backend;
use storehaus::prelude::*;

use crate::models::{Item, item};
use crate::server::{Admin, Server, calls};
use crate::world::{PATIENCE, World, patient, suite};

/// A store on a Redis of its own.
struct Counted<DB: Backend> {
    world: World<DB>,
    haus: StoreHaus<DB>,
    admin: Admin,
    _server: Server,
}

impl<DB: crate::world::TestDb> Counted<DB> {
    async fn new(world: World<DB>, l1: L1) -> Self
    where
        Item: storehaus::model::Persist<DB>,
    {
        let server = Server::start();
        let haus = world.behind(patient(&server.url(), "app").with_l1(l1));
        haus.create_missing_tables::<(Item,)>().await.unwrap();
        let mut admin = server.admin().await;
        // The connection is opened and greeted before anything is counted.
        haus.cache().unwrap().exists("none", "none").await.unwrap();
        admin.reset().await;
        Self { world, haus, admin, _server: server }
    }

    /// What an operation sends, fills behind its back included.
    async fn cost(&mut self, operation: impl Future) -> (Vec<String>, BTreeMap<String, u64>) {
        self.haus.cache().unwrap().settle().await;
        self.world.statements();
        self.admin.reset().await;
        operation.await;
        self.haus.cache().unwrap().settle().await;
        (self.world.statements(), self.admin.calls().await)
    }
}

/// The first words of statements.
fn verbs(statements: &[String]) -> Vec<&str> {
    statements.iter().map(|text| text.split_whitespace().next().unwrap_or_default()).collect()
}

fn items(count: i64) -> Vec<Item> {
    (1..=count).map(|n| item(n, &n.to_string())).collect()
}

suite! {
    once fn one_row_through_redis(world) {
        let mut counted = Counted::new(world, L1::Off).await;
        let store = counted.haus.store::<Item>();

        let (sql, redis) = counted.cost(async { store.create(item(1, "a")).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["INSERT"], calls([("del", 1)])));

        // GET, a lease, and the fill.
        let (sql, redis) = counted.cost(async { store.get_by_id(&1i64).await.unwrap().unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], calls([("get", 2), ("set", 2), ("evalsha", 1)])));

        let (sql, redis) = counted.cost(async { store.get_by_id(&1i64).await.unwrap().unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec![], calls([("get", 1)])));

        let (sql, redis) = counted.cost(async { store.update(&1i64, item(1, "b")).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["UPDATE"], calls([("del", 1)])));

        let (sql, redis) = counted.cost(async { store.upsert(item(1, "c")).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["INSERT"], calls([("del", 1)])));

        // Nothing to cache: the lease is given back.
        let (sql, redis) = counted.cost(async { store.get_by_id(&9i64).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], calls([("get", 2), ("set", 1), ("evalsha", 1), ("del", 1)])));

        let (sql, redis) = counted.cost(async { store.delete(&1i64).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["DELETE"], calls([("del", 1)])));

        // A write that certainly changed nothing leaves the cache alone.
        let (sql, redis) = counted.cost(async { store.update(&1i64, item(1, "x")).await.unwrap_err() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["UPDATE"], calls([])));

        // What asks for no single row asks the database alone.
        let (sql, redis) = counted.cost(async {
            store.list_all().await.unwrap();
            store.count().await.unwrap();
            store.exists(&1i64).await.unwrap()
        }).await;
        assert_eq!((verbs(&sql), redis), (vec!["SELECT", "SELECT", "SELECT"], calls([])));
    }

    once fn a_thousand_rows_through_redis(world) {
        let mut counted = Counted::new(world, L1::Off).await;
        let store = counted.haus.store::<Item>();
        let ids: Vec<i64> = (1..=1000).collect();

        let (sql, redis) = counted.cost(async { store.create_many(items(1000)).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["INSERT"], calls([("del", 1)])));

        store.get_many(&ids[..500]).await.unwrap();
        let (sql, redis) = counted.cost(async { store.get_many(&ids).await.unwrap() }).await;
        let half = calls([("mget", 1), ("set", 500 + 500), ("get", 500), ("evalsha", 500)]);
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], half));

        let (sql, redis) = counted.cost(async { store.get_many(&ids).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec![], calls([("mget", 1)])));

        let rows = ids.iter().map(|id| (*id, item(*id, &format!("u{id}")))).collect();
        let (sql, redis) = counted.cost(async { store.update_many(rows).await.unwrap() }).await;
        assert_eq!(redis, calls([("del", 1)]));
        assert_eq!(sql.iter().filter(|text| text.contains("items")).count(), 1, "{:?}", verbs(&sql));
        assert!(sql.len() <= 3, "{:?}", verbs(&sql));

        let (sql, redis) = counted.cost(async { store.upsert_many(items(1000)).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["INSERT"], calls([("del", 1)])));

        let (sql, redis) = counted.cost(async { store.delete_many(&ids).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["DELETE"], calls([("del", 1)])));
    }

    once fn rows_kept_in_process_cost_nothing(world) {
        let mut counted = Counted::new(world, L1::Bounded(PATIENCE)).await;
        let store = counted.haus.store::<Item>();
        store.create_many(items(100)).await.unwrap();
        let ids: Vec<i64> = (1..=100).collect();
        let (sql, redis) = counted.cost(async { store.get_many(&ids).await.unwrap() }).await;
        let all = calls([("mget", 1), ("set", 200), ("get", 100), ("evalsha", 100)]);
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], all));
        let (sql, redis) = counted.cost(async {
            for id in &ids {
                store.get_by_id(id).await.unwrap().unwrap();
            }
            store.get_many(&ids).await.unwrap()
        }).await;
        assert_eq!((verbs(&sql), redis), (vec![], calls([])));
        let (sql, redis) = counted.cost(async { store.update(&1i64, item(1, "x")).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["UPDATE"], calls([("del", 1)])));
    }

    /// Reads ask the database alone. Another process may cache what this one does not: writes invalidate for it.
    once fn a_disabled_store_reads_past_redis(world) {
        let mut counted = Counted::new(world, L1::Bounded(PATIENCE)).await;
        let store = counted.haus.store_with::<Item>(CacheParams::disabled);
        let (sql, redis) = counted.cost(async { store.create(item(1, "a")).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["INSERT"], calls([("del", 1)])));
        let (sql, redis) = counted.cost(async {
            for _ in 0..3 {
                store.get_by_id(&1i64).await.unwrap().unwrap();
            }
            store.get_many(&[1, 2]).await.unwrap()
        }).await;
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"; 4], calls([])));
        let (sql, redis) = counted.cost(async {
            store.update(&1i64, item(1, "b")).await.unwrap();
            store.delete(&1i64).await.unwrap()
        }).await;
        assert_eq!((verbs(&sql), redis), (vec!["UPDATE", "DELETE"], calls([("del", 2)])));
    }

    once fn each_read_of_an_uncached_store_is_a_statement(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let store = world.haus.store::<Item>();
        store.create(item(1, "a")).await.unwrap();
        world.statements();
        for _ in 0..3 {
            store.get_by_id(&1i64).await.unwrap().unwrap();
        }
        assert_eq!(verbs(&world.statements()), ["SELECT", "SELECT", "SELECT"]);
    }

    cached fn a_thousand_readers_of_one_missing_row_send_one_statement(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let store = world.haus.store::<Item>();
        store.create(item(1, "a")).await.unwrap();
        world.statements();
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let store = store.clone();
            readers.spawn(async move { store.get_by_id(&1i64).await.unwrap() });
        }
        while let Some(row) = readers.join_next().await {
            assert_eq!(row.unwrap(), Some(item(1, "a")));
        }
        assert_eq!(verbs(&world.statements()), ["SELECT"]);
        let stats = world.stats().await;
        assert_eq!((stats.loads, stats.hits() + stats.misses), (1, 1000));
    }

    /// Whatever a write invalidates, it never looks for keys.
    once fn no_write_searches_for_keys(world) {
        let mut counted = Counted::new(world, L1::Off).await;
        let store = counted.haus.store::<Item>();
        let (_, redis) = counted.cost(async {
            store.create_many(items(50)).await.unwrap();
            store.get_many(&[1, 2, 3]).await.unwrap();
            store.update(&1i64, item(1, "x")).await.unwrap();
            store.update_many(vec![(2, item(2, "y"))]).await.unwrap();
            store.delete_many(&[1, 2, 3]).await.unwrap()
        }).await;
        let kinds: Vec<&str> = redis.keys().map(String::as_str).collect();
        assert_eq!(kinds, ["del", "evalsha", "get", "mget", "set"]);
        let (_, redis) = counted.cost(async { counted_pattern(&counted_manager(&store)).await }).await;
        assert!(redis.contains_key("scan") && !redis.contains_key("keys") && !redis.contains_key("flushdb"), "{redis:?}");
    }
}

fn counted_manager<T: storehaus::model::Persist<DB>, DB: Backend>(store: &GenericStore<T, DB>) -> CacheManager {
    store.cache_manager().unwrap().clone()
}

async fn counted_pattern(manager: &CacheManager) {
    manager.set_record("notes", "a", &1i64, 60).await.unwrap();
    assert_eq!(manager.delete_pattern("notes:*").await.unwrap(), 1);
}
