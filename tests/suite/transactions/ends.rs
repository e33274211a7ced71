//! How transactions end: COMMIT, ROLLBACK, a panic, being dropped.

use storehaus::prelude::*;

use super::{all_connections_are_free, in_database, stock, stocked};
use crate::models::{Item, item};
use crate::world::suite;

suite! {
    every fn a_commit_is_seen_by_the_next_read(world) {
        let items = stocked(&world, 3).await;
        for n in 2..6 {
            world.haus.transaction(async |tx| {
                items.on(tx).update(&1i64, stock(1, n)).await?;
                items.on(tx).update_many(vec![(2, stock(2, n)), (3, stock(3, n))]).await
            }).await.unwrap();
            let rows = [1, 2, 3].map(|id| Some(stock(id, n)));
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, n)));
            assert_eq!(items.get_many(&[1, 2, 3]).await.unwrap(), rows);
            world.settle().await;
        }
        let mut tx = world.haus.begin().await.unwrap();
        items.on(&mut tx).update(&1i64, stock(1, 9)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 9)));
        all_connections_are_free(&world).await;
    }

    /// Neither the new row nor the loss of the old one is left in the cache.
    every fn a_rollback_leaves_everything_as_it_was(world) {
        let items = stocked(&world, 2).await;
        let made = std::sync::Mutex::new(Vec::new());
        let error = world.haus.transaction(async |tx| {
            items.on(tx).update(&1i64, stock(1, 7)).await?;
            items.on(tx).delete(&2i64).await?;
            let rows = items.on(tx).create_many(vec![item(8, "new"), item(9, "newer")]).await?;
            made.lock().unwrap().extend(rows.iter().map(|row| row.id));
            Err::<(), _>(StorehausError::not_found::<Item>())
        }).await.unwrap_err();
        assert!(matches!(error, StorehausError::NotFound(_)), "{error}");
        let made = made.into_inner().unwrap();
        world.settle().await;
        for _ in 0..2 {
            assert_eq!(items.get_many(&[1, 2]).await.unwrap(), [Some(stock(1, 1)), Some(stock(2, 1))]);
            assert_eq!(items.get_many(&made).await.unwrap(), [None, None]);
            world.settle().await;
        }
        let mut tx = world.haus.begin().await.unwrap();
        items.on(&mut tx).delete_many(&[1, 2]).await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(items.get_many(&[1, 2]).await.unwrap(), [Some(stock(1, 1)), Some(stock(2, 1))]);
        assert_eq!(in_database(&world, 1).await, Some(1));
        all_connections_are_free(&world).await;
    }

    /// What is rolled back is not invalidated.
    cached fn a_rollback_invalidates_nothing(world) {
        let items = stocked(&world, 2).await;
        let before = world.stats().await.invalidations;
        let mut tx = world.haus.begin().await.unwrap();
        items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap();
        items.on(&mut tx).create(item(3, "new")).await.unwrap();
        tx.rollback().await.unwrap();
        world.settle().await;
        assert_eq!(world.stats().await.invalidations, before);
        let mut tx = world.haus.begin().await.unwrap();
        items.on(&mut tx).update(&1i64, stock(1, 8)).await.unwrap();
        items.on(&mut tx).create(item(3, "new")).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(world.stats().await.invalidations, before + 2);
    }

    every fn a_panic_rolls_back(world) {
        let items = stocked(&world, 1).await;
        let (haus, store) = (world.haus.clone(), items.clone());
        let task = tokio::spawn(async move {
            haus.transaction(async |tx| {
                store.on(tx).update(&1i64, stock(1, 7)).await?;
                if store.on(tx).count().await? == 1 {
                    std::panic::resume_unwind(Box::new("a panic of the body"));
                }
                Ok(())
            })
            .await
        });
        assert!(task.await.unwrap_err().is_panic());
        all_connections_are_free(&world).await;
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 1)));
        assert_eq!(in_database(&world, 1).await, Some(1));
    }

    every fn a_dropped_transaction_is_rolled_back(world) {
        let items = stocked(&world, 1).await;
        for _ in 0..6 {
            let mut tx = world.haus.begin().await.unwrap();
            items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap();
            drop(tx);
        }
        all_connections_are_free(&world).await;
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 1)));
        assert_eq!(items.update(&1i64, stock(1, 2)).await.unwrap(), stock(1, 2));
        assert_eq!(in_database(&world, 1).await, Some(2));
    }

    every fn a_transaction_that_only_reads_refuses_writes(world) {
        let items = stocked(&world, 1).await;
        let mut tx = world.haus.begin_with(TxOptions::new().read_only()).await.unwrap();
        let error = items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap_err();
        assert!(matches!(error, StorehausError::InvalidInput(_)), "{error}");
        assert_eq!(error.to_string(), "update on table items: the transaction is read-only");
        // It goes on, and holds no writer up.
        assert_eq!(items.on(&mut tx).count().await.unwrap(), 1);
        items.update(&1i64, stock(1, 2)).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 2)));
    }
}
