//! What all workloads share: the servers, the rows, the keys and the order in which they are asked for.

use std::env;
use std::time::Duration;

use bb8_redis::{RedisConnectionManager, bb8};
use redis::IntoConnectionInfo;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use storehaus::prelude::*;
use storehaus::sqlx;
use storehaus::sqlx::postgres::PgPoolOptions;
use storehaus_cache::codec::to_bytes;

use crate::harness::Failure;
use crate::user::{TTL, User, mix};

/// How many rows the table has.
pub(crate) const ROWS: usize = 10_000;

/// Connections of each pool to the database.
pub(crate) const CONNECTIONS: u32 = 16;

/// How long a store that fills a cache waits for Redis: longer than a busy machine takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const NOT_FILLED: &str = "the cache of a store could not be filled: Redis did not answer in time";

/// Multiplexed connections of hand-written caches to Redis.
const MULTIPLEXED: usize = 4;

pub(crate) struct World {
    /// The rows as they are in the table, apart from their versions.
    pub(crate) users: Vec<User>,
    pub(crate) ids: Vec<Uuid>,
    /// The keys of hand-written caches.
    pub(crate) hand_keys: Vec<String>,
    /// The keys of `cached`.
    pub(crate) store_keys: Vec<String>,
    /// Places of rows, Zipf 0.99.
    sequence: Vec<u32>,
    pub(crate) database: String,
    pub(crate) server: String,
    /// The first part of every key.
    pub(crate) prefix: String,
    /// Of the competitors.
    pub(crate) pool: PgPool,
    redis: Vec<MultiplexedConnection>,
    pub(crate) bb8: bb8::Pool<RedisConnectionManager>,
    /// With Redis.
    pub(crate) cached: GenericStore<User>,
    /// With the same Redis and the same keys, and patience: it fills what `cached` reads.
    filler: GenericStore<User>,
    /// In process.
    pub(crate) local: GenericStore<User>,
    /// Without a cache, its connections those that the builder opens for a URL.
    pub(crate) plain: GenericStore<User>,
    /// Without a cache, on a pool as the competitors have.
    pub(crate) pooled: GenericStore<User>,
}

impl World {
    /// Connects, makes the table anew and fills it.
    pub(crate) async fn open() -> Result<Self, Failure> {
        let variable = |name: &str| env::var(name).map_err(|_| format!("{name} is not set; run `cargo xtask bench`"));
        let (database, server) = (variable("DATABASE_URL")?, variable("REDIS_URL")?);
        let prefix = format!("bench-{}", std::process::id());
        let haus = async |cache: Option<CacheConfig>| {
            let builder = StoreHaus::<Postgres>::builder().url(&database);
            Ok::<_, Failure>(match cache {
                Some(config) => builder.cache(config).build().await?,
                None => builder.build().await?,
            })
        };
        let (hand, plain) = (pool(&database).await?, haus(None).await?);
        let pooled = StoreHaus::<Postgres>::builder().database(pool(&database).await?).build().await?;
        sqlx::query("DROP TABLE IF EXISTS storehaus_bench_users").execute(&hand).await?;
        plain.create_missing_tables::<(User,)>().await?;
        let users: Vec<_> = (0..ROWS as u64).map(User::new).collect();
        for users in users.chunks(1_000) {
            plain.store::<User>().create_many(users.to_vec()).await?;
        }
        sqlx::query("VACUUM ANALYZE storehaus_bench_users").execute(&hand).await?;

        let ids: Vec<_> = users.iter().map(|user| user.id).collect();
        let cached = haus(Some(CacheConfig::new(&server, TTL, &prefix))).await?.store::<User>();
        let patient = CacheConfig::new(&server, TTL, &prefix).with_timeout(PATIENCE).with_read_budget(PATIENCE);
        let filler = haus(Some(patient)).await?.store::<User>();
        // Room to spare: an eviction policy that shares its room out by hash would otherwise evict some of the rows.
        let local = CacheConfig::in_process(TTL, &prefix).with_l1_capacity(2 * ROWS);
        let mut connections = Vec::new();
        for _ in 0..MULTIPLEXED {
            connections.push(client(&server)?.get_multiplexed_async_connection().await?);
        }
        Ok(Self {
            hand_keys: ids.iter().map(|id| format!("{prefix}:hand:{id}")).collect(),
            store_keys: ids.iter().map(|id| cached.cache_key(id)).collect::<Result<_, _>>()?,
            sequence: zipf(ROWS, 0.99, 1 << 17),
            redis: connections,
            bb8: bb8::Pool::builder().build(RedisConnectionManager::new(address(&server)?)?).await?,
            local: haus(Some(local)).await?.store::<User>(),
            plain: plain.store::<User>(),
            pooled: pooled.store::<User>(),
            pool: hand,
            cached,
            filler,
            database,
            server,
            prefix,
            ids,
            users,
        })
    }

