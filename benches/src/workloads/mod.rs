//! The workloads.

mod batch;
mod compile;
mod entries;
pub(crate) mod herd;
mod instructions;
pub(crate) mod local;
mod memory;
mod miss;
mod mix;
mod read;
mod redis;
mod size;
pub(crate) mod stampede;
mod start;
mod update;
mod warm;

use std::pin::Pin;

use storehaus::prelude::*;

use crate::harness::{Failure, Group, Plan, Slice};
use crate::world::World;

/// A workload under way.
type Running = Pin<Box<dyn Future<Output = Result<Vec<Group>, Failure>>>>;

/// A workload: its name for `--only`, what it compares, and how it runs.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whether a quick run has it without being told.
    pub(crate) quick: bool,
    pub(crate) run: fn(Arc<World>, Plan) -> Running,
}

pub(crate) const WORKLOADS: [Workload; 15] = [
    Workload {
        name: "local",
        about: "hits in process, beside quick_cache, moka, foyer, hitbox, multi-tier-cache",
        quick: true,
        run: |world, plan| Box::pin(local::run(world, plan)),
    },
    Workload {
        name: "redis",
        about: "hits in Redis, beside redis-rs, bb8-redis, cached, hitbox",
        quick: true,
        run: |world, plan| Box::pin(redis::run(world, plan)),
    },
    Workload {
        name: "read",
        about: "reads without a cache, beside sqlx, sea-orm, diesel-async, tokio-postgres",
        quick: true,
        run: |world, plan| Box::pin(read::run(world, plan)),
    },
    Workload {
        name: "miss",
        about: "misses that fill, beside GET, SELECT, SET by hand",
        quick: true,
        run: |world, plan| Box::pin(miss::run(world, plan)),
    },
    Workload {
        name: "batch",
        about: "1,000 rows at once, beside MGET, ANY, SET by hand",
        quick: true,
        run: |world, plan| Box::pin(batch::run(world, plan)),
    },
    Workload {
        name: "update",
        about: "writes of one row and of 1,000, beside UPDATE, DEL and UNNEST by hand",
        quick: true,
        run: |world, plan| Box::pin(update::run(world, plan)),
    },
    Workload {
        name: "mix",
        about: "reads and writes, YCSB too, beside cache-aside by hand; counts stale reads",
        quick: true,
        run: |world, plan| Box::pin(mix::run(world, plan)),
    },
    Workload {
        name: "stampede",
        about: "1,000 tasks on one cold row, in one process and in three",
        quick: true,
        run: |world, plan| Box::pin(stampede::run(world, plan)),
    },
    Workload {
        name: "entries",
        about: "10,000 to 1,000,000 entries in Redis",
        quick: true,
        run: |world, plan| Box::pin(entries::run(world, plan)),
    },
    Workload {
        name: "size",
        about: "hits in Redis on rows of 0.1 to 64 KB",
        quick: true,
        run: |world, plan| Box::pin(size::run(world, plan)),
    },
    Workload {
        name: "warm",
        about: "filling a cold cache with a table",
        quick: true,
        run: |world, plan| Box::pin(warm::run(world, plan)),
    },
    Workload {
        name: "start",
        about: "from nothing to the first row, with Redis and without",
        quick: true,
        run: |world, plan| Box::pin(start::run(world, plan)),
    },
    Workload {
        name: "memory",
        about: "bytes of an entry in process",
        quick: true,
        run: |world, plan| Box::pin(memory::run(world, plan)),
    },
    Workload {
        name: "instructions",
        about: "instructions of the hot paths, counted by valgrind",
        quick: false,
        run: |world, plan| Box::pin(instructions::run(world, plan)),
    },
    Workload {
        name: "compile",
        about: "`cargo check` of 1, 10 and 50 models, beside sea-orm",
        quick: false,
        run: |world, plan| Box::pin(compile::run(world, plan)),
    },
];

/// Rows of a batch.
const BATCH: usize = 1_000;

/// The error of a read that returned another row than was asked for.
pub(crate) fn wrong_row() -> Failure {
    "a read returned another row than was asked for, or none".into()
}

/// A slice of a store that notes how many rows it took from the database.
fn noting_loads<S: Fn(Duration) -> Slice + 'static>(
    manager: &CacheManager,
    slice: S,
) -> impl Fn(Duration) -> Slice + use<S> {
    let manager = manager.clone();
    move |lasts| {
        let (manager, running) = (manager.clone(), slice(lasts));
        Box::pin(async move {
            let before = manager.get_stats().await?.total.loads;
            let mut sample = running.await?;
            sample.notes.insert("loads", manager.get_stats().await?.total.loads - before);
            Ok(sample)
        })
    }
}
