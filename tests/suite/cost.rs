//! How many statements and Redis commands each operation takes, counted at sqlx and at a Redis server of the test's own.
//!
//! The counts of Redis include what its scripts do: a fill is one `EVALSHA`, with a `GET` and a `SET` inside; a lease
//! that is given back is one `EVALSHA`, with a `GET` and a `DEL` inside. A write takes two round trips: see [`written`].

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
        if l1 != L1::Off {
            assert!(haus.cache().unwrap().listen().await);
        }
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

/// What writes of so many rows send, in so many calls of each of two scripts: one that marks the rows before the statement,
/// one that clears them after it. A script looks at the clock once, reads its keys by one command, and marks each by one.
fn written(rows: u64, calls_each: u64) -> BTreeMap<String, u64> {
    let read = if rows == 1 { "get" } else { "mget" };
    let each = 2 * calls_each;
    calls([("evalsha", each), ("time", each), (read, each), ("set", rows), ("del", calls_each)])
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
        assert_eq!((verbs(&sql), redis), (vec!["INSERT"], written(1, 1)));

        // GET, a lease, and the fill.
        let (sql, redis) = counted.cost(async { store.get_by_id(&1i64).await.unwrap().unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], calls([("get", 2), ("set", 2), ("evalsha", 1)])));

        let (sql, redis) = counted.cost(async { store.get_by_id(&1i64).await.unwrap().unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec![], calls([("get", 1)])));

        let (sql, redis) = counted.cost(async { store.update(&1i64, item(1, "b")).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["UPDATE"], written(1, 1)));

        let (sql, redis) = counted.cost(async { store.upsert(item(1, "c")).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["INSERT"], written(1, 1)));

        // Nothing to cache: the lease is given back.
        let (sql, redis) = counted.cost(async { store.get_by_id(&9i64).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], calls([("get", 2), ("set", 1), ("evalsha", 1), ("del", 1)])));

        let (sql, redis) = counted.cost(async { store.delete(&1i64).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["DELETE"], written(1, 1)));

        // A write that certainly changed nothing takes its mark away again, behind its caller's back.
        let (sql, redis) = counted.cost(async { store.update(&1i64, item(1, "x")).await.unwrap_err() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["UPDATE"], written(1, 1)));

        // What asks for no single row asks the database alone.
        let (sql, redis) = counted.cost(async {
            store.list_all().await.unwrap();
            store.count().await.unwrap();
            store.exists(&1i64).await.unwrap()
        }).await;
        assert_eq!((verbs(&sql), redis), (vec!["SELECT", "SELECT", "SELECT"], calls([])));
    }

    once fn a_cold_cache_is_asked_for_the_lease_at_once(world) {
        let mut counted = Counted::new(world, L1::Off).await;
        let store = counted.haus.store::<Item>();
        store.create_many(items(40)).await.unwrap();
        for id in 1..=16 {
            store.get_by_id(&id).await.unwrap().unwrap();
        }
        let (sql, redis) = counted.cost(async { store.get_by_id(&17i64).await.unwrap().unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], calls([("get", 1), ("set", 2), ("evalsha", 1)])));
        // Its answer is the row where there is one, and the next read looks first.
        let (sql, redis) = counted.cost(async { store.get_by_id(&17i64).await.unwrap().unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec![], calls([("set", 1)])));
        let (sql, redis) = counted.cost(async { store.get_by_id(&17i64).await.unwrap().unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec![], calls([("get", 1)])));
        let (_, redis) = counted.cost(async { store.get_by_id(&18i64).await.unwrap().unwrap() }).await;
        assert_eq!(redis, calls([("get", 2), ("set", 2), ("evalsha", 1)]));
    }

    once fn misses_that_come_together_are_loaded_and_stored_together(world) {
        if world.is_sqlite() {
            return;
        }
        let mut counted = Counted::new(world, L1::Off).await;
        let store = counted.haus.store::<Item>();
        store.create_many(items(40)).await.unwrap();
        let (sql, redis) = counted.cost(async {
            let reads = (1..=40i64).map(|id| {
                let store = store.clone();
                tokio::spawn(async move { store.require(&id).await.unwrap().id == id })
            });
            let right = futures_util::future::join_all(reads.collect::<Vec<_>>()).await;
            assert!(right.into_iter().all(Result::unwrap));
        }).await;
        // How many turns of the runtime they take is the machine's affair.
        assert!(sql.len() <= 20, "{sql:?}");
        assert!(redis["evalsha"] <= 20, "{redis:?}");
        assert_eq!(redis["set"], 2 * 40, "leases and rows: {redis:?}");
        for id in 1..=40i64 {
            store.require(&id).await.unwrap();
        }
        assert_eq!(store.cache_manager().unwrap().get_stats().await.unwrap().hits, 40);
    }

    /// Whether the look finds it, or in a cold cache the lease.
    once fn a_value_of_another_type_is_replaced_by_one_load(world) {
        let mut counted = Counted::new(world, L1::Off).await;
        let store = counted.haus.store::<Item>();
        store.create_many(items(20)).await.unwrap();
        for cold in [false, true] {
            if cold {
                for id in 3..=18 {
                    store.get_by_id(&id).await.unwrap().unwrap();
                }
            }
            let id = 1 + i64::from(cold);
            let key = store.cache_key(&id).unwrap();
            let _: u64 = counted.admin.run(&["DEL", &key]).await;
            let _: u64 = counted.admin.run(&["LPUSH", &key, "x"]).await;
            let (sql, _) = counted.cost(async { store.get_by_id(&id).await.unwrap().unwrap() }).await;
            assert_eq!(verbs(&sql), vec!["SELECT"], "cold: {cold}");
            let (sql, _) = counted.cost(async { store.get_by_id(&id).await.unwrap().unwrap() }).await;
            assert_eq!(verbs(&sql), Vec::<&str>::new(), "cold: {cold}");
        }
    }

    once fn a_thousand_rows_through_redis(world) {
        let mut counted = Counted::new(world, L1::Off).await;
        let store = counted.haus.store::<Item>();
        let ids: Vec<i64> = (1..=1000).collect();

        // One statement, in a transaction: the rows are marked beside it.
        let only = |sql: &[String]| {
            assert_eq!(sql.iter().filter(|text| text.contains("items")).count(), 1, "{:?}", verbs(sql));
            assert!(sql.len() <= 3, "{:?}", verbs(sql));
        };
        let (sql, redis) = counted.cost(async { store.create_many(items(1000)).await.unwrap() }).await;
        only(&sql);
        assert_eq!(redis, written(1000, 8));

        let (sql, redis) = counted.cost(async { store.get_many(&ids[..400]).await.unwrap() }).await;
        let cold = calls([("mget", 1 + 4), ("set", 400 + 400), ("evalsha", 4)]);
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], cold));
        let (sql, redis) = counted.cost(async { store.get_many(&ids[400..500]).await.unwrap() }).await;
        let colder = calls([("mget", 1 + 1), ("set", 100 + 100), ("evalsha", 1)]);
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], colder));
        let (sql, redis) = counted.cost(async { store.get_many(&ids[..500]).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec![], calls([("mget", 1)])));
        let (sql, redis) = counted.cost(async { store.get_many(&ids).await.unwrap() }).await;
        let half = calls([("mget", 1 + 4), ("set", 500 + 500), ("evalsha", 4)]);
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], half));

        let (sql, redis) = counted.cost(async { store.get_many(&ids).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec![], calls([("mget", 1)])));

        let rows = ids.iter().map(|id| (*id, item(*id, &format!("u{id}")))).collect();
        let (sql, redis) = counted.cost(async { store.update_many(rows).await.unwrap() }).await;
        only(&sql);
        assert_eq!(redis, written(1000, 8));

        let (sql, redis) = counted.cost(async { store.upsert_many(items(1000)).await.unwrap() }).await;
        only(&sql);
        assert_eq!(redis, written(1000, 8));

        let (sql, redis) = counted.cost(async { store.delete_many(&ids).await.unwrap() }).await;
        only(&sql);
        assert_eq!(redis, written(1000, 8));
    }

    once fn a_transaction_through_redis(world) {
        let mut counted = Counted::new(world, L1::Off).await;
        let (haus, store) = (counted.haus.clone(), counted.haus.store::<Item>());
        store.create_many(items(5)).await.unwrap();

        // What begins it is not counted; SQLite is given an empty transaction after each COMMIT.
        let commit = if counted.world.is_sqlite() { "COMMIT;" } else { "COMMIT" };
        let (sql, redis) = counted.cost(async {
            haus.transaction(async |tx| {
                store.on(tx).update(&1i64, item(1, "x")).await?;
                store.on(tx).delete(&2i64).await?;
                store.on(tx).get_many(&[1, 2, 3]).await?;
                store.on(tx).upsert_many(vec![item(3, "y"), item(4, "z")]).await
            }).await.unwrap()
        }).await;
        let batch = ["SAVEPOINT", "INSERT", "RELEASE"];
        assert_eq!(verbs(&sql), [&["UPDATE", "DELETE", "SELECT"][..], &batch, &[commit]].concat());
        // Marked by three calls, each while its statement runs; cleared by one.
        let marked_by_three = [("evalsha", 4), ("time", 4), ("get", 2), ("mget", 2), ("set", 4), ("del", 1)];
        assert_eq!(redis, calls(marked_by_three));

        // What is undone is cleared with its savepoint, what is kept with the transaction.
        let (sql, redis) = counted.cost(async {
            haus.transaction(async |tx| {
                tx.savepoint(async |tx| store.on(tx).update(&1i64, item(1, "u")).await).await?;
                tx.savepoint(async |tx| store.on(tx).update(&99i64, item(99, "v")).await).await.unwrap_err();
                Ok(())
            }).await.unwrap()
        }).await;
        let kept = ["SAVEPOINT", "UPDATE", "RELEASE"];
        let undone = ["SAVEPOINT", "UPDATE", "ROLLBACK"];
        let sql: Vec<_> = verbs(&sql).into_iter().filter(|verb| *verb != "BEGIN").collect();
        assert_eq!(sql, [&kept[..], &undone, &[commit]].concat());
        let twice: BTreeMap<_, _> = written(1, 1).into_iter().map(|(command, count)| (command, 2 * count)).collect();
        assert_eq!(redis, twice);

        let (sql, redis) = counted.cost(async {
            let mut tx = haus.begin_with(TxOptions::new().read_only()).await.unwrap();
            store.on(&mut tx).get_by_id(&1i64).await.unwrap();
            tx.commit().await.unwrap();
        }).await;
        assert_eq!((verbs(&sql), redis), (vec!["SELECT", commit], calls([])));
    }

    once fn rows_kept_in_process_cost_nothing(world) {
        let mut counted = Counted::new(world, L1::Bounded(PATIENCE)).await;
        let store = counted.haus.store::<Item>();
        store.create_many(items(100)).await.unwrap();
        let ids: Vec<i64> = (1..=100).collect();
        let (sql, redis) = counted.cost(async { store.get_many(&ids).await.unwrap() }).await;
        let all = calls([("mget", 2), ("set", 200), ("evalsha", 1)]);
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], all));
        let (sql, redis) = counted.cost(async {
            for id in &ids {
                store.get_by_id(id).await.unwrap().unwrap();
            }
            store.get_many(&ids).await.unwrap()
        }).await;
        assert_eq!((verbs(&sql), redis), (vec![], calls([])));
        let (sql, redis) = counted.cost(async { store.update(&1i64, item(1, "x")).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["UPDATE"], written(1, 1)));
    }

    /// A hit asks Redis whether the row is the same, and gets 80 bytes for an answer.
    once fn a_validated_hit_costs_one_small_command(world) {
        let mut counted = Counted::new(world, L1::Validated).await;
        let store = counted.haus.store::<Item>();
        store.create(item(1, "a")).await.unwrap();
        let (sql, redis) = counted.cost(async { store.get_by_id(&1i64).await.unwrap().unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["SELECT"], calls([("get", 2), ("set", 2), ("evalsha", 1)])));
        let (sql, redis) = counted.cost(async {
            for _ in 0..10 {
                store.get_by_id(&1i64).await.unwrap().unwrap();
            }
        }).await;
        assert_eq!((verbs(&sql), redis), (vec![], calls([("getrange", 10)])));
        let (sql, redis) = counted.cost(async { store.get_many(&[1]).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec![], calls([("mget", 1)])));

        let (sql, redis) = counted.cost(async { store.update(&1i64, item(1, "b")).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["UPDATE"], written(1, 1)));
        assert_eq!(store.get_by_id(&1i64).await.unwrap(), Some(item(1, "b")));
    }

    /// Reads ask the database alone. Another process may cache what this one does not: writes invalidate for it.
    once fn a_disabled_store_reads_past_redis(world) {
        let mut counted = Counted::new(world, L1::Bounded(PATIENCE)).await;
        let store = counted.haus.store_with::<Item>(CacheParams::disabled);
        let (sql, redis) = counted.cost(async { store.create(item(1, "a")).await.unwrap() }).await;
        assert_eq!((verbs(&sql), redis), (vec!["INSERT"], written(1, 1)));
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
        let twice = written(1, 1).into_iter().map(|(command, count)| (command, 2 * count)).collect();
        assert_eq!((verbs(&sql), redis), (vec!["UPDATE", "DELETE"], twice));
    }

    /// Without marks a write is one round trip; one whose key the database makes has nothing to mark before it is made.
    once fn a_write_without_marks_is_one_round_trip(world) {
        let mut counted = Counted::new(world, L1::Off).await;
        let cleared = calls([("evalsha", 1), ("time", 1), ("get", 1), ("del", 1)]);
        let store = counted.haus.store_with::<Item>(|params| params.with_coherence(Coherence::Ttl));
        let (_, redis) = counted.cost(async { store.create(item(100, "a")).await.unwrap() }).await;
        assert_eq!(redis, cleared);
        let store = counted.haus.store::<Item>();
        let (_, redis) = counted.cost(async { store.create(item(0, "b")).await.unwrap() }).await;
        assert_eq!(redis, cleared);
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
        assert_eq!(kinds, ["del", "evalsha", "get", "mget", "set", "time"]);
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
