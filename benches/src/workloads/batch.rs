//! 1,000 rows at once, in one task.

use std::ops::Range;
use std::sync::Arc;

use storehaus_cache::codec::{from_bytes, to_bytes};

use super::{BATCH, wrong_row};
use crate::harness::{Contestant, Failure, Group, Plan, batches, compete};
use crate::user::{TTL, User, select_many};
use crate::world::{ROWS, World};

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    world.fill_cached().await?;
    world.fill_hand().await?;
    let (ours, hand) = (Arc::clone(&world), Arc::clone(&world));
    let contestants = vec![
        Contestant::ours("store, get_many", move |lasts| {
            let world = Arc::clone(&ours);
            Box::pin(async move {
                let read = batches(lasts, BATCH, async |n| Ok(rows(n)), async |rows| store(&world, rows).await);
                world.noting_loads(read).await
            })
        }),
        Contestant::other("redis-rs, MGET", move |lasts| {
            let world = Arc::clone(&hand);
            Box::pin(async move {
                let read = async |rows: Range<usize>| match mget(&world, &rows).await?.len() {
                    BATCH => Ok(()),
                    _ => Err(wrong_row()),
                };
                batches(lasts, BATCH, async |n| Ok(rows(n)), read).await
            })
        }),
    ];
    let hits = compete(&plan, "get_many of 1,000, all in Redis", 1, contestants).await?;

    let (ours, aside, bare) = (Arc::clone(&world), Arc::clone(&world), Arc::clone(&world));
    let contestants = vec![
        Contestant::ours("store, get_many", move |lasts| {
            let world = Arc::clone(&ours);
            Box::pin(async move {
                let prepare = async |n| {
                    world.clear_cached().await?;
                    Ok(rows(n))
                };
                let read = async |rows| {
                    store(&world, rows).await?;
                    world.settle().await
                };
                world.noting_loads(batches(lasts, BATCH, prepare, read)).await
            })
        }),
        Contestant::other("by hand, MGET ANY SET", move |lasts| {
            let world = Arc::clone(&aside);
            Box::pin(async move {
                let prepare = async |n| {
                    world.clear_hand().await?;
                    Ok(rows(n))
                };
                batches(lasts, BATCH, prepare, async |rows| fill(&world, rows).await).await
            })
        }),
        Contestant::other("sqlx, ANY", move |lasts| {
            let world = Arc::clone(&bare);
            Box::pin(async move {
                let read = async |rows: Range<usize>| match select_many(&world.pool, &world.ids[rows]).await?.len() {
                    BATCH => Ok(()),
                    _ => Err(wrong_row()),
                };
                batches(lasts, BATCH, async |n| Ok(rows(n)), read).await
            })
        }),
    ];
    let cold = compete(&plan, "get_many of 1,000, none in Redis", 1, contestants).await?;
    Ok(vec![hits, cold])
}

/// The places of the rows of the `n`th batch.
fn rows(n: usize) -> Range<usize> {
    let first = n * BATCH % ROWS;
    first..first + BATCH
}

async fn store(world: &World, rows: Range<usize>) -> Result<(), Failure> {
    let ids = &world.ids[rows];
    let users = world.cached.get_many(ids).await?;
    let right = users.iter().zip(ids).all(|(user, id)| user.as_ref().is_some_and(|user| user.id == *id));
    if right && users.len() == BATCH { Ok(()) } else { Err(wrong_row()) }
}

/// The rows that Redis has.
async fn mget(world: &World, rows: &Range<usize>) -> Result<Vec<User>, Failure> {
    let mut mget = redis::cmd("MGET");
    mget.arg(&world.hand_keys[rows.clone()]);
    let found: Vec<Option<Vec<u8>>> = mget.query_async(&mut world.redis.clone()).await?;
    let users = found.iter().flatten().map(|bytes| from_bytes(bytes));
    Ok(users.collect::<Result<_, _>>()?)
}

/// Looks for all, asks the database for all, stores all.
async fn fill(world: &World, rows: Range<usize>) -> Result<(), Failure> {
    if !mget(world, &rows).await?.is_empty() {
        return Err("a row is cached that should not be".into());
    }
    let users = select_many(&world.pool, &world.ids[rows.clone()]).await?;
    let users: std::collections::HashMap<_, _> = users.into_iter().map(|user| (user.id, user)).collect();
    let mut pipeline = redis::pipe();
    for at in rows {
        let user = users.get(&world.ids[at]).ok_or_else(wrong_row)?;
        pipeline.cmd("SET").arg(&world.hand_keys[at]).arg(to_bytes(user)?).arg("EX").arg(TTL).ignore();
    }
    Ok(pipeline.query_async(&mut world.redis.clone()).await?)
}
