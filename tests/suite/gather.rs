//! Reads of single rows that come together.

use std::pin::pin;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use storehaus::prelude::*;
use storehaus::sqlx::{SqlSafeStr as _, Transaction};
use tokio::time::timeout;

use crate::models::{Doc, Item, doc, item, make_caseless_docs};
use crate::world::{PATIENCE, TestDb, World, suite, until};

/// Items with the keys from 1 on.
async fn items<DB: TestDb>(world: &World<DB>, count: i64) -> GenericStore<Item, DB>
where
    Item: storehaus::model::Persist<DB>,
{
    world.haus.create_missing_tables::<(Item,)>().await.unwrap();
    let items = world.haus.store::<Item>();
    items.create_many((1..=count).map(|n| item(n, &n.to_string())).collect()).await.unwrap();
    world.statements();
    items
}

/// Lets no read of items end before it does.
async fn lock<DB: TestDb>(world: &World<DB>) -> Transaction<'static, DB> {
    let mut held = world.haus.pool().begin().await.unwrap();
    DB::run(&mut held, "LOCK TABLE items".into_sql_str()).await.unwrap();
    held
}

/// Reads of these items, each begun and unanswered: the first is alone, the others are for one statement.
fn begun<DB: TestDb>(
    items: &GenericStore<Item, DB>,
    ids: &[i64],
) -> Vec<BoxFuture<'static, storehaus::Result<Option<Item>>>>
where
    Item: storehaus::model::Persist<DB>,
{
    let begin = |id: &i64| {
        let (items, id) = (items.clone(), *id);
        let mut read = async move { items.get_by_id(&id).await }.boxed();
        assert!(read.as_mut().now_or_never().is_none());
        read
    };
    ids.iter().map(begin).collect()
}

/// How many rows or groups of rows were asked for.
fn selects<DB: TestDb>(world: &World<DB>) -> usize {
    world.statements().iter().filter(|text| text.starts_with("SELECT")).count()
}

/// What reads of items end with that come while nobody is answered.
async fn together<DB: TestDb, F: Future>(world: &World<DB>, reads: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut reads = pin!(join_all(reads));
    if !world.is_sqlite() {
        let held = lock(world).await;
        assert!(reads.as_mut().now_or_never().is_none());
        held.rollback().await.unwrap();
    }
    reads.await
}

suite! {
    once fn they_share_a_statement(world) {
        let items = items(&world, 40).await;
        // One is asked three times, one does not exist.
        let ids: Vec<i64> = (1..=40).chain([7, 7, 99]).collect();
        let found = together(&world, ids.iter().map(|id| items.get_by_id(id))).await;
        for (id, found) in ids.iter().zip(found) {
            let expected = (*id <= 40).then(|| item(*id, &id.to_string()));
            assert_eq!(found.unwrap(), expected, "{id}");
        }
        // The first was alone.
        assert_eq!(selects(&world), if world.is_sqlite() { ids.len() } else { 2 });
        for id in [1i64, 2] {
            items.get_by_id(&id).await.unwrap().unwrap();
        }
        assert_eq!(selects(&world), 2, "one after the other, each is alone");
    }

    once fn a_statement_is_for_so_many(world) {
        let items = items(&world, 200).await;
        let ids: Vec<i64> = (1..=200).collect();
        let found = together(&world, ids.iter().map(|id| items.get_by_id(id))).await;
        assert!(found.into_iter().zip(&ids).all(|(found, id)| found.unwrap().is_some_and(|item| item.id == *id)));
        assert_eq!(selects(&world), if world.is_sqlite() { 200 } else { 1 + 4 });
    }

    once fn a_row_that_cannot_be_read_fails_its_own_read(world) {
        if world.is_sqlite() {
            return;
        }
        let items = items(&world, 9).await;
        world.sql("ALTER TABLE items ALTER COLUMN stock DROP NOT NULL").await;
        world.sql("UPDATE items SET stock = NULL WHERE id = 5").await;
        let ids: Vec<i64> = (1..=9).collect();
        for (found, id) in together(&world, ids.iter().map(|id| items.get_by_id(id))).await.into_iter().zip(ids) {
            match found {
                Ok(found) => assert_eq!(found, Some(item(id, &id.to_string()))),
                Err(error) => assert!(id == 5 && matches!(error, StorehausError::SchemaMismatch(_)), "{id}: {error}"),
            }
        }
    }

    once fn what_the_database_takes_for_equal_is_found(world) {
        if world.is_sqlite() {
            return;
        }
        make_caseless_docs(&world).await;
        let docs = world.haus.store::<Doc>();
        docs.create_many(vec![doc("a", "1"), doc("b", "2"), doc("c", "3")]).await.unwrap();
        let ids = ["a", "b", "C", "c", "B", "none"];
        let found = join_all(ids.iter().map(|id| docs.get_by_id(*id))).await;
        let bodies: Vec<_> = found.into_iter().map(|found| found.unwrap().map(|doc| doc.body)).collect();
        let some = |body: &str| Some(body.to_owned());
        assert_eq!(bodies, [some("1"), some("2"), some("3"), some("3"), some("2"), None]);
    }

    once fn one_that_goes_away_takes_nobody_along(world) {
        if world.is_sqlite() {
            return;
        }
        let items = items(&world, 4).await;
        let held = lock(&world).await;
        let mut reads = begun(&items, &[1, 2, 3, 4]);
        // The one that the statement was begun for.
        drop(reads.remove(1));
        held.rollback().await.unwrap();
        for (found, id) in join_all(reads).await.into_iter().zip([1, 3, 4]) {
            assert_eq!(found.unwrap().unwrap().id, id);
        }
    }

    /// As in a stream of reads whose consumer reads too.
    once fn one_that_is_never_polled_again_holds_nobody_up(world) {
        if world.is_sqlite() {
            return;
        }
        let items = items(&world, 4).await;
        let held = lock(&world).await;
        let mut reads = begun(&items, &[1, 2, 3]);
        held.rollback().await.unwrap();
        let third = timeout(PATIENCE, reads.pop().unwrap()).await.expect("waits for one that is not polled");
        assert_eq!(third.unwrap().unwrap().id, 3);
        assert_eq!(items.require(&4).await.unwrap().id, 4);
        for (read, id) in reads.into_iter().zip([1, 2]) {
            assert_eq!(read.await.unwrap().unwrap().id, id);
        }
    }

    once fn reads_that_are_all_gone_end_their_statement(world) {
        if world.is_sqlite() {
            return;
        }
        let items = items(&world, 4).await;
        let held = lock(&world).await;
        let reads = begun(&items, &[1, 2, 3]);
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT%items%'";
        until("both wait", || async { world.number(waiting).await == 2 }).await;
        let open = world.haus.pool().size();
        drop(reads);
        // Nothing answers yet: the lock is held.
        until("their connections are closed", || async { world.haus.pool().size() == open - 2 }).await;
        held.rollback().await.unwrap();
        assert_eq!(items.count().await.unwrap(), 4);
    }

    once fn without_a_database_each_is_told(world) {
        let items = items(&world, 9).await;
        items.pool().close().await;
        for found in join_all([1i64, 2, 3, 4].iter().map(|id| items.get_by_id(id))).await {
            assert!(matches!(found, Err(StorehausError::Unavailable(_))), "{found:?}");
        }
    }
}
