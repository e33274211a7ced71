//! The statements of models of unusual shape.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

mod shim;

use storehaus_core::model::Persist;
use storehaus_core::schema::Inspect;
use storehaus_core::{StoreHaus, StorehausError};
use storehaus_derive::Model;

#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "st_ticket", crate = crate::shim)]
struct Ticket {
    #[key]
    id: i64,
}

/// Its table and columns have the names the statements give to what they send.
#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "v", crate = crate::shim)]
struct V {
    #[key]
    id: i64,
    c0: i64,
    c1: i64,
}

#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "excluded", crate = crate::shim)]
struct Excluded {
    #[key]
    id: i64,
    n: i64,
}

#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "st_short", crate = crate::shim)]
struct Short {
    #[key]
    id: i64,
    name: String,
    email: String,
}

async fn shapes<DB: Inspect>(haus: StoreHaus<DB>)
where
    Ticket: Persist<DB>,
    V: Persist<DB>,
    Excluded: Persist<DB>,
{
    haus.create_missing_tables::<(Ticket, V, Excluded)>().await.unwrap();

    let tickets = haus.store::<Ticket>();
    let made = tickets.create_many(vec![Ticket { id: 0 }, Ticket { id: 0 }, Ticket { id: 0 }]).await.unwrap();
    assert_eq!(made, [Ticket { id: 1 }, Ticket { id: 2 }, Ticket { id: 3 }]);

    let store = haus.store::<V>();
    store.create_many(vec![V { id: 1, c0: 1, c1: 1 }, V { id: 2, c0: 2, c1: 2 }]).await.unwrap();
    let changed = [V { id: 2, c0: 20, c1: 21 }, V { id: 1, c0: 10, c1: 11 }];
    let back = store.update_many(changed.iter().map(|row| (row.id, row.clone())).collect()).await.unwrap();
    assert_eq!(back, changed);

    let store = haus.store::<Excluded>();
    store.upsert(Excluded { id: 1, n: 1 }).await.unwrap();
    assert_eq!(store.upsert(Excluded { id: 1, n: 2 }).await.unwrap().n, 2);
    let rows = vec![Excluded { id: 1, n: 3 }, Excluded { id: 2, n: 4 }];
    assert_eq!(store.upsert_many(rows.clone()).await.unwrap(), rows);
}

#[tokio::test]
async fn unusual_shapes_on_sqlite() {
    shapes(shim::sqlite(&[]).await).await;
}

#[tokio::test]
async fn unusual_shapes_on_postgres() {
    let Some(haus) = shim::postgres(&["DROP TABLE IF EXISTS st_ticket, v, excluded"]).await else { return };
    shapes(haus).await;
}

#[tokio::test]
async fn a_column_that_a_table_lacks_is_no_text_on_sqlite() {
    let schema = [
        "CREATE TABLE st_short (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT",
        "INSERT INTO st_short VALUES (1, 'a')",
    ];
    let haus = shim::sqlite(&schema).await;
    let store = haus.store::<Short>();
    assert!(matches!(store.get_by_id(&1).await, Err(StorehausError::SchemaMismatch(_))));
    assert!(matches!(store.get_many(&[1]).await, Err(StorehausError::SchemaMismatch(_))));
    assert!(matches!(store.list_all().await, Err(StorehausError::SchemaMismatch(_))));
}

#[tokio::test]
async fn literals_are_keys_in_writes_too() {
    let haus = shim::sqlite(&[]).await;
    haus.create_missing_tables::<(Ticket,)>().await.unwrap();
    let store = haus.store::<Ticket>();
    store.create(Ticket { id: 7 }).await.unwrap();
    assert!(store.exists(&7).await.unwrap());
    store.update(&7, Ticket { id: 7 }).await.unwrap();
    assert!(store.delete(&7).await.unwrap());
}
