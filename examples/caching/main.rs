//! The cache on PostgreSQL and Redis, step by step, each with what it did.
//!
//! ```sh
//! cargo xtask servers -- cargo run --example caching
//! ```
//!
//! Works in a schema of its own, `storehaus_caching`, and on keys that begin with `storehaus_caching`; removes both at
//! the end.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the program reports on standard output")]

mod managing;
mod reading;

use std::error::Error;
use std::process::ExitCode;

use storehaus::prelude::*;

/// The prefix of every key in Redis. Each environment that shares a Redis has its own.
#[cfg(debug_assertions)]
const GLOBAL_PREFIX: &str = "storehaus_caching_dev";
#[cfg(not(debug_assertions))]
const GLOBAL_PREFIX: &str = "storehaus_caching_prod";

/// The TTL of rows whose store names none: short while developing.
#[cfg(debug_assertions)]
const DEFAULT_TTL: u64 = 300;
#[cfg(not(debug_assertions))]
const DEFAULT_TTL: u64 = 3_600;

#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "users", schema = "storehaus_caching")]
struct User {
    #[key]
    id: Uuid,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "sessions", schema = "storehaus_caching")]
struct Session {
    #[key]
    token: String,
    user_id: Uuid,
}

#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "products", schema = "storehaus_caching")]
struct Product {
    #[key]
    id: i64,
    title: String,
    price: Decimal,
}

#[derive(Clone, Debug, PartialEq, Model)]
#[model(table = "analytics_events", schema = "storehaus_caching")]
struct AnalyticsEvent {
    #[key]
    id: i64,
    kind: String,
}

type Outcome = Result<(), Box<dyn Error>>;

/// The stores, each with the cache its data asks for.
struct Stores {
    users: GenericStore<User>,
    sessions: GenericStore<Session>,
    products: GenericStore<Product>,
    events: GenericStore<AnalyticsEvent>,
}

impl Stores {
    fn new(pool: &DbPool, cache_manager: &Arc<CacheManager>) -> Self {
        // The manager's TTL, and the table's name as prefix.
        let user_cache = CacheParams::new(cache_manager.clone());
        // 5 minutes: sessions change often.
        let session_cache = CacheParams::new(cache_manager.clone()).with_ttl(300).with_prefix("sessions");
        // 2 hours: products rarely change.
        let product_cache = CacheParams::new(cache_manager.clone()).with_ttl(7_200).with_prefix("premium_products");
        Self {
            users: GenericStore::new(pool.clone(), None, Some(user_cache)),
            sessions: GenericStore::new(pool.clone(), None, Some(session_cache)),
            products: GenericStore::new(pool.clone(), None, Some(product_cache)),
            // No cache: every read asks the database.
            events: GenericStore::new(pool.clone(), None, None),
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let (Ok(database), Ok(redis)) = (std::env::var("DATABASE_URL"), std::env::var("REDIS_URL")) else {
        eprintln!(
            "caching: DATABASE_URL and REDIS_URL are needed; to run with servers of its own: \
             cargo xtask servers -- cargo run --example caching"
        );
        return ExitCode::from(2);
    };
    match run(&database, &redis).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("caching: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(database: &str, redis: &str) -> Outcome {
    section("setup");
    let db_pool = PgPool::connect(database).await?;
    let cache_config = CacheConfig::new(redis, DEFAULT_TTL, GLOBAL_PREFIX)
        .with_pool_size(10)
        .with_timeout(5_000)
        .with_retry_attempts(3)
        .with_retry_delay(100);
    let cache_manager = Arc::new(CacheManager::new(cache_config)?);
    let haus = StoreHaus::builder().database(db_pool.clone()).build().await?;
    haus.create_missing_tables::<(User, Session, Product, AnalyticsEvent)>().await?;
    let stores = Stores::new(&db_pool, &cache_manager);
    println!("{:?}", cache_manager.config());

    let outcome = steps(&db_pool, &cache_manager, &stores).await;

    section("clean up");
    storehaus::sqlx::query("DROP SCHEMA storehaus_caching CASCADE").execute(&db_pool).await?;
    println!("entries removed: {}", cache_manager.delete_pattern("*").await?);
    outcome
}

async fn steps(pool: &DbPool, cache_manager: &CacheManager, stores: &Stores) -> Outcome {
    managing::health(cache_manager).await?;
    reading::hits_and_misses(cache_manager, &stores.users).await?;
    reading::invalidation(cache_manager, &stores.users).await?;
    reading::lifetimes(cache_manager, stores).await?;
    reading::without_cache(&stores.events).await?;
    managing::by_hand(cache_manager, &stores.users).await?;
    reading::warming(cache_manager, &stores.users).await?;
    managing::errors(cache_manager).await?;
    managing::outage(pool).await?;
    managing::statistics(cache_manager).await
}

fn section(title: &str) {
    println!("\n== {title}");
}

fn user(name: &str) -> User {
    // A nil key is replaced when the row is created.
    User { id: Uuid::nil(), name: name.into() }
}
