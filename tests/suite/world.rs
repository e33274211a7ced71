//! Worlds: one database and one cache each, made for one test and removed after it.

use std::future::Future;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use storehaus::backend::{Backend, Dialect};
use storehaus::schema::Inspect;
use storehaus::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use storehaus::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use storehaus::sqlx::{AssertSqlSafe, ConnectOptions as _, Pool, SqlSafeStr as _};
use storehaus::{CacheConfig, CacheManager, L1, Postgres, Sqlite, StoreHaus, StoreStats};

use crate::statements;

/// The tiers of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tiers {
    None,
    InProcess,
    Redis,
    Both,
}

/// A database and a cache that no other test sees.
#[derive(Clone)]
pub(crate) struct World<DB: Backend> {
    /// The name of its threads and the global prefix of its keys.
    pub(crate) name: String,
    pub(crate) tiers: Tiers,
    pub(crate) haus: StoreHaus<DB>,
}

impl<DB: Backend> World<DB> {
    /// The configuration of its cache; `None` without one.
    pub(crate) fn config(&self) -> Option<CacheConfig> {
        config(self.tiers, &self.name)
    }

    /// The manager.
    pub(crate) fn manager(&self) -> &CacheManager {
        self.haus.cache().unwrap()
    }

    /// Another instance of the application: the same database and Redis, another manager.
    pub(crate) fn neighbour(&self) -> StoreHaus<DB>
    where
        DB: TestDb,
    {
        assemble(self.haus.pool().clone(), self.config())
    }

    /// The same database on connections of its own, which have met nothing yet.
    pub(crate) async fn fresh(&self) -> StoreHaus<DB>
    where
        DB: TestDb,
    {
        self.fresh_behind_any(self.config()).await
    }

    /// The same database on connections of its own, behind a cache configured otherwise.
    pub(crate) async fn fresh_behind(&self, config: CacheConfig) -> StoreHaus<DB>
    where
        DB: TestDb,
    {
        self.fresh_behind_any(Some(config)).await
    }

    async fn fresh_behind_any(&self, config: Option<CacheConfig>) -> StoreHaus<DB>
    where
        DB: TestDb,
    {
        let options = self.haus.pool().connect_options();
        assemble(Pool::connect_with((*options).clone()).await.unwrap(), config)
    }

    /// The same database behind a cache configured otherwise.
    pub(crate) fn behind(&self, config: CacheConfig) -> StoreHaus<DB>
    where
        DB: TestDb,
    {
        assemble(self.haus.pool().clone(), Some(config))
    }

    pub(crate) fn is_cached(&self) -> bool {
        self.tiers != Tiers::None
    }

    pub(crate) fn has_redis(&self) -> bool {
        matches!(self.tiers, Tiers::Redis | Tiers::Both)
    }

    /// Waits until what was read stands in the cache.
    pub(crate) async fn settle(&self) {
        if let Ok(manager) = self.haus.cache() {
            manager.settle().await;
        }
    }

    /// What all its stores did so far.
    pub(crate) async fn stats(&self) -> StoreStats {
        self.manager().get_stats().await.unwrap().total
    }

    /// Runs statements without parameters.
    pub(crate) async fn sql(&self, text: &str) {
        let mut conn = self.haus.pool().acquire().await.unwrap();
        DB::run(&mut *conn, AssertSqlSafe(text.to_owned()).into_sql_str()).await.unwrap();
    }

    /// The number a statement yields.
    pub(crate) async fn number(&self, text: &str) -> u64 {
        self.number_on(&mut *self.haus.pool().acquire().await.unwrap(), text).await
    }

    /// The number a statement yields on this connection.
    pub(crate) async fn number_on(&self, conn: &mut DB::Connection, text: &str) -> u64 {
        let sql = AssertSqlSafe(text.to_owned()).into_sql_str();
        let row = DB::fetch_optional(conn, sql, DB::Arguments::default()).await.unwrap();
        DB::count(&row.unwrap()).unwrap()
    }

    /// The statements it sent since this was asked last.
    pub(crate) fn statements(&self) -> Vec<String> {
        statements::take(&self.name)
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        DB::DIALECT == Dialect::Sqlite
    }
}

/// How long a test waits for something that is bound to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition that another task brings about.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let wait = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what} did not happen within {PATIENCE:?}");
}

/// The Redis server of `cargo xtask test`.
pub(crate) fn redis_url() -> String {
    required("REDIS_URL")
}

fn required(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!("{name} is not set: run this test by `cargo xtask test`, which starts the servers"),
    }
}

/// Runs a test in a world of its own.
pub(crate) fn run<DB: TestDb, F>(tiers: Tiers, body: impl FnOnce(World<DB>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}{}-{}", statements::WORLD, std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    statements::watch();
    let config = config(tiers, &name);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(name.clone())
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (pool, remains) = DB::make(&name).await;
        let world = World { name: name.clone(), tiers, haus: assemble(pool.clone(), config) };
        if tiers == Tiers::Both {
            // Until then rows are read from Redis.
            assert!(world.manager().listen().await);
        }
        let ended = tokio::spawn(body(world)).await;
        pool.close().await;
        DB::remove(remains).await;
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    });
    statements::take(&name);
}

