//! 1,000 rows at once, in one task: all in Redis, half of them, none. What is missing is read from the database and
//! stored; the fills behind the caller's back are part of the time.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use storehaus_cache::codec::{from_bytes, to_bytes};

use super::{BATCH, noting_loads, wrong_row};
use crate::harness::{Contestant, Failure, Group, Plan, batches, compete};
use crate::user::{TTL, User, select_many};
use crate::world::{ROWS, World};

/// How many of each batch are in Redis.
const SHARES: [(usize, &str); 3] = [
    (BATCH, "get_many of 1,000, all in Redis"),
    (BATCH / 2, "get_many of 1,000, half in Redis"),
    (0, "get_many of 1,000, none in Redis"),
];

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let mut groups = Vec::new();
    for (cached, name) in SHARES {
        world.fill_cached().await?;
        world.fill_hand().await?;
        let (ours, aside, bare) = (Arc::clone(&world), Arc::clone(&world), Arc::clone(&world));
        let contestants = vec![
            Contestant::ours(
                "store, get_many",
                noting_loads(world.cached.cache_manager()?, move |lasts| {
                    let world = Arc::clone(&ours);
                    Box::pin(async move {
                        let prepare = async |n| {
                            let rows = rows(n);
                            world.settle().await?;
                            world.delete(&world.store_keys[rows.start + cached..rows.end]).await?;
                            Ok(rows)
                        };
                        let read = async |rows: Range<usize>| {
                            let found = world.cached.get_many(&world.ids[rows.clone()]).await?;
                            check(&world, rows, found)?;
                            world.settle().await
                        };
                        batches(lasts, BATCH, prepare, read).await
                    })
                }),
            ),
            Contestant::other("by hand, MGET ANY SET", move |lasts| {
                let world = Arc::clone(&aside);
                Box::pin(async move {
                    let prepare = async |n| {
                        let rows = rows(n);
                        world.delete(&world.hand_keys[rows.start + cached..rows.end]).await?;
                        Ok(rows)
                    };
                    let read = async |rows: Range<usize>| {
                        let found = read_many_aside(&world, rows.clone()).await?;
                        check(&world, rows, found)
                    };
                    batches(lasts, BATCH, prepare, read).await
                })
            }),
            Contestant::other("sqlx, ANY", move |lasts| {
                let world = Arc::clone(&bare);
                Box::pin(async move {
                    let read = async |rows: Range<usize>| match select_many(&world.pool, &world.ids[rows]).await?.len()
                    {
                        BATCH => Ok(()),
                        _ => Err(wrong_row()),
                    };
                    batches(lasts, BATCH, async |n| Ok(rows(n)), read).await
                })
            }),
        ];
        groups.push(compete(&plan, name, 1, contestants).await?);
    }
    Ok(groups)
}

/// The places of the rows of the `n`th batch.
fn rows(n: usize) -> Range<usize> {
    let first = n * BATCH % ROWS;
    first..first + BATCH
}

fn check(world: &World, rows: Range<usize>, users: Vec<Option<User>>) -> Result<(), Failure> {
    let ids = &world.ids[rows];
    let right = users.iter().zip(ids).all(|(user, id)| user.as_ref().is_some_and(|user| user.id == *id));
    if right && users.len() == BATCH { Ok(()) } else { Err(wrong_row()) }
}

/// Looks for all, asks the database for those that are missing, stores them, returns all in order.
pub(super) async fn read_many_aside(world: &World, rows: Range<usize>) -> Result<Vec<Option<User>>, Failure> {
    let mut mget = redis::cmd("MGET");
    mget.arg(&world.hand_keys[rows.clone()]);
    let found: Vec<Option<Vec<u8>>> = mget.query_async(&mut world.redis()).await?;
    let decoded = found.iter().map(|bytes| bytes.as_deref().map(from_bytes::<User>).transpose());
    let mut users: Vec<Option<User>> = decoded.collect::<Result<_, _>>()?;
    let missing: Vec<usize> = (0..users.len()).filter(|at| users[*at].is_none()).collect();
    if missing.is_empty() {
        return Ok(users);
    }
    let ids: Vec<_> = missing.iter().map(|at| world.ids[rows.start + at]).collect();
    let loaded = select_many(&world.pool, &ids).await?;
    let mut loaded: HashMap<_, _> = loaded.into_iter().map(|user| (user.id, user)).collect();
    let mut pipeline = redis::pipe();
    for (at, id) in missing.into_iter().zip(ids) {
        let user = loaded.remove(&id).ok_or_else(wrong_row)?;
        let key = &world.hand_keys[rows.start + at];
        pipeline.cmd("SET").arg(key).arg(to_bytes(&user)?).arg("EX").arg(TTL).ignore();
        users[at] = Some(user);
    }
    let () = pipeline.query_async(&mut world.redis()).await?;
    Ok(users)
}
