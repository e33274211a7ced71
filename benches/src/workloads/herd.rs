//! One process of a stampede: many tasks that want one row.

use std::env;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use storehaus::prelude::*;
use storehaus::sqlx;
use storehaus_cache::codec::{from_bytes, to_bytes};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinSet;

use super::stampede::{PROCESSES, ROWS, TASKS};
use super::wrong_row;
use crate::harness::Failure;
use crate::user::TTL;
use crate::world::{client, pool};

/// A row that takes 20 ms to find.
#[derive(Clone, Debug, Model)]
#[model(table = "storehaus_bench_slow")]
pub(super) struct Slow {
    #[key]
    id: i64,
    body: String,
}

const SELECT: &str = "SELECT id, body FROM storehaus_bench_slow WHERE id = $1";

#[derive(Clone, Copy)]
pub(super) enum Way {
    Store,
    Hand,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Hand => "hand",
        }
    }
}

/// What a process needs to take part.
pub(super) struct Herd {
    store: GenericStore<Slow>,
    pool: PgPool,
    pub(super) redis: MultiplexedConnection,
    prefix: String,
}

impl Herd {
    pub(super) async fn open(prefix: &str) -> Result<Self, Failure> {
        let (database, server) = (env::var("DATABASE_URL")?, env::var("REDIS_URL")?);
        let cache = CacheConfig::new(&server, TTL, prefix);
        let haus = StoreHaus::<Postgres>::builder().url(&database).cache(cache).build().await?;
        Ok(Self {
            store: haus.store::<Slow>(),
            pool: pool(&database).await?,
            redis: client(&server)?.get_multiplexed_async_connection().await?,
            prefix: prefix.to_owned(),
        })
    }

    /// So many tasks want one row.
    pub(super) async fn storm(self: &Arc<Self>, way: Way, id: i64, tasks: usize) -> Result<(), Failure> {
        let mut running: JoinSet<Result<(), Failure>> = JoinSet::new();
        for _ in 0..tasks {
            let herd = Arc::clone(self);
            running.spawn(async move {
                let found = match way {
                    Way::Store => herd.store.get_by_id(&id).await?.ok_or_else(wrong_row)?,
                    Way::Hand => herd.aside(id).await?,
                };
                if found.id == id { Ok(()) } else { Err(wrong_row()) }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn aside(&self, id: i64) -> Result<Slow, Failure> {
        let mut redis = self.redis.clone();
        let bytes: Option<Vec<u8>> = redis::cmd("GET").arg(self.key(id)).query_async(&mut redis).await?;
        if let Some(bytes) = bytes {
            return Ok(from_bytes(&bytes)?);
        }
        let slow = self.select(id).await?;
        let bytes = to_bytes(&slow)?;
        let () = redis::cmd("SET").arg(self.key(id)).arg(bytes).arg("EX").arg(TTL).query_async(&mut redis).await?;
        Ok(slow)
    }

    pub(super) async fn select(&self, id: i64) -> Result<Slow, Failure> {
        let (id, body) = sqlx::query_as(SELECT).bind(id).fetch_one(&self.pool).await?;
        Ok(Slow { id, body })
    }

    /// How many SELECTs the database has seen.
    pub(super) async fn selects(&self) -> Result<u64, Failure> {
        let query = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM storehaus_bench_selects";
        let seen: i64 = sqlx::query_scalar(query).fetch_one(&self.pool).await?;
        Ok(seen.unsigned_abs())
    }

    pub(super) fn key(&self, id: i64) -> String {
        format!("{}:hand:{id}", self.prefix)
    }

    /// Takes away what was put into Redis.
    pub(super) async fn forget(&self) -> Result<(), Failure> {
        let ids: Vec<i64> = (1..=ROWS as i64).collect();
        for ids in ids.chunks(1_000) {
            let mut del = redis::cmd("DEL");
            for id in ids {
                del.arg(self.key(*id)).arg(self.store.cache_key(id)?);
            }
            let () = del.query_async(&mut self.redis.clone()).await?;
        }
        Ok(())
    }
}

/// The program of one of several processes: does what each line of its input says.
pub(crate) async fn child(prefix: &str) -> Result<(), Failure> {
    let herd = Arc::new(Herd::open(prefix).await?);
    let (mut input, mut output) = (BufReader::new(tokio::io::stdin()).lines(), tokio::io::stdout());
    let mut answer = "ready";
    loop {
        output.write_all(format!("{answer}\n").as_bytes()).await?;
        output.flush().await?;
        let Some(line) = input.next_line().await? else { return Ok(()) };
        let (way, id) = line.split_once(' ').ok_or("a line has no row")?;
        let way = if way == Way::Store.name() { Way::Store } else { Way::Hand };
        herd.storm(way, id.parse()?, TASKS / PROCESSES).await?;
        answer = "done";
    }
}
