//! Parts of a transaction that fail by themselves.

use storehaus::prelude::*;

use super::{all_connections_are_free, in_database, stock, stocked};
use crate::models::{Item, item};
use crate::world::suite;

fn failed() -> StorehausError {
    StorehausError::not_found::<Item>()
}

suite! {
    every fn an_error_undoes_the_savepoint_alone(world) {
        let items = stocked(&world, 4).await;
        world.haus.transaction(async |tx| {
            items.on(tx).update(&1i64, stock(1, 7)).await?;
            let undone = tx.savepoint(async |tx| {
                items.on(tx).update(&2i64, stock(2, 7)).await?;
                items.on(tx).delete(&1i64).await?;
                Err::<(), _>(failed())
            }).await;
            assert!(matches!(undone, Err(StorehausError::NotFound(_))));
            assert_eq!(items.on(tx).get_many(&[1, 2]).await?, [Some(stock(1, 7)), Some(stock(2, 1))]);
            tx.savepoint(async |tx| {
                items.on(tx).update(&3i64, stock(3, 7)).await?;
                let undone = tx.savepoint(async |tx| {
                    items.on(tx).update(&4i64, stock(4, 7)).await?;
                    Err::<(), _>(failed())
                }).await;
                assert!(undone.is_err());
                tx.savepoint(async |tx| items.on(tx).create(item(5, "new")).await).await
            }).await?;
            Ok(())
        }).await.unwrap();
        let rows = [Some(stock(1, 7)), Some(stock(2, 1)), Some(stock(3, 7)), Some(stock(4, 1)), Some(item(5, "new"))];
        for _ in 0..2 {
            assert_eq!(items.get_many(&[1, 2, 3, 4, 5]).await.unwrap(), rows);
            world.settle().await;
        }
        all_connections_are_free(&world).await;
    }

    /// An outer savepoint undoes what inner ones kept.
    every fn an_outer_savepoint_undoes_inner_ones(world) {
        let items = stocked(&world, 3).await;
        world.haus.transaction(async |tx| {
            let undone = tx.savepoint(async |tx| {
                tx.savepoint(async |tx| items.on(tx).update(&1i64, stock(1, 7)).await).await?;
                tx.savepoint(async |tx| items.on(tx).delete_many(&[2, 3]).await).await?;
                Err::<(), _>(failed())
            }).await;
            assert!(undone.is_err());
            items.on(tx).update(&3i64, stock(3, 5)).await
        }).await.unwrap();
        assert_eq!(items.get_many(&[1, 2, 3]).await.unwrap(), [Some(stock(1, 1)), Some(stock(2, 1)), Some(stock(3, 5))]);
    }

    cached fn exactly_what_was_kept_is_invalidated(world) {
        let items = stocked(&world, 8).await;
        let before = world.stats().await.invalidations;
        world.haus.transaction(async |tx| {
            items.on(tx).update(&1i64, stock(1, 7)).await?;
            let undone = tx.savepoint(async |tx| {
                items.on(tx).update_many(vec![(2, stock(2, 7)), (3, stock(3, 7))]).await?;
                tx.savepoint(async |tx| items.on(tx).update(&4i64, stock(4, 7)).await).await?;
                Err::<(), _>(failed())
            }).await;
            assert!(undone.is_err());
            tx.savepoint(async |tx| {
                items.on(tx).update(&5i64, stock(5, 7)).await?;
                tx.savepoint(async |tx| items.on(tx).update(&6i64, stock(6, 7)).await).await
            }).await
        }).await.unwrap();
        assert_eq!(world.stats().await.invalidations, before + 3);
        let changed = items.get_many(&[1, 2, 3, 4, 5, 6]).await.unwrap();
        assert_eq!(changed.into_iter().flatten().map(|row| row.stock).collect::<Vec<_>>(), [7, 1, 1, 1, 7, 7]);
    }

    every fn a_panic_that_is_caught_leaves_nothing_of_the_savepoint(world) {
        use futures_util::FutureExt as _;

        let items = stocked(&world, 2).await;
        let mut tx = world.haus.begin().await.unwrap();
        items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap();
        let panicking = tx.savepoint(async |tx| {
            items.on(tx).update(&2i64, stock(2, 7)).await?;
            if items.on(tx).count().await? > 0 {
                std::panic::resume_unwind(Box::new("a panic of the body"));
            }
            Ok(())
        });
        assert!(std::panic::AssertUnwindSafe(panicking).catch_unwind().await.is_err());
        // Nobody knows how far it came: what is left is the rollback.
        let error = items.on(&mut tx).get_by_id(&1i64).await.unwrap_err();
        assert!(matches!(error, StorehausError::Aborted(_)) && error.is_unchanged(), "{error}");
        let error = tx.commit().await.unwrap_err();
        assert!(matches!(error, StorehausError::Aborted(_)), "{error}");
        all_connections_are_free(&world).await;
        assert_eq!(items.get_many(&[1, 2]).await.unwrap(), [Some(stock(1, 1)), Some(stock(2, 1))]);
        assert_eq!(in_database(&world, 1).await, Some(1));
    }

    /// The savepoint around one that was dropped undoes both, and the transaction goes on.
    every fn a_time_limit_inside_a_savepoint(world) {
        let items = stocked(&world, 2).await;
        world.haus.transaction(async |tx| {
            items.on(tx).update(&1i64, stock(1, 7)).await?;
            let late = tx.savepoint(async |tx| {
                let endless = tx.savepoint(async |tx| {
                    items.on(tx).update(&2i64, stock(2, 7)).await?;
                    std::future::pending::<()>().await;
                    Ok(())
                });
                assert!(tokio::time::timeout(Duration::from_millis(50), endless).await.is_err());
                let error = items.on(tx).count().await.unwrap_err();
                assert!(matches!(error, StorehausError::Aborted(_)), "{error}");
                assert!(tx.connection().is_err());
                Ok(())
            }).await;
            assert!(matches!(late, Err(StorehausError::Aborted(_))));
            assert_eq!(items.on(tx).get_many(&[1, 2]).await?, [Some(stock(1, 7)), Some(stock(2, 1))]);
            Ok(())
        }).await.unwrap();
        assert_eq!(items.get_many(&[1, 2]).await.unwrap(), [Some(stock(1, 7)), Some(stock(2, 1))]);
    }
}
