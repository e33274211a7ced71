//! Transactions beside each other: isolation, conflicts, retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use storehaus::prelude::*;
use storehaus::sqlx;
use tokio::sync::Barrier;

use super::{all_connections_are_free, stock, stocked};
use crate::models::Item;
use crate::world::{Tiers, World, run, suite};

/// What the last transaction of a test writes.
const LAST: i32 = 40;

suite! {
    every fn the_isolation_level_is_the_one_asked_for(world) {
        if world.is_sqlite() {
            // One level, whatever is asked for: a reader keeps its snapshot beside a writer.
            let items = stocked(&world, 1).await;
            for isolation in [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable] {
                let options = TxOptions::new().isolation(isolation).read_only();
                let mut tx = world.haus.begin_with(options).await.unwrap();
                let before = items.on(&mut tx).require(&1i64).await.unwrap();
                items.update(&1i64, stock(1, before.stock + 1)).await.unwrap();
                assert_eq!(items.on(&mut tx).require(&1i64).await.unwrap(), before);
            }
            return;
        }
        for (isolation, expected) in [
            (None, "read committed"),
            (Some(Isolation::ReadCommitted), "read committed"),
            (Some(Isolation::RepeatableRead), "repeatable read"),
            (Some(Isolation::Serializable), "serializable"),
        ] {
            for read_only in [false, true] {
                let options = isolation.map_or(TxOptions::new(), |level| TxOptions::new().isolation(level));
                let options = if read_only { options.read_only() } else { options };
                let shown = world.haus.transaction_with(options, async |tx| {
                    let sql = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')";
                    Ok(sqlx::query_as::<_, (String, String)>(sql).fetch_one(tx.as_postgres().unwrap()).await?)
                }).await.unwrap();
                assert_eq!(shown, (expected.to_owned(), if read_only { "on" } else { "off" }.to_owned()));
            }
        }
    }

    /// A read that starts after a transaction was committed sees it, whatever other readers do meanwhile.
    every fn readers_see_every_committed_transaction(world) {
        let items = stocked(&world, 4).await;
        let committed = Arc::new(AtomicI32::new(1));
        let mut readers = tokio::task::JoinSet::new();
        for reader in 0..6 {
            let (items, committed) = (items.clone(), Arc::clone(&committed));
            readers.spawn(async move {
                let mut reads = 0;
                loop {
                    let least = committed.load(Ordering::SeqCst);
                    let row = items.require(&(reader % 4 + 1)).await.unwrap();
                    assert!(row.stock >= least, "read {} after {least} was committed", row.stock);
                    reads += 1;
                    if least == LAST {
                        return reads;
                    }
                }
            });
        }
        for next in 2..=LAST {
            world.haus.transaction(async |tx| {
                items.on(tx).update(&1i64, stock(1, next)).await?;
                tx.savepoint(async |tx| items.on(tx).update(&2i64, stock(2, next)).await).await?;
                items.on(tx).update_many(vec![(3, stock(3, next)), (4, stock(4, next))]).await
            }).await.unwrap();
            committed.store(next, Ordering::SeqCst);
        }
        while let Some(reads) = readers.join_next().await {
            assert!(reads.unwrap() > 0);
        }
    }

    /// Increments that read, add and write: none is lost.
    every fn concurrent_transactions_lose_no_update(world) {
        let items = stocked(&world, 1).await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let (haus, items) = (world.haus.clone(), items.clone());
            tasks.spawn(async move {
                let options = TxOptions::new().isolation(Isolation::RepeatableRead).attempts(1000);
                for _ in 0..5 {
                    haus.transaction_with_retry(options, || async |tx| {
                        let row = items.on(tx).require(&1i64).await?;
                        items.on(tx).update(&1i64, stock(1, row.stock + 1)).await
                    })
                    .await
                    .unwrap();
                    items.get_by_id(&1i64).await.unwrap();
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 16)));
        all_connections_are_free(&world).await;
    }
}

/// Two transactions, each of which meets the other at its first attempt only. How many attempts they took together.
async fn meeting<F, Fut>(options: TxOptions, transaction: F) -> u32
where
    F: Fn(TxOptions, usize, Arc<AtomicU32>, Arc<Barrier>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (attempts, barrier) = (Arc::new(AtomicU32::new(0)), Arc::new(Barrier::new(2)));
    let tasks = [0, 1].map(|at| tokio::spawn(transaction(options, at, Arc::clone(&attempts), Arc::clone(&barrier))));
    for task in tasks {
        task.await.unwrap();
    }
    attempts.load(Ordering::SeqCst)
}

