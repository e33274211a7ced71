//! Models, backends and the generic store.

pub mod backend;
pub mod column;
pub mod model;
pub mod schema;

mod sql_text;

/// What generated code names. Not a public API.
#[doc(hidden)]
pub mod __private {
    pub use chrono;
    pub use sqlx;
    pub use storehaus_cache as cache;
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
