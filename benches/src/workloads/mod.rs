//! The workloads.

mod batch;
mod local;
mod miss;
mod mix;
mod read;
mod redis;
mod update;

use std::pin::Pin;
use std::sync::Arc;

use crate::harness::{Failure, Group, Plan};
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

/// Tasks at once.
const TASKS: [usize; 3] = [1, 16, 64];

/// Rows of a batch.
const BATCH: usize = 1_000;

/// The error of a read that returned another row than was asked for.
fn wrong_row() -> Failure {
    "a read returned another row than was asked for, or none".into()
}
