//! The operations of a store inside a transaction, and who sees what they do.

use storehaus::prelude::*;
use storehaus::sqlx;

use super::{in_database, stock, stocked};
use crate::models::{Doc, Grade, Item, User, doc, grade, item, user};
use crate::world::{Tiers, suite};

suite! {
    every fn each_operation_works_on_what_the_transaction_sees(world) {
        world.haus.create_missing_tables::<(Item, User, Doc, Grade)>().await.unwrap();
        let (items, users) = (world.haus.store::<Item>(), world.haus.store::<User>());
        let (docs, grades) = (world.haus.store::<Doc>(), world.haus.store::<Grade>());
        items.create_many(vec![item(9001, "a"), item(9002, "b"), item(9003, "c")]).await.unwrap();
        items.get_many(&[9001, 9002, 9003, 9010]).await.unwrap();
        world.settle().await;

        let made = world.haus.transaction(async |tx| {
            let mut inside = items.on(tx);
            assert_eq!(inside.get_by_id(&9001i64).await?, Some(item(9001, "a")));
            let made = inside.create(item(0, "made")).await?;
            assert!(made.id != 0 && inside.get_by_id(&made.id).await? == Some(made.clone()));
            let rows = inside.create_many(vec![item(9010, "j"), item(0, "k"), item(9011, "l")]).await?;
            assert_eq!(rows.iter().map(|row| row.code.as_str()).collect::<Vec<_>>(), ["j", "k", "l"]);
            assert_eq!(inside.upsert(item(9001, "a1")).await?, item(9001, "a1"));
            let rows = vec![item(8000, "m"), item(9002, "b1")];
            assert_eq!(inside.upsert_many(rows.clone()).await?, rows);
            assert_eq!(inside.update(&9003i64, item(9003, "c1")).await?, item(9003, "c1"));
            let rows = inside.update_many(vec![(9002, item(9002, "b2")), (9001, item(9001, "a2"))]).await?;
            assert_eq!(rows, [item(9002, "b2"), item(9001, "a2")]);
            assert!(inside.delete(&9010i64).await? && !inside.delete(&9010i64).await?);
            assert_eq!(inside.delete_many(&[9011, 8000, 9999]).await?, 2);
            let found = inside.get_many(&[9003, 9010, 9001, 9003]).await?;
            let c = Some(item(9003, "c1"));
            assert_eq!(found, [c.clone(), None, Some(item(9001, "a2")), c]);
            assert!(inside.exists(&9001i64).await? && !inside.exists(&9010i64).await?);
            assert_eq!((inside.count().await?, inside.list_all().await?.len()), (5, 5));
            assert_eq!(inside.require(&9002i64).await?, item(9002, "b2"));
            assert!(matches!(inside.require(&9010i64).await, Err(StorehausError::NotFound(_))));
            assert_eq!(inside.create_many(Vec::new()).await?, []);
            assert_eq!((inside.delete_many(&[]).await?, inside.get_many(&[]).await?), (0, Vec::new()));

            // Borrowed keys, keys of two columns, keys the client makes; several tables in one transaction.
            docs.on(tx).create(doc("x", "1")).await?;
            docs.on(tx).update("x", doc("x", "2")).await?;
            grades.on(tx).upsert(grade(1, "art", 2)).await?;
            assert_eq!(grades.on(tx).get_by_id(&(1, "art".to_owned())).await?, Some(grade(1, "art", 2)));
            Ok((made, users.on(tx).create(user("ada")).await?))
        });
        let (made, ada) = made.await.unwrap();

        let ids = [9001, 9002, 9003, 9010, 9011, 8000];
        let rows = [Some(item(9001, "a2")), Some(item(9002, "b2")), Some(item(9003, "c1")), None, None, None];
        for _ in 0..2 {
            assert_eq!(items.get_many(&ids).await.unwrap(), rows);
            assert_eq!(items.get_by_id(&made.id).await.unwrap().as_ref(), Some(&made));
            assert_eq!(docs.get_by_id("x").await.unwrap(), Some(doc("x", "2")));
            assert_eq!(grades.get_by_id(&(1, "art".to_owned())).await.unwrap(), Some(grade(1, "art", 2)));
            assert_eq!(users.get_by_id(&ada.id).await.unwrap().as_ref(), Some(&ada));
            world.settle().await;
        }
        assert_eq!(items.count().await.unwrap(), 5);
    }

    /// What is not committed is seen through the transaction, and nowhere else.
    every fn nobody_sees_what_is_not_committed(world) {
        let items = stocked(&world, 2).await;
        let mut tx = world.haus.begin().await.unwrap();
        items.on(&mut tx).update(&1i64, stock(1, 7)).await.unwrap();
        items.on(&mut tx).delete(&2i64).await.unwrap();
        let made = items.on(&mut tx).create(item(3, "new")).await.unwrap();
        let neighbour = world.neighbour().store::<Item>();
        for store in [&items, &neighbour] {
            for _ in 0..2 {
                assert_eq!(store.get_many(&[1, 2, 3]).await.unwrap(), [Some(stock(1, 1)), Some(stock(2, 1)), None]);
                assert_eq!(store.get_by_id(&1i64).await.unwrap(), Some(stock(1, 1)));
                assert_eq!(items.on(&mut tx).get_by_id(&1i64).await.unwrap(), Some(stock(1, 7)));
                assert_eq!(items.on(&mut tx).get_many(&[2, 3]).await.unwrap(), [None, Some(made.clone())]);
            }
        }
        tx.commit().await.unwrap();
        // A tier in the process of another instance is bounded, not strict.
        let strict = matches!(world.tiers, Tiers::None | Tiers::Redis);
        for store in [&items].into_iter().chain(strict.then_some(&neighbour)) {
            assert_eq!(store.get_many(&[1, 2, 3]).await.unwrap(), [Some(stock(1, 7)), None, Some(made.clone())]);
        }
    }

    /// A transaction that sees the database as it was does not cache what it sees.
    every fn a_snapshot_fills_no_cache(world) {
        let items = stocked(&world, 1).await;
        let options = TxOptions::new().isolation(Isolation::RepeatableRead).read_only();
        let mut tx = world.haus.begin_with(options).await.unwrap();
        assert_eq!(items.on(&mut tx).get_by_id(&1i64).await.unwrap(), Some(stock(1, 1)));
        items.update(&1i64, stock(1, 2)).await.unwrap();
        for _ in 0..3 {
            assert_eq!(items.on(&mut tx).get_by_id(&1i64).await.unwrap(), Some(stock(1, 1)));
            assert_eq!(items.on(&mut tx).get_many(&[1]).await.unwrap(), [Some(stock(1, 1))]);
            assert_eq!(items.on(&mut tx).list_all().await.unwrap(), [stock(1, 1)]);
            world.settle().await;
            assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 2)));
        }
        tx.commit().await.unwrap();
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(stock(1, 2)));
    }

    cached fn reads_inside_neither_ask_nor_fill_the_cache(world) {
        let items = stocked(&world, 2).await;
        let before = world.stats().await;
        world.haus.transaction(async |tx| {
            items.on(tx).get_by_id(&1i64).await?;
            items.on(tx).get_many(&[1, 2, 3]).await?;
            items.on(tx).require(&2i64).await?;
            items.on(tx).list_all().await
        }).await.unwrap();
        world.settle().await;
        let after = world.stats().await;
        assert_eq!((after.hits(), after.misses, after.loads, after.fills), (before.hits(), before.misses, before.loads, before.fills));
        assert_eq!(after.invalidations, before.invalidations);
    }

    /// A key that is remembered as absent, and then made by the database.
    cached fn an_absent_row_that_a_transaction_makes_is_there(world) {
        world.haus.create_missing_tables::<(Item,)>().await.unwrap();
        let items = world.haus.store_with::<Item>(|params| params.with_negative_ttl(60));
        assert_eq!(items.get_many(&[1, 2, 3]).await.unwrap(), [None, None, None]);
        world.settle().await;
        world.haus.transaction(async |tx| {
            assert_eq!(items.on(tx).create(item(0, "a")).await?.id, 1);
            let rows = items.on(tx).create_many(vec![item(0, "b"), item(0, "c")]).await?;
            assert_eq!([rows[0].id, rows[1].id], [2, 3]);
            assert_eq!(items.get_many(&[1, 2, 3]).await?, [None, None, None]);
            Ok(())
        }).await.unwrap();
        assert_eq!(items.get_by_id(&1i64).await.unwrap(), Some(item(1, "a")));
        assert_eq!(items.get_many(&[2, 3]).await.unwrap(), [Some(item(2, "b")), Some(item(3, "c"))]);
    }

    every fn rows_changed_by_sql_of_the_callers_own_are_touched(world) {
        let items = stocked(&world, 4).await;
        world.haus.transaction(async |tx| {
            items.on(tx).touch(&1i64).await?;
            tx.touch::<Item>(&2).await?;
            items.on(tx).touch_many(&[3, 4]).await?;
            let sql = "UPDATE items SET stock = stock + 10 WHERE id < 4";
            sqlx::query(sql).execute(tx.connection()?).await?;
            assert_eq!(items.on(tx).get_by_id(&1i64).await?, Some(stock(1, 11)));
            let (postgres, sqlite) = (tx.as_postgres().is_some(), tx.as_sqlite().is_some());
            assert_eq!((postgres, sqlite), (!world.is_sqlite(), world.is_sqlite()));
            if let Some(conn) = tx.as_postgres() {
                sqlx::query("UPDATE items SET stock = 5 WHERE id = 4").execute(conn).await?;
            }
            if let Some(conn) = tx.as_sqlite() {
                sqlx::query("UPDATE items SET stock = 5 WHERE id = 4").execute(conn).await?;
            }
            // sqlx's own transactions are savepoints here.
            let mut nested = sqlx::Connection::begin(tx.connection()?).await?;
            sqlx::query("DELETE FROM items").execute(&mut *nested).await?;
            nested.rollback().await?;
            Ok(())
        }).await.unwrap();
        let rows = [stock(1, 11), stock(2, 11), stock(3, 11), stock(4, 5)];
        for _ in 0..2 {
            assert_eq!(items.get_many(&[1, 2, 3, 4]).await.unwrap(), rows.clone().map(Some));
            world.settle().await;
        }
        assert_eq!(in_database(&world, 1).await, Some(11));
    }

    /// On a thread pool, with what it uses captured: as in a handler of a server.
    every fn a_transaction_can_be_spawned(world) {
        let items = stocked(&world, 3).await;
        let mut tasks = tokio::task::JoinSet::new();
        for id in 1..=3 {
            let (haus, items) = (world.haus.clone(), items.clone());
            tasks.spawn(async move {
                let name = format!("spawned {id}");
                haus.transaction_with_retry(TxOptions::new(), || async |tx| {
                    let row = items.on(tx).require(&id).await?;
                    tx.savepoint(async |tx| items.on(tx).update(&id, Item { code: name.clone(), ..row }).await).await
                })
                .await
            });
        }
        while let Some(done) = tasks.join_next().await {
            let row = done.unwrap().unwrap();
            assert_eq!(row.code, format!("spawned {}", row.id));
            assert_eq!(items.get_by_id(&row.id).await.unwrap(), Some(row));
        }
    }
}
