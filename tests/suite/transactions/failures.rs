//! Statements that fail inside a transaction, and COMMITs that do.

use storehaus::prelude::*;
use storehaus::sqlx;

use super::{all_connections_are_free, in_database, stock, stocked};
use crate::models::item;
use crate::world::{Tiers, run, suite};

#[derive(Debug, Clone, PartialEq, Model)]
#[model(table = "children")]
struct Child {
    #[key]
    id: i64,
    parent: Option<i64>,
}

suite! {
    /// On Postgres nothing is left but the rollback, even where the error is ignored; SQLite goes on.
    every fn a_statement_that_fails(world) {
        let items = stocked(&world, 2).await;
        let done = world.haus.transaction(async |tx| {
            items.on(tx).update(&1i64, stock(1, 7)).await?;
            let error = items.on(tx).create(item(3, "code2")).await.unwrap_err();
            assert!(matches!(error, StorehausError::Conflict(_)), "{error}");
            assert!(error.to_string().starts_with("create on table items: "), "{error}");
            Ok(())
        }).await;
        all_connections_are_free(&world).await;
        let expected = if world.is_sqlite() {
            done.unwrap();
            7
        } else {
            let error = done.unwrap_err();
            assert!(matches!(error, StorehausError::Aborted(_)) && error.is_unchanged(), "{error}");
            1
        };
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, expected)));
        assert_eq!(in_database(&world, 1).await, Some(expected));

        // The same with SQL of the caller's own.
        let done = world.haus.transaction(async |tx| {
            items.on(tx).update(&1i64, stock(1, 8)).await?;
            let failed = sqlx::query("INSERT INTO items (id, code, stock) VALUES (4, 'code2', 1)");
            assert!(failed.execute(tx.connection()?).await.is_err());
            Ok(())
        }).await;
        let expected = if world.is_sqlite() { 8 } else { 1 };
        assert_eq!(done.is_ok(), world.is_sqlite(), "{done:?}");
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, expected)));

        // What follows the error fails too, and says why.
        let error = world.haus.transaction(async |tx| {
            items.on(tx).create(item(3, "code2")).await.unwrap_err();
            items.on(tx).update(&2i64, stock(2, 7)).await
        }).await;
        match error {
            Ok(row) => assert!(world.is_sqlite() && row == stock(2, 7)),
            Err(error) => assert!(!world.is_sqlite() && matches!(error, StorehausError::Aborted(_)), "{error}"),
        }
    }

    every fn a_savepoint_keeps_an_error_apart(world) {
        let items = stocked(&world, 2).await;
        world.haus.transaction(async |tx| {
            items.on(tx).update(&1i64, stock(1, 7)).await?;
            let error = tx.savepoint(async |tx| items.on(tx).create(item(3, "code2")).await).await.unwrap_err();
            assert!(matches!(error, StorehausError::Conflict(_)), "{error}");
            // Ignored inside: the savepoint ends as the database sees it.
            let done = tx.savepoint(async |tx| {
                items.on(tx).update(&2i64, stock(2, 7)).await?;
                items.on(tx).create(item(3, "code1")).await.unwrap_err();
                Ok(())
            }).await;
            assert_eq!(done.is_ok(), world.is_sqlite(), "{done:?}");
            Ok(())
        }).await.unwrap();
        let second = if world.is_sqlite() { 7 } else { 1 };
        assert_eq!(items.get_many(&[1, 2, 3]).await.unwrap(), [Some(stock(1, 7)), Some(stock(2, second)), None]);
    }

    /// A batch is a savepoint of its own: it names the row, changes nothing, and the transaction goes on.
    every fn a_batch_that_fails_leaves_the_transaction_as_it_was(world) {
        let items = stocked(&world, 3).await;
        world.haus.transaction(async |tx| {
            items.on(tx).update(&1i64, stock(1, 7)).await?;
            let error = items.on(tx).create_many(vec![item(8, "x"), item(9, "code2")]).await.unwrap_err();
            assert!(matches!(error, StorehausError::Conflict(_)), "{error}");
            assert_eq!((error.row(), error.table()), (Some(1), Some("items")), "{error}");
            let error = items.on(tx).upsert_many(vec![item(2, "code2"), item(3, "code1")]).await.unwrap_err();
            assert_eq!(error.row(), Some(1), "{error}");
            let error = items.on(tx).update_many(vec![(2, stock(2, 9)), (77, stock(77, 9))]).await.unwrap_err();
            assert!(matches!(error, StorehausError::NotFound(_)) && error.row() == Some(1), "{error}");
            let error = items.on(tx).update_many(vec![(2, item(3, "x"))]).await.unwrap_err();
            assert!(matches!(error, StorehausError::KeyMismatch(_)), "{error}");
            let error = items.on(tx).update(&77i64, stock(77, 1)).await.unwrap_err();
            assert!(matches!(error, StorehausError::NotFound(_)), "{error}");
            assert_eq!(items.on(tx).list_all().await?, [stock(1, 7), stock(2, 1), stock(3, 1)]);
            Ok(())
        }).await.unwrap();
        assert_eq!(items.get_many(&[1, 2, 3, 8]).await.unwrap(), [Some(stock(1, 7)), Some(stock(2, 1)), Some(stock(3, 1)), None]);
        all_connections_are_free(&world).await;
    }

    every fn a_deferred_constraint_refuses_the_commit(world) {
        world.sql(
            "CREATE TABLE parents (id BIGINT PRIMARY KEY);
             CREATE TABLE children (id BIGINT PRIMARY KEY, parent BIGINT REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)",
        ).await;
        let children = world.haus.store::<Child>();
        let kept = children.create(Child { id: 1, parent: None }).await.unwrap();
        children.get_by_id(&1i64).await.unwrap();
        world.settle().await;
        for _ in 0..6 {
            let error = world.haus.transaction(async |tx| {
                children.on(tx).update(&1i64, Child { id: 1, parent: Some(9) }).await?;
                children.on(tx).create(Child { id: 2, parent: None }).await
            }).await.unwrap_err();
            assert!(matches!(error, StorehausError::ForeignKey(_)) && error.is_unchanged(), "{error}");
        }
        all_connections_are_free(&world).await;
        assert_eq!(children.get_many(&[1, 2]).await.unwrap(), [Some(kept), None]);
    }
}