fn config(tiers: Tiers, name: &str) -> Option<CacheConfig> {
    match tiers {
        Tiers::None => None,
        Tiers::InProcess => Some(CacheConfig::in_process(60, name)),
        Tiers::Redis => Some(patient(&redis_url(), name)),
        Tiers::Both => Some(patient(&redis_url(), name).with_l1(L1::Bounded(PATIENCE))),
    }
}

/// Redis, and no read that gives up because the machine has too much to do.
pub(crate) fn patient(url: &str, prefix: &str) -> CacheConfig {
    CacheConfig::new(url, 60, prefix).with_pool_size(1).with_read_budget(PATIENCE).with_timeout(PATIENCE)
}

fn assemble<DB: TestDb>(pool: Pool<DB>, config: Option<CacheConfig>) -> StoreHaus<DB> {
    // The builder awaits nothing when it is given a pool.
    let builder = StoreHaus::builder().database(pool);
    let builder = match config {
        Some(config) => builder.cache(config),
        None => builder,
    };
    futures_util::FutureExt::now_or_never(builder.build()).unwrap().unwrap()
}

/// A database that can be made for one test.
pub(crate) trait TestDb: Backend + Inspect {
    /// What is left to remove.
    type Remains: Send;

    fn make(name: &str) -> impl Future<Output = (Pool<Self>, Self::Remains)> + Send;

    fn remove(remains: Self::Remains) -> impl Future<Output = ()> + Send;
}

/// A directory that ends with the value.
pub(crate) struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl TestDb for Sqlite {
    type Remains = Directory;

    async fn make(name: &str) -> (Pool<Self>, Directory) {
        let path = std::env::temp_dir().join(format!("storehaus-{name}"));
        std::fs::create_dir_all(&path).unwrap();
        let directory = Directory(path);
        let thread = name.to_owned();
        let options = SqliteConnectOptions::new()
            .filename(directory.0.join("test.db"))
            .create_if_missing(true)
            .busy_timeout(PATIENCE)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Off)
            .thread_name(move |_| thread.clone());
        let pool = SqlitePoolOptions::new().max_connections(4).acquire_timeout(PATIENCE).connect_with(options).await;
        (pool.unwrap(), directory)
    }

    async fn remove(_directory: Directory) {}
}

impl TestDb for Postgres {
    /// A schema.
    type Remains = String;

    async fn make(name: &str) -> (Pool<Self>, String) {
        let options = PgConnectOptions::from_str(&required("DATABASE_URL")).unwrap();
        let schema = name.replace('-', "_");
        let mut conn = options.connect().await.unwrap();
        Self::run(&mut conn, AssertSqlSafe(format!("CREATE SCHEMA {schema}")).into_sql_str()).await.unwrap();
        let options = options.options([("search_path", &schema)]);
        let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(PATIENCE).connect_with(options).await;
        (pool.unwrap(), schema)
    }

    async fn remove(schema: String) {
        let options = PgConnectOptions::from_str(&required("DATABASE_URL")).unwrap();
        let mut conn = options.connect().await.unwrap();
        let text = format!("SET client_min_messages = error; DROP SCHEMA {schema} CASCADE");
        Self::run(&mut conn, AssertSqlSafe(text).into_sql_str()).await.unwrap();
    }
}

/// Writes each test once for each database and topology. The word before `fn` says for which: `every` one, each
/// `cached` one, each with `redis`, or `once` per database where the test makes its cache itself.
macro_rules! suite {
    ($($(#[$doc:meta])* $tiers:ident fn $name:ident($world:ident) $body:block)*) => {$(
        $(#[$doc])*
        mod $name {
            mod sqlite {
                #[allow(unused_imports, reason = "not every test needs every import of its module")]
                use super::super::*;
                #[allow(dead_code, reason = "not every test names its database")]
                type DB = storehaus::Sqlite;

                async fn body($world: $crate::world::World<DB>) $body

                $crate::world::instances!($tiers);
            }

            mod postgres {
                #[allow(unused_imports, reason = "not every test needs every import of its module")]
                use super::super::*;
                #[allow(dead_code, reason = "not every test names its database")]
                type DB = storehaus::Postgres;

                async fn body($world: $crate::world::World<DB>) $body

                $crate::world::instances!($tiers);
            }
        }
    )*};
}

macro_rules! instances {
    (every) => {
        $crate::world::instances!(once);
        $crate::world::instances!(cached);
    };
    (cached) => {
        #[test]
        fn in_process() {
            $crate::world::run($crate::world::Tiers::InProcess, body);
        }

        $crate::world::instances!(redis);
    };
    (redis) => {
        #[test]
        fn redis() {
            $crate::world::run($crate::world::Tiers::Redis, body);
        }

        #[test]
        fn both() {
            $crate::world::run($crate::world::Tiers::Both, body);
        }
    };
    (once) => {
        #[test]
        fn uncached() {
            $crate::world::run($crate::world::Tiers::None, body);
        }
    };
}

pub(crate) use {instances, suite};
