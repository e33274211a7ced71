//! What the tests of stores share: derived models without the facade, and databases.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use sqlx::{Postgres, SqlStr, Sqlite};
use storehaus_core::StoreHaus;
use storehaus_core::backend::Backend;

/// The path for `crate` in models.
pub mod __private {
    pub use storehaus_core::__private::{cache, chrono, sqlx};
    pub use storehaus_core::{__if_postgres as if_postgres, __if_sqlite as if_sqlite};
    pub use storehaus_core::{backend, column, field, model};
}

/// A database of its own, in memory.
pub async fn sqlite(schema: &[&'static str]) -> StoreHaus<Sqlite> {
    let haus = StoreHaus::open("sqlite::memory:").await.unwrap();
    run(&haus, schema).await;
    haus
}

/// The database of `DATABASE_URL`, where it names one.
#[expect(clippy::print_stderr, reason = "says that nothing was checked, and why")]
pub async fn postgres(schema: &[&'static str]) -> Option<StoreHaus<Postgres>> {
    let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| url.starts_with("postgres")) else {
        eprintln!("skipped on Postgres: DATABASE_URL names none");
        return None;
    };
    let haus = StoreHaus::open(&url).await.unwrap();
    run(&haus, schema).await;
    Some(haus)
}

pub async fn run<DB: Backend>(haus: &StoreHaus<DB>, statements: &[&'static str]) {
    let mut conn = haus.pool().acquire().await.unwrap();
    for statement in statements {
        DB::run(&mut conn, SqlStr::from_static(statement)).await.unwrap();
    }
}
