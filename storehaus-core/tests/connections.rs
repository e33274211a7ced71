//! Opening databases, and connections that outlive a change of the schema.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

mod shim;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Postgres, Sqlite};
use storehaus_core::{StoreHaus, StorehausError};
use storehaus_derive::Model;

#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "con_plain", crate = crate::shim)]
struct Plain {
    #[key]
    id: i64,
    name: String,
}

#[tokio::test]
async fn the_url_of_another_database_is_refused() {
    let postgres = ["mysql://u:secret@127.0.0.1:1/db", "sqlite://secret.db", "secret"];
    let sqlite = ["postgres://u:secret@127.0.0.1:1/db", "secret"];
    let mut errors = Vec::new();
    for url in postgres {
        errors.push(StoreHaus::<Postgres>::open(url).await.unwrap_err());
    }
    for url in sqlite {
        errors.push(StoreHaus::<Sqlite>::open(url).await.unwrap_err());
    }
    for error in errors {
        assert!(matches!(error, StorehausError::Database(_)), "{error:?}");
        assert!(error.to_string().contains("the URL does not start with"), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_database_that_is_down_is_unavailable() {
    let error = StoreHaus::<Postgres>::open("postgres://u:secret@127.0.0.1:1/db").await.unwrap_err();
    assert!(matches!(error, StorehausError::Unavailable(_)), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn a_database_without_a_name_is_one_database() {
    let haus = StoreHaus::<Sqlite>::open("sqlite://").await.unwrap();
    assert_eq!(haus.pool().options().get_max_connections(), 1);
}

#[tokio::test]
async fn a_statement_outlives_a_change_of_its_columns() {
    let schema = [
        "DROP TABLE IF EXISTS con_plain",
        "CREATE TABLE con_plain (id BIGINT PRIMARY KEY, name TEXT NOT NULL)",
        "INSERT INTO con_plain VALUES (1, 'a')",
    ];
    let Some(haus) = shim::postgres(&schema).await else { return };
    let one = PgPoolOptions::new().max_connections(1).connect_with((*haus.pool().connect_options()).clone());
    let store = StoreHaus::builder().database(one.await.unwrap()).build().await.unwrap().store::<Plain>();
    store.get_by_id(&1).await.unwrap();
    shim::run(&haus, &["ALTER TABLE con_plain ALTER COLUMN name TYPE VARCHAR(9)"]).await;
    let error = store.get_by_id(&1).await.unwrap_err();
    assert!(error.is_transient() && error.is_unchanged(), "{error:?}");
    assert_eq!(store.get_by_id(&1).await.unwrap().unwrap().name, "a");
}
