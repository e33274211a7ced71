//! Connections that go from one operation of a store to the next, and back to the pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storehaus::prelude::*;
use storehaus::sqlx::postgres::PgPoolOptions;
use storehaus::sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::models::{Item, item};
use crate::world::{Tiers, World, run, until};

const CONNECTIONS: u32 = 8;

/// The database of a world on a pool of its own, and how often a connection came back to it.
async fn lent(world: &World<Postgres>) -> (StoreHaus<Postgres>, Arc<AtomicU64>) {
    let returns = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&returns);
    let options = (*world.haus.pool().connect_options()).clone().application_name(&world.name);
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).after_release(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(true) })
    });
    let haus = StoreHaus::builder().database(pool.connect_with(options).await.unwrap()).build().await.unwrap();
    haus.create_missing_tables::<(Item,)>().await.unwrap();
    haus.store::<Item>().create(item(1, "a")).await.unwrap();
    (haus, returns)
}

/// Reads with as many tasks at once as there are connections.
async fn read_by_all(items: &GenericStore<Item>) {
    let reads = (0..CONNECTIONS).map(|_| async {
        for _ in 0..20 {
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
        }
    });
    futures_util::future::join_all(reads).await;
}

fn are_all_back(haus: &StoreHaus<Postgres>) -> bool {
    haus.pool().num_idle() == haus.pool().size() as usize
}

#[test]
fn how_connections_are_used_is_told() {
    run(Tiers::None, |world: World<Postgres>| async move {
        let (haus, _) = lent(&world).await;
        let items = haus.store::<Item>();
        let mut held = world.haus.pool().begin().await.unwrap();
        held.execute("LOCK TABLE items").await.unwrap();
        let asked: Vec<_> = (0..CONNECTIONS + 2)
            .map(|_| {
                let items = items.clone();
                tokio::spawn(async move { items.exists(&1i64).await.unwrap() })
            })
            .collect();
        let used = || (haus.connections().open, haus.connections().idle, haus.connections().waiting);
        until("all are used, and two wait", || async { used() == (CONNECTIONS as usize, 0, 2) }).await;
        held.rollback().await.unwrap();
        assert!(futures_util::future::join_all(asked).await.into_iter().all(Result::unwrap));
        until("nobody uses one", || async { used() == (CONNECTIONS as usize, CONNECTIONS as usize, 0) }).await;
    });
}

#[test]
fn operations_hand_their_connection_on() {
    run(Tiers::None, |world: World<Postgres>| async move {
        let (haus, returns) = lent(&world).await;
        let items = haus.store::<Item>();
        until("the rest", || async { are_all_back(&haus) }).await;
        let before = returns.load(Ordering::Relaxed);
        for n in 0..100 {
            items.update(&1i64, item(1, &n.to_string())).await.unwrap();
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, &n.to_string())));
            items.create(item(1, "taken")).await.unwrap_err();
            assert!(items.exists(&1i64).await.unwrap());
        }
        let returned = returns.load(Ordering::Relaxed) - before;
        assert!(returned < 20, "{returned} returns of 400 operations");
        // And what nobody wants is the pool's again.
        until("the return", || async { are_all_back(&haus) }).await;
    });
}

#[test]
fn whoever_asks_the_pool_is_not_kept_waiting() {
    run(Tiers::None, |world: World<Postgres>| async move {
        let (haus, _) = lent(&world).await;
        let items = haus.store::<Item>();
        for _ in 0..3 {
            read_by_all(&items).await;
            let mut held = Vec::new();
            for _ in 0..CONNECTIONS {
                held.push(haus.pool().acquire().await.unwrap());
            }
            drop(held);
            read_by_all(&items).await;
            let mut begun = Vec::new();
            for _ in 0..CONNECTIONS {
                begun.push(haus.begin().await.unwrap());
            }
            // A read waits for its turn.
            let read = tokio::spawn({
                let items = items.clone();
                async move { items.get_by_id(&1i64).await }
            });
            begun.pop().unwrap().rollback().await.unwrap();
            assert_eq!(read.await.unwrap().unwrap(), Some(item(1, "a")));
        }
        haus.shutdown(crate::world::PATIENCE).await.unwrap();
        let error = items.get_by_id(&1i64).await.unwrap_err();
        assert!(matches!(error, StorehausError::Unavailable(_)), "{error:?}");
    });
}

/// As after a restart of the server: all that were open are broken, lent ones too.
#[test]
fn a_broken_connection_is_not_lent_twice() {
    run(Tiers::None, |world: World<Postgres>| async move {
        let (haus, _) = lent(&world).await;
        let items = haus.store::<Item>();
        let options = world.haus.pool().connect_options();
        let mut admin = PgConnection::connect_with(&options).await.unwrap();
        for _ in 0..5 {
            read_by_all(&items).await;
            let text = format!(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = '{}'",
                world.name
            );
            admin.execute(AssertSqlSafe(text)).await.unwrap();
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
            assert_eq!(items.update(&1i64, item(1, "a")).await.unwrap(), item(1, "a"));
        }
    });
}

/// As a store is left behind by a program that ends.
#[test]
fn a_store_may_outlive_its_runtime() {
    run(Tiers::None, |world: World<Postgres>| async move {
        let options = world.haus.pool().connect_options();
        let name = world.name.clone();
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        world.haus.store::<Item>().create(item(1, "a")).await.unwrap();
        let left = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let options = (*options).clone().application_name(&name);
            let haus = runtime.block_on(async {
                let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await.unwrap();
                let haus = StoreHaus::builder().database(pool).build().await.unwrap();
                read_by_all(&haus.store::<Item>()).await;
                haus
            });
            drop(runtime);
            drop(haus);
        });
        left.join().unwrap();
        let open = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}'", world.name);
        until("their end", || async { world.number(&open).await == 0 }).await;
    });
}
