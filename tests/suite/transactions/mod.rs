//! Transactions: what is seen of them, by whom and when, and how they end.

mod concurrent;
mod drops;
mod ends;
mod failures;
mod inside;
mod lost;
mod refused;
mod savepoints;

use storehaus::backend::Dialect;
use storehaus::prelude::*;
use storehaus::sqlx::{Connection as _, SqlStr};

use crate::models::{Item, item};
use crate::world::{TestDb, World};

/// Items 1 to `count`, in the database and in the cache.
async fn stocked<DB: TestDb>(world: &World<DB>, count: i64) -> GenericStore<Item, DB>
where
    Item: storehaus::model::Persist<DB>,
{
    world.haus.create_missing_tables::<(Item,)>().await.unwrap();
    let items = world.haus.store::<Item>();
    let rows: Vec<Item> = (1..=count).map(|id| item(id, &format!("code{id}"))).collect();
    items.create_many(rows).await.unwrap();
    for id in 1..=count {
        items.get_by_id(&id).await.unwrap().unwrap();
    }
    world.settle().await;
    items
}

/// Item `id` of [`stocked`] with another stock.
fn stock(id: i64, stock: i32) -> Item {
    Item { stock, ..item(id, &format!("code{id}")) }
}

/// Waits until every connection is back in the pool, and sees that none is inside a transaction.
async fn all_connections_are_free<DB: TestDb>(world: &World<DB>) {
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(world.haus.pool().acquire().await.unwrap());
    }
    for conn in &mut all {
        assert!(!conn.is_in_transaction());
        let run = |sql| SqlStr::from_static(sql);
        match DB::DIALECT {
            Dialect::Postgres => {
                let done = DB::run(conn, run("SAVEPOINT outside")).await;
                assert!(done.is_err_and(|error| error.to_string().contains("transaction block")));
            }
            Dialect::Sqlite => DB::run(conn, run("BEGIN; COMMIT")).await.unwrap(),
        }
    }
    drop(all);
    world.settle().await;
}

/// The stock of an item, as a connection sees it that has met nothing yet.
async fn in_database<DB: TestDb>(world: &World<DB>, id: i64) -> Option<i32>
where
    Item: storehaus::model::Persist<DB>,
{
    let fresh = world.fresh().await;
    let rows = fresh.store::<Item>().list_all().await.unwrap();
    fresh.pool().close().await;
    rows.into_iter().find(|row| row.id == id).map(|row| row.stock)
}
