//! A table of rows with a number and a text, as many and as long as a workload wants.

use redis::aio::MultiplexedConnection;
use storehaus::prelude::*;
use storehaus::sqlx;
use storehaus_cache::codec::to_bytes;

use crate::harness::Failure;
use crate::user::TTL;
use crate::world::{NOT_FILLED, PATIENCE, World, pool};

/// A row.
#[derive(Clone, Debug, Model)]
#[model(table = "storehaus_bench_blobs")]
pub(crate) struct Blob {
    #[key]
    pub(crate) id: i64,
    pub(crate) body: String,
}

/// The table, and a store with Redis on it.
pub(crate) struct Blobs {
    pub(crate) store: GenericStore<Blob>,
    /// The same with patience: it fills what the other reads.
    filler: GenericStore<Blob>,
    pub(crate) pool: PgPool,
    pub(crate) redis: MultiplexedConnection,
    prefix: String,
    /// How many rows there are; their ids begin with 1.
    pub(crate) rows: usize,
}

impl Blobs {
    /// Makes the table anew, empty.
    pub(crate) async fn open(world: &World) -> Result<Self, Failure> {
        let prefix = format!("{}-blobs", world.prefix);
        let cache = CacheConfig::new(&world.server, TTL, &prefix);
        let patient = cache.clone().with_timeout(PATIENCE).with_read_budget(PATIENCE);
        let haus = async |cache| StoreHaus::<Postgres>::builder().url(&world.database).cache(cache).build().await;
        let (haus, filler) = (haus(cache).await?, haus(patient).await?);
        let pool = pool(&world.database).await?;
        sqlx::query("DROP TABLE IF EXISTS storehaus_bench_blobs CASCADE").execute(&pool).await?;
        sqlx::query("CREATE TABLE storehaus_bench_blobs (id int8 PRIMARY KEY, body text NOT NULL)")
            .execute(&pool)
            .await?;
        Ok(Self {
            store: haus.store::<Blob>(),
            filler: filler.store::<Blob>(),
            pool,
            redis: world.redis(),
            prefix,
            rows: 0,
        })
    }

    /// Adds rows of so many bytes until there are so many.
    pub(crate) async fn grow(&mut self, rows: usize, bytes: usize) -> Result<(), Failure> {
        sqlx::query("INSERT INTO storehaus_bench_blobs SELECT n, repeat('x', $3) FROM generate_series($1, $2) AS n")
            .bind(self.rows as i64 + 1)
            .bind(rows as i64)
            .bind(bytes as i32)
            .execute(&self.pool)
            .await?;
        self.rows = self.rows.max(rows);
        sqlx::query("VACUUM ANALYZE storehaus_bench_blobs").execute(&self.pool).await?;
        Ok(())
    }

    /// Reads the rows behind the first `skipped` through a store, and waits until Redis has them.
    pub(crate) async fn warm(&self, skipped: usize) -> Result<(), Failure> {
        let ids: Vec<i64> = (skipped as i64 + 1..=self.rows as i64).collect();
        for ids in ids.chunks(1_000) {
            self.filler.get_many(ids).await?;
        }
        self.filler.cache_manager()?.settle().await;
        let mut found = 0;
        for ids in ids.chunks(10_000) {
            let keys = self.store_keys(ids)?;
            found += redis::cmd("EXISTS").arg(keys).query_async::<usize>(&mut self.redis.clone()).await?;
        }
        if found == ids.len() { Ok(()) } else { Err(NOT_FILLED.into()) }
    }

    pub(crate) fn store_keys(&self, ids: &[i64]) -> Result<Vec<String>, Failure> {
        Ok(ids.iter().map(|id| self.store.cache_key(id)).collect::<Result<_, _>>()?)
    }

    /// The key of a row in a cache by hand.
    pub(crate) fn hand_key(&self, id: i64) -> String {
        format!("{}:hand:{id}", self.prefix)
    }

    pub(crate) fn hand_keys(&self, ids: &[i64]) -> Vec<String> {
        ids.iter().map(|id| self.hand_key(*id)).collect()
    }

    /// Puts rows into the cache by hand, in one go.
    pub(crate) async fn fill_hand(&self, ids: &[i64]) -> Result<(), Failure> {
        let rows: Vec<(i64, String)> = sqlx::query_as("SELECT id, body FROM storehaus_bench_blobs WHERE id = ANY($1)")
            .bind(ids)
            .fetch_all(&self.pool)
            .await?;
        let mut pipeline = redis::pipe();
        for (id, body) in rows {
            let bytes = to_bytes(&Blob { id, body })?;
            pipeline.cmd("SET").arg(self.hand_key(id)).arg(bytes).arg("EX").arg(TTL).ignore();
        }
        Ok(pipeline.query_async(&mut self.redis.clone()).await?)
    }

    /// Deletes all rows, in both caches too.
    pub(crate) async fn clear(&mut self) -> Result<(), Failure> {
        let ids: Vec<i64> = (1..=self.rows as i64).collect();
        for ids in ids.chunks(1_000) {
            self.forget(ids).await?;
        }
        sqlx::query("TRUNCATE storehaus_bench_blobs").execute(&self.pool).await?;
        self.rows = 0;
        Ok(())
    }

    /// Takes rows out of both caches.
    pub(crate) async fn forget(&self, ids: &[i64]) -> Result<(), Failure> {
        self.store.cache_manager()?.settle().await;
        let keys = [self.store_keys(ids)?, self.hand_keys(ids)].concat();
        Ok(redis::cmd("DEL").arg(keys).query_async(&mut self.redis.clone()).await?)
    }

    /// Takes away what was put into the servers.
    pub(crate) async fn close(&mut self) -> Result<(), Failure> {
        self.clear().await?;
        sqlx::query("DROP TABLE storehaus_bench_blobs CASCADE").execute(&self.pool).await?;
        Ok(())
    }
}