    /// Takes away what was put into the servers.
    pub(crate) async fn close(&self) -> Result<(), Failure> {
        self.clear_cached().await?;
        self.clear_hand().await?;
        sqlx::query("DROP TABLE storehaus_bench_users").execute(&self.pool).await?;
        Ok(())
    }

    /// The connection to Redis of hand-written caches.
    pub(crate) fn redis(&self) -> MultiplexedConnection {
        self.redis[0].clone()
    }

    /// The connection of a task when its tasks share so many.
    pub(crate) fn redis_of(&self, connections: usize, task: usize) -> MultiplexedConnection {
        self.redis[task % connections].clone()
    }

    /// The place of the row that a task asks for next.
    pub(crate) fn next(&self, task: usize, number: usize) -> usize {
        self.sequence[(task * 7_919 + number) % self.sequence.len()] as usize
    }

    /// Empties the Redis tier of `cached`.
    pub(crate) async fn clear_cached(&self) -> Result<(), Failure> {
        self.settle().await?;
        self.delete(&self.store_keys).await
    }

    /// Empties the hand-written cache.
    pub(crate) async fn clear_hand(&self) -> Result<(), Failure> {
        self.delete(&self.hand_keys).await
    }

    /// Puts every row into the Redis tier of `cached`, as its table has it now.
    pub(crate) async fn fill_cached(&self) -> Result<(), Failure> {
        self.clear_cached().await?;
        for ids in self.ids.chunks(500) {
            self.filler.get_many(ids).await?;
        }
        self.filler.cache_manager()?.settle().await;
        let found: u64 = redis::cmd("EXISTS").arg(&self.store_keys).query_async(&mut self.redis()).await?;
        if found == ROWS as u64 { Ok(()) } else { Err(NOT_FILLED.into()) }
    }

    /// Puts every row into the hand-written cache, as the table has it now.
    pub(crate) async fn fill_hand(&self) -> Result<(), Failure> {
        let users = crate::user::select_many(&self.pool, &self.ids).await?;
        let keys: std::collections::HashMap<_, _> = self.ids.iter().zip(&self.hand_keys).collect();
        for users in users.chunks(500) {
            let mut pipeline = redis::pipe();
            for user in users {
                pipeline.cmd("SET").arg(keys[&user.id]).arg(to_bytes(user)?).arg("EX").arg(TTL).ignore();
            }
            let () = pipeline.query_async(&mut self.redis()).await?;
        }
        Ok(())
    }

    /// Waits for the fills of `cached` that are under way.
    pub(crate) async fn settle(&self) -> Result<(), Failure> {
        self.cached.cache_manager()?.settle().await;
        Ok(())
    }

    /// Deletes the dead rows of earlier writes.
    pub(crate) async fn vacuum(&self) -> Result<(), Failure> {
        sqlx::query("VACUUM storehaus_bench_users").execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) async fn delete(&self, keys: &[String]) -> Result<(), Failure> {
        for keys in keys.chunks(1_000) {
            let () = redis::cmd("DEL").arg(keys).query_async(&mut self.redis()).await?;
        }
        Ok(())
    }
}

/// A pool with the defaults of sqlx, apart from its size.
pub(crate) async fn pool(url: &str) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new().max_connections(CONNECTIONS).acquire_timeout(Duration::from_secs(30)).connect(url).await
}

/// Redis, with TCP_NODELAY as StoreHaus sets it.
pub(crate) fn client(server: &str) -> Result<redis::Client, redis::RedisError> {
    redis::Client::open(address(server)?)
}

fn address(server: &str) -> Result<redis::ConnectionInfo, redis::RedisError> {
    Ok(server.into_connection_info()?.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

/// Numbers below `n`, of which the `k`th is drawn in proportion to `1 / k^exponent`.
fn zipf(n: usize, exponent: f64, length: usize) -> Vec<u32> {
    let mut sum = 0.0;
    let bounds: Vec<f64> = (1..=n)
        .map(|rank| {
            sum += (rank as f64).powf(-exponent);
            sum
        })
        .collect();
    let draw = |at: usize| {
        let point = mix(at as u64) as f64 / u64::MAX as f64 * sum;
        bounds.partition_point(|bound| *bound < point).min(n - 1) as u32
    };
    (0..length).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ranks_are_drawn_as_often_as_zipf_says() {
        let drawn = zipf(ROWS, 0.99, 1 << 17);
        let share = |below: u32| drawn.iter().filter(|rank| **rank < below).count() as f64 / drawn.len() as f64;
        let weight = |ranks: usize| (1..=ranks).map(|rank| (rank as f64).powf(-0.99)).sum::<f64>() / 10.224_4;
        assert!((share(1) - weight(1)).abs() < 0.005, "{} {}", share(1), weight(1));
        assert!((share(100) - weight(100)).abs() < 0.01, "{} {}", share(100), weight(100));
        assert!(drawn.iter().all(|rank| (*rank as usize) < ROWS));
    }
}
