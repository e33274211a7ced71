//! StoreHaus: cached repositories on sqlx.

pub use storehaus_core::{backend, column, model};
pub use storehaus_derive::{Column, Model};

/// What generated code names. Not a public API.
#[doc(hidden)]
pub mod __private {
    pub use storehaus_cache as cache;
    pub use storehaus_core::__private::{chrono, sqlx};
    pub use storehaus_core::{__if_postgres as if_postgres, __if_sqlite as if_sqlite};
    pub use storehaus_core::{backend, column, model};
}
