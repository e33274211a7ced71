//! Transactions whose rows the cache does not take part in, of stores that ask it to.

use std::time::Instant;

use storehaus::prelude::*;

use super::{all_connections_are_free, in_database, stock, stocked};
use crate::models::{Item, item};
use crate::server::Server;
use crate::world::{patient, suite, until};

suite! {
    /// The statement may have run by the time Redis does not answer: what is left is the rollback.
    once fn a_refused_write_is_rolled_back(world) {
        stocked(&world, 2).await;
        for strict in [false, true] {
            let mut server = Server::start();
            let config = patient(&server.url(), "app").with_timeout(400);
            let haus = world.behind(config.clone());
            let (lax, items) = (haus.store::<Item>(), haus.store_with::<Item>(|params| match strict {
                true => params.with_coherence(Coherence::Strict),
                false => params.with_on_cache_down(OnCacheDown::Refuse),
            }));
            items.get_many(&[1, 2]).await.unwrap();
            haus.cache().unwrap().settle().await;
            server.kill();
            let error = haus.transaction(async |tx| {
                lax.on(tx).update(&1i64, stock(1, 7)).await?;
                let error = items.on(tx).update(&2i64, stock(2, 7)).await.unwrap_err();
                assert!(matches!(error, StorehausError::Unavailable(_)) && error.is_unchanged(), "{error}");
                let error = items.on(tx).count().await.unwrap_err();
                assert!(matches!(error, StorehausError::Aborted(_)), "{error}");
                Ok(())
            }).await.unwrap_err();
            assert!(matches!(error, StorehausError::Aborted(_)) && error.is_unchanged(), "{error}");
            assert!(error.to_string().contains("the cache refused"), "{error}");
            let error = haus.transaction(async |tx| items.on(tx).touch(&1i64).await).await.unwrap_err();
            assert!(matches!(error, StorehausError::Unavailable(_)), "{error}");
            assert_eq!((in_database(&world, 1).await, in_database(&world, 2).await), (Some(1), Some(1)));

            // Undone with its savepoint, while others go on.
            haus.transaction(async |tx| {
                lax.on(tx).update(&1i64, stock(1, 7)).await?;
                tx.savepoint(async |tx| items.on(tx).create_many(vec![item(3, "new"), item(4, "newer")]).await).await.unwrap_err();
                tx.savepoint(async |tx| items.on(tx).delete(&2i64).await).await.unwrap_err();
                Ok(())
            }).await.unwrap();
            assert_eq!(lax.list_all().await.unwrap(), [stock(1, 7), stock(2, 1)]);
            assert_eq!(lax.get_many(&[1, 2, 3]).await.unwrap(), [Some(stock(1, 7)), Some(stock(2, 1)), None]);
            all_connections_are_free(&world).await;

            server.restart();
            until("a transaction", || async {
                haus.transaction(async |tx| items.on(tx).update(&1i64, stock(1, 1)).await).await.is_ok()
            }).await;
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 1)));
        }
    }

    /// Announced while Redis was there, and not known to stand at COMMIT.
    once fn a_commit_whose_intents_ended_is_refused(world) {
        stocked(&world, 1).await;
        for strict in [false, true] {
            let mut server = Server::start();
            let lasts = Duration::from_millis(300);
            let config = patient(&server.url(), "app").with_timeout(400).with_intent_ttl(lasts);
            let haus = world.behind(match strict {
                true => config.with_coherence(Coherence::Strict),
                false => config.with_on_cache_down(OnCacheDown::Refuse),
            });
            let items = haus.store::<Item>();
            let mut tx = haus.begin().await.unwrap();
            let began = Instant::now();
            items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap();
            // Longer than they last they are renewed.
            until("the end of the intents", || async { began.elapsed() > 2 * lasts }).await;
            assert_eq!(items.on(&mut tx).get_by_id(&1i64).await.unwrap(), Some(stock(1, 7)));
            server.kill();
            let killed = Instant::now();
            until("the end of the intents", || async { killed.elapsed() > lasts }).await;
            let error = tx.commit().await.unwrap_err();
            assert!(matches!(error, StorehausError::Unavailable(_)) && error.is_unchanged(), "{error}");
            assert!(error.to_string().starts_with("commit on table items: nothing was changed"), "{error}");
            assert_eq!(in_database(&world, 1).await, Some(1));
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 1)));
            all_connections_are_free(&world).await;
        }
    }

    /// Redis is there until COMMIT.
    once fn a_strict_commit_that_is_not_cleared_says_that_it_took_place(world) {
        stocked(&world, 1).await;
        for (coherence, n) in [(Coherence::Strict, 2), (Coherence::CrashSafe, 3)] {
            let mut server = Server::start();
            let haus = world.behind(patient(&server.url(), "app").with_timeout(400).with_coherence(coherence));
            let items = haus.store::<Item>();
            let done = haus.transaction(async |tx| {
                let row = items.on(tx).update(&1i64, stock(1, n)).await?;
                server.kill();
                Ok(row)
            }).await;
            match coherence {
                Coherence::Strict => {
                    let error = done.unwrap_err();
                    assert!(matches!(error, StorehausError::NotInvalidated(_)) && !error.is_unchanged(), "{error}");
                    assert!(error.to_string().contains("the change is committed"), "{error}");
                }
                _ => assert_eq!(done.unwrap(), stock(1, n)),
            }
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, n)));
            assert_eq!(in_database(&world, 1).await, Some(n));
        }
    }
}
