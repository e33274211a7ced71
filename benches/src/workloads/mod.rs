//! The workloads.

mod batch;
pub(crate) mod local;
mod miss;
mod mix;
mod read;
mod redis;
mod update;

use std::pin::Pin;

use storehaus::prelude::*;

use crate::harness::{Failure, Group, Plan, Slice};
use crate::user::User;
use crate::world::World;

/// A workload under way.
type Running = Pin<Box<dyn Future<Output = Result<Vec<Group>, Failure>>>>;

/// A workload: its name for `--only`, what it compares, and how it runs.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(Arc<World>, Plan) -> Running,
}

pub(crate) const WORKLOADS: [Workload; 7] = [
    Workload {
        name: "local",
        about: "hits in process, beside quick_cache",
        run: |world, plan| Box::pin(local::run(world, plan)),
    },
    Workload {
        name: "redis",
        about: "hits in Redis, beside redis-rs and bb8-redis",
        run: |world, plan| Box::pin(redis::run(world, plan)),
    },
    Workload {
        name: "read",
        about: "reads without a cache, beside sqlx",
        run: |world, plan| Box::pin(read::run(world, plan)),
    },
    Workload {
        name: "miss",
        about: "misses that fill, beside GET, SELECT, SET by hand",
        run: |world, plan| Box::pin(miss::run(world, plan)),
    },
    Workload {
        name: "batch",
        about: "1,000 rows at once, beside MGET and ANY",
        run: |world, plan| Box::pin(batch::run(world, plan)),
    },
    Workload {
        name: "update",
        about: "writes of one row and of 1,000, beside UPDATE, DEL and UNNEST by hand",
        run: |world, plan| Box::pin(update::run(world, plan)),
    },
    Workload {
        name: "mix",
        about: "95 % reads and 5 % updates, beside cache-aside by hand; counts stale reads",
        run: |world, plan| Box::pin(mix::run(world, plan)),
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
    world: &Arc<World>,
    store: fn(&World) -> &GenericStore<User>,
    slice: S,
) -> impl Fn(Duration) -> Slice + use<S> {
    let world = Arc::clone(world);
    move |lasts| {
        let (world, running) = (Arc::clone(&world), slice(lasts));
        Box::pin(async move {
            let manager = store(&world).cache_manager()?;
            let before = manager.get_stats().await?.total.loads;
            let mut sample = running.await?;
            sample.notes.insert("loads", manager.get_stats().await?.total.loads - before);
            Ok(sample)
        })
    }
}
