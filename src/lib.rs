//! StoreHaus: cached repositories on [sqlx](https://docs.rs/sqlx).
//!
//! `#[derive(Model)]` on a domain struct gives a [`GenericStore`] whose reads by key are served from a coherent cache
//! and whose writes keep that cache right. SQLite with a cache in the process is the embedded default; PostgreSQL with
//! Redis is the deployment for many instances. Both are the same program.
//!
//! ```
//! use storehaus::prelude::*;
//!
//! #[derive(Debug, Clone, PartialEq, Model)]
//! #[model(table = "users")]
//! struct User {
//!     #[key]
//!     id: Uuid,
//!     #[unique]
//!     email: String,
//!     name: String,
//! }
//!
//! # #[cfg(feature = "sqlite")]
//! #[tokio::main]
//! async fn main() -> storehaus::Result<()> {
//!     let haus = StoreHaus::<Sqlite>::open("sqlite::memory:").await?;
//!     haus.create_missing_tables::<(User,)>().await?;
//!     let users = haus.store::<User>();
//!
//!     let ada = users.create(User { id: Uuid::nil(), email: "ada@example.org".into(), name: "Ada".into() }).await?;
//!     assert_eq!(users.get_by_id(&ada.id).await?, Some(ada.clone()));
//!
//!     let ada = users.update(&ada.id, User { name: "Ada L.".into(), ..ada }).await?;
//!     assert_eq!(users.require(&ada.id).await?.name, "Ada L.");
//!
//!     assert!(users.delete(&ada.id).await?);
//!     assert_eq!(users.get_by_id(&ada.id).await?, None);
//!     Ok(())
//! }
//! # #[cfg(not(feature = "sqlite"))]
//! # fn main() {}
//! ```
//!
//! # Map
//!
//! | item | what it is |
//! |---|---|
//! | [`Model`](derive@Model), [`Column`](derive@Column) | the derives |
//! | [`StoreHaus`] | one database, one cache, and the stores on them |
//! | [`GenericStore`] | the operations on one model; its page states consistency and cost of each |
//! | [`Tx`] | a transaction, and the stores inside it |
//! | [`CacheConfig`], [`CacheManager`], [`CacheParams`] | the cache, for all stores and for one |
//! | [`StoreCache`], [`mod@explain`], [`AuditOptions`] | what the cache holds, and whether that is right |
//! | [`outbox`] | invalidations that survive their writer, and changes by other programs |
//! | [`StorehausError`], [`CacheError`] | what goes wrong |
//! | [`mod@column`], [`model`], [`backend`], [`schema`] | what the derive writes, for those who implement it by hand |
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `postgres` | yes | the backend [`Postgres`] |
//! | `sqlite` | yes | the backend [`Sqlite`] |
//! | `redis` | yes | the Redis tier: [`CacheConfig::new`] |
//!
//! At least one of `postgres` and `sqlite` is needed. Features only add; none changes what a call does.

pub use storehaus_cache::{
    AuditOptions, BusStats, CacheConfig, CacheError, CacheManager, CacheParams, CacheStats, Coherence, Explanation,
    Failure, Health, IntoTimeout, IntoTtl, Json, L1, OnCacheDown, StoreStats, Ttl, explain,
};
pub use storehaus_core::{
    Builder, Connections, Failed, GenericStore, Isolation, Models, Result, SignalManager, StoreCache, StoreHaus,
    StorehausError, Tx, TxOptions, TxStore, backend, column, model, outbox, schema,
};
pub use storehaus_derive::{Column, Model};

#[cfg(feature = "postgres")]
pub use storehaus_core::__private::sqlx::Postgres;
#[cfg(feature = "sqlite")]
pub use storehaus_core::__private::sqlx::Sqlite;

/// The crates whose types stand in models and signatures, in the versions StoreHaus uses.
pub use storehaus_core::__private::{chrono, rust_decimal, serde, serde_json, sqlx, uuid};

/// The pool of the default backend.
pub type DbPool = sqlx::Pool<backend::DefaultBackend>;

/// Everything a program with models needs: `use storehaus::prelude::*;`.
pub mod prelude {
    pub use std::sync::Arc;
    pub use std::time::Duration;

    pub use crate::chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
    pub use crate::rust_decimal::Decimal;
    pub use crate::uuid::Uuid;
    pub use crate::{
        CacheConfig, CacheError, CacheManager, CacheParams, CacheStats, Coherence, Column, DbPool, GenericStore,
        Isolation, Json, L1, Model, OnCacheDown, StoreHaus, StorehausError, Ttl, Tx, TxOptions,
    };

    #[cfg(feature = "postgres")]
    pub use crate::Postgres;
    #[cfg(feature = "sqlite")]
    pub use crate::Sqlite;
    #[cfg(feature = "postgres")]
    pub use crate::sqlx::PgPool;
    #[cfg(feature = "sqlite")]
    pub use crate::sqlx::SqlitePool;
}

/// What generated code names. Not a public API.
#[doc(hidden)]
pub mod __private {
    pub use storehaus_cache as cache;
    pub use storehaus_core::__private::{chrono, sqlx};
    pub use storehaus_core::{__if_postgres as if_postgres, __if_sqlite as if_sqlite};
    pub use storehaus_core::{backend, column, field, model};
}

/// The programs of the documents, compiled and run with the tests.
#[cfg(all(doctest, feature = "postgres", feature = "sqlite", feature = "redis"))]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/caching.md")]
    struct Caching;

    #[doc = include_str!("../docs/errors.md")]
    struct Errors;

    #[doc = include_str!("../docs/models.md")]
    struct Models;

    #[doc = include_str!("../docs/outbox.md")]
    struct Outbox;

    #[doc = include_str!("../docs/transactions.md")]
    struct Transactions;
}