#[test]
fn a_deadlock_is_tried_again() {
    run::<Postgres, _>(Tiers::Both, async |world: World<Postgres>| {
        let items = stocked(&world, 2).await;
        let attempts = meeting(TxOptions::new(), |options, at, attempts, barrier| {
            let (haus, items) = (world.haus.clone(), items.clone());
            async move {
                let ids = if at == 0 { [1, 2] } else { [2, 1] };
                let mut is_first = true;
                haus.transaction_with_retry(options, || {
                    attempts.fetch_add(1, Ordering::SeqCst);
                    let meets = std::mem::take(&mut is_first);
                    let (items, barrier) = (&items, &barrier);
                    async move |tx: &mut Tx| {
                        for id in ids {
                            let row = items.on(tx).require(&id).await?;
                            items.on(tx).update(&id, stock(id, row.stock + 1)).await?;
                            if meets && id == ids[0] {
                                barrier.wait().await;
                            }
                        }
                        Ok(())
                    }
                })
                .await
                .unwrap();
            }
        });
        // More than three where the one that is tried again gets in first.
        assert!(attempts.await >= 3);
        assert_eq!(items.get_many(&[1, 2]).await.unwrap(), [Some(stock(1, 3)), Some(stock(2, 3))]);
        all_connections_are_free(&world).await;
    });
}

/// Each takes the last but one, believing that the other stays.
async fn write_skew(
    haus: StoreHaus,
    items: GenericStore<Item>,
    (options, at): (TxOptions, usize),
    attempts: Arc<AtomicU32>,
    barrier: Arc<Barrier>,
) -> Result<(), StorehausError> {
    let id = [1, 2][at];
    let mut is_first = true;
    haus.transaction_with_retry(options, || {
        attempts.fetch_add(1, Ordering::SeqCst);
        let meets = std::mem::take(&mut is_first);
        let (items, barrier) = (&items, &barrier);
        async move |tx: &mut Tx| {
            let left: i32 = items.on(tx).list_all().await?.iter().map(|row| row.stock).sum();
            if meets {
                barrier.wait().await;
            }
            if left > 1 {
                items.on(tx).update(&id, stock(id, 0)).await?;
            }
            Ok(())
        }
    })
    .await
}

#[test]
fn a_serialization_failure_is_tried_again() {
    run::<Postgres, _>(Tiers::Both, async |world: World<Postgres>| {
        let items = stocked(&world, 2).await;
        let options = TxOptions::new().isolation(Isolation::Serializable);
        let attempts = meeting(options, |options, at, attempts, barrier| {
            let (haus, items) = (world.haus.clone(), items.clone());
            async move { write_skew(haus, items, (options, at), attempts, barrier).await.unwrap() }
        });
        assert!(attempts.await >= 3);
        let left = items.get_many(&[1, 2]).await.unwrap();
        assert_eq!(left.into_iter().flatten().map(|row| row.stock).sum::<i32>(), 1);

        // Once and no more: the error says what happened, and nothing of it is left.
        items.update_many(vec![(1, stock(1, 1)), (2, stock(2, 1))]).await.unwrap();
        let failures = Arc::new(AtomicU32::new(0));
        let attempts = meeting(options.attempts(1), |options, at, attempts, barrier| {
            let (haus, items, failures) = (world.haus.clone(), items.clone(), Arc::clone(&failures));
            async move {
                if let Err(error) = write_skew(haus, items, (options, at), attempts, barrier).await {
                    assert!(matches!(error, StorehausError::Serialization(_)) && error.is_transient(), "{error}");
                    failures.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        assert_eq!((attempts.await, failures.load(Ordering::SeqCst)), (2, 1));
        let left = items.get_many(&[1, 2]).await.unwrap();
        assert_eq!(left.into_iter().flatten().map(|row| row.stock).sum::<i32>(), 1);
        all_connections_are_free(&world).await;
    });
}

/// SQLite: a reader that turns writer after another wrote.
#[test]
fn an_outdated_snapshot_is_tried_again() {
    run::<Sqlite, _>(Tiers::InProcess, async |world: World<Sqlite>| {
        let items = stocked(&world, 1).await;
        let attempts = AtomicU32::new(0);
        let options = TxOptions::new().read_only();
        world
            .haus
            .transaction_with_retry(options, || {
                async |tx| {
                    let row = items.on(tx).require(&1i64).await?;
                    if attempts.fetch_add(1, Ordering::SeqCst) == 0 {
                        items.update(&1i64, stock(1, row.stock + 1)).await?;
                    }
                    items.on(tx).touch(&1i64).await?;
                    sqlx::query("UPDATE items SET stock = stock * 10").execute(tx.connection()?).await?;
                    Ok(())
                }
            })
            .await
            .unwrap();
        assert_eq!(attempts.into_inner(), 2);
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 20)));
        all_connections_are_free(&world).await;
    });
}
