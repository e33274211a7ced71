//! Models, backends and the generic store of StoreHaus.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | what the derive says about a struct |
//! | [`mod@column`] | which types a field may have, and how each backend stores them |
//! | [`backend`] | the databases |
//! | [`schema`] | tables made from models, and compared with them |
//! | [`outbox`] | changes recorded in the database, and delivered to the caches |
//! | [`GenericStore`] | the operations on one model |
//! | [`StoreHaus`] | one database, one cache, and the stores on them |
//! | [`Tx`] | a transaction, and the stores inside it |
//! | [`StorehausError`] | what goes wrong |

pub mod backend;
pub mod column;
mod error;
#[doc(hidden)]
pub mod field;
mod haus;
mod lend;
pub mod model;
pub mod outbox;
pub mod schema;
mod sql;
mod sql_text;
mod store;
mod tx;

pub use error::{Failed, Result, StorehausError};
pub use haus::{Builder, Models, StoreHaus};
pub use lend::Connections;
pub use sql_text::Sql;
pub use store::{GenericStore, SignalManager, StoreCache, TxStore};
pub use tx::{Isolation, Tx, TxOptions};

/// What generated code names. Not a public API.
#[doc(hidden)]
pub mod __private {
    pub use storehaus_cache as cache;
    pub use {chrono, rust_decimal, serde, serde_json, sqlx, uuid};
}

/// Expands to its input when the feature `postgres` is on.
#[cfg(feature = "postgres")]
#[doc(hidden)]
#[macro_export]
macro_rules! __if_postgres {
    ($($tokens:tt)*) => { $($tokens)* };
}

/// Expands to nothing: the feature `postgres` is off.
#[cfg(not(feature = "postgres"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __if_postgres {
    ($($tokens:tt)*) => {};
}

/// Expands to its input when the feature `sqlite` is on.
#[cfg(feature = "sqlite")]
#[doc(hidden)]
#[macro_export]
macro_rules! __if_sqlite {
    ($($tokens:tt)*) => { $($tokens)* };
}

/// Expands to nothing: the feature `sqlite` is off.
#[cfg(not(feature = "sqlite"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __if_sqlite {
    ($($tokens:tt)*) => {};
}
