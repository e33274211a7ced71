//! Futures that are dropped at any of their awaits.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use storehaus::prelude::*;

use super::{all_connections_are_free, in_database, stock, stocked};
use crate::models::Item;
use crate::world::{World, suite};

/// Polls a future so often at most, then drops it.
async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Both rows have what was there before, or both have what the transaction wrote; the cache says what the database does.
async fn all_or_nothing<DB: crate::world::TestDb>(
    world: &World<DB>,
    items: &GenericStore<Item, DB>,
    before: i32,
    after: i32,
) -> i32
where
    Item: storehaus::model::Persist<DB>,
{
    all_connections_are_free(world).await;
    let now = in_database(world, 1).await.unwrap();
    assert_eq!(in_database(world, 2).await, Some(now));
    assert!(now == before || now == after, "{before} {now} {after}");
    for _ in 0..2 {
        assert_eq!(items.get_many(&[1, 2]).await.unwrap(), [Some(stock(1, now)), Some(stock(2, now))]);
        world.settle().await;
    }
    now
}

suite! {
    every fn a_transaction_may_be_dropped_at_any_await(world) {
        let items = stocked(&world, 2).await;
        let mut now = 1;
        for times in 0.. {
            let next = 100 + i32::try_from(times).unwrap();
            let transaction = world.haus.transaction(async |tx| {
                items.on(tx).update(&1i64, stock(1, next)).await?;
                assert_eq!(items.on(tx).count().await?, 2);
                tx.savepoint(async |tx| items.on(tx).update_many(vec![(2, stock(2, next))]).await).await
            });
            let ended = polled(times, transaction).await;
            let found = all_or_nothing(&world, &items, now, next).await;
            if let Some(done) = ended {
                done.unwrap();
                assert_eq!(found, next);
                break;
            }
            now = found;
        }
    }

    every fn a_call_may_be_dropped_and_what_is_left_is_the_rollback(world) {
        let items = stocked(&world, 2).await;
        for times in 1.. {
            let mut tx = world.haus.begin().await.unwrap();
            items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap();
            let ended = polled(times, items.on(&mut tx).update_many(vec![(2, stock(2, 7))])).await;
            if ended.is_some() {
                tx.commit().await.unwrap();
                break;
            }
            let error = items.on(&mut tx).count().await.unwrap_err();
            assert!(matches!(error, StorehausError::Aborted(_)), "{error}");
            let error = tx.commit().await.unwrap_err();
            assert!(matches!(error, StorehausError::Aborted(_)), "{error}");
            assert_eq!(all_or_nothing(&world, &items, 1, 1).await, 1);
        }
        assert_eq!(all_or_nothing(&world, &items, 7, 7).await, 7);
    }

    /// A read may be dropped: the transaction goes on.
    every fn a_read_may_be_dropped(world) {
        let items = stocked(&world, 2).await;
        for times in 1.. {
            let mut tx = world.haus.begin().await.unwrap();
            items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap();
            let ended = polled(times, items.on(&mut tx).list_all()).await;
            items.on(&mut tx).update(&2i64, stock(2, 7)).await.unwrap();
            tx.commit().await.unwrap();
            assert_eq!(all_or_nothing(&world, &items, 7, 7).await, 7);
            if ended.is_some() {
                break;
            }
            items.update_many(vec![(1, stock(1, 1)), (2, stock(2, 1))]).await.unwrap();
        }
    }

    every fn a_savepoint_may_be_dropped_at_any_await(world) {
        let items = stocked(&world, 2).await;
        for times in 0.. {
            let mut tx = world.haus.begin().await.unwrap();
            items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap();
            let ended = polled(times, tx.savepoint(async |tx| items.on(tx).update(&2i64, stock(2, 7)).await)).await;
            let committed = tx.commit().await;
            if ended.is_some() {
                committed.unwrap();
                break;
            }
            // Dropped before it was there, it is nothing.
            let expected = match committed {
                Ok(()) => 7,
                Err(error) => {
                    assert!(matches!(error, StorehausError::Aborted(_)), "{error}");
                    1
                }
            };
            all_connections_are_free(&world).await;
            assert_eq!((in_database(&world, 1).await, in_database(&world, 2).await), (Some(expected), Some(1)));
            assert_eq!(items.get_many(&[1, 2]).await.unwrap(), [Some(stock(1, expected)), Some(stock(2, 1))]);
            items.update(&1i64, stock(1, 1)).await.unwrap();
        }
        assert_eq!(all_or_nothing(&world, &items, 7, 7).await, 7);
    }

    /// COMMIT runs to its end once it was asked for.
    every fn a_commit_whose_caller_went_away_is_invalidated(world) {
        let items = stocked(&world, 2).await;
        let mut tx = world.haus.begin().await.unwrap();
        items.on(&mut tx).update_many(vec![(1, stock(1, 7)), (2, stock(2, 7))]).await.unwrap();
        drop(polled(1, tx.commit()).await);
        assert_eq!(all_or_nothing(&world, &items, 7, 7).await, 7);
    }
}