/// SQLite ends a transaction by itself for some errors. What follows must not be committed statement by statement.
#[test]
fn a_transaction_that_sqlite_ends_by_itself() {
    run::<Sqlite, _>(Tiers::InProcess, async |world: crate::world::World<Sqlite>| {
        let items = stocked(&world, 3).await;
        world
            .sql(
                "CREATE TRIGGER ended BEFORE UPDATE ON items WHEN new.stock = 13 \
                 BEGIN SELECT RAISE(ROLLBACK, 'ended by a trigger'); END",
            )
            .await;
        for raw in [false, true] {
            for inside in [false, true] {
                let error = world.haus.transaction(async |tx| {
                    items.on(tx).update(&1i64, stock(1, 7)).await?;
                    let end = async |tx: &mut Tx<Sqlite>| {
                        if raw {
                            let ended =
                                sqlx::query("UPDATE items SET stock = 13 WHERE id = 2").execute(tx.connection()?).await;
                            assert!(ended.is_err());
                        } else {
                            items.on(tx).update(&2i64, stock(2, 13)).await.unwrap_err();
                            assert!(tx.connection().is_err());
                        }
                        let error = items.on(tx).update(&3i64, stock(3, 7)).await.unwrap_err();
                        assert!(matches!(error, StorehausError::Aborted(_)), "{error}");
                        Ok(())
                    };
                    if inside {
                        drop(tx.savepoint(end).await)
                    } else {
                        end(tx).await?
                    }
                    let error = items.on(tx).count().await.unwrap_err();
                    assert!(matches!(error, StorehausError::Aborted(_)), "{error}");
                    Ok(())
                });
                let error = error.await.unwrap_err();
                assert!(matches!(error, StorehausError::Aborted(_)) && error.is_unchanged(), "{error}");
                all_connections_are_free(&world).await;
                for id in 1..=3 {
                    assert_eq!(items.get_by_id(&id).await.unwrap(), Some(stock(id, 1)));
                    assert_eq!(in_database(&world, id).await, Some(1));
                }
            }
        }
        // Ended at the last moment, by SQL nobody asks about any more.
        let mut tx = world.haus.begin().await.unwrap();
        items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap();
        let ended = sqlx::query("UPDATE items SET stock = 13 WHERE id = 2").execute(tx.connection().unwrap()).await;
        assert!(ended.is_err());
        drop(tx);
        all_connections_are_free(&world).await;
        assert_eq!(in_database(&world, 1).await, Some(1));
    });
}
