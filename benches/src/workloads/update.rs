//! Writes. The store returns the rows as the database has them, and so do the batches by hand.

use std::sync::Arc;

use storehaus::sqlx;

use super::BATCH;
use crate::harness::{Contestant, Failure, Group, Plan, batches, compete, load};
use crate::user::{INSERT_MANY, UPDATE_MANY, User, unnest, write_aside};
use crate::world::{ROWS, World};

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let mut groups = Vec::new();
    for &tasks in plan.tasks {
        groups.push(compete(&plan, "update", tasks, single(&world, tasks)).await?);
    }
    groups.push(compete(&plan, "create_many of 1,000", 1, creating(&world)).await?);
    groups.push(compete(&plan, "update_many of 1,000", 1, updating(&world)).await?);
    Ok(groups)
}

fn single(world: &Arc<World>, tasks: usize) -> Vec<Contestant> {
    let (ours, hand) = (Arc::clone(world), Arc::clone(world));
    vec![
        Contestant::ours("store, update", move |lasts| {
            let world = Arc::clone(&ours);
            Box::pin(async move {
                world.vacuum().await?;
                load(tasks, lasts, move |task, number| {
                    let world = Arc::clone(&world);
                    async move {
                        let user = world.users[world.next(task, number)].clone();
                        let id = user.id;
                        Ok(world.cached.update(&id, user).await.map(drop)?)
                    }
                })
                .await
            })
        }),
        Contestant::other("by hand, UPDATE DEL", move |lasts| {
            let world = Arc::clone(&hand);
            Box::pin(async move {
                world.vacuum().await?;
                load(tasks, lasts, move |task, number| {
                    let world = Arc::clone(&world);
                    async move {
                        let at = world.next(task, number);
                        let mut redis = world.redis();
                        write_aside(&mut redis, &world.pool, &world.hand_keys[at], &world.users[at]).await
                    }
                })
                .await
            })
        }),
    ]
}

fn creating(world: &Arc<World>) -> Vec<Contestant> {
    let (ours, hand) = (Arc::clone(world), Arc::clone(world));
    vec![
        Contestant::ours("store, create_many", move |lasts| {
            let world = Arc::clone(&ours);
            Box::pin(async move {
                let prepare = async |_| new_users(&world).await;
                let create = async |users: Vec<User>| Ok(world.cached.create_many(users).await.map(drop)?);
                batches(lasts, BATCH, prepare, create).await
            })
        }),
        Contestant::other("sqlx, UNNEST RETURNING", move |lasts| {
            let world = Arc::clone(&hand);
            Box::pin(async move {
                let prepare = async |_| new_users(&world).await;
                let create = async |users: Vec<User>| unnest(&world.pool, INSERT_MANY, &users).await.map(drop);
                batches(lasts, BATCH, prepare, create).await
            })
        }),
    ]
}

fn updating(world: &Arc<World>) -> Vec<Contestant> {
    let (ours, hand) = (Arc::clone(world), Arc::clone(world));
    vec![
        Contestant::ours("store, update_many", move |lasts| {
            let world = Arc::clone(&ours);
            Box::pin(async move {
                let prepare = async |n| {
                    world.vacuum().await?;
                    let users = world.users[first(n)..first(n) + BATCH].iter();
                    Ok(users.map(|user| (user.id, user.clone())).collect::<Vec<_>>())
                };
                let update = async |users| Ok(world.cached.update_many(users).await.map(drop)?);
                batches(lasts, BATCH, prepare, update).await
            })
        }),
        Contestant::other("sqlx, UNNEST RETURNING, DEL", move |lasts| {
            let world = Arc::clone(&hand);
            Box::pin(async move {
                let prepare = async |n| {
                    world.vacuum().await?;
                    Ok(first(n))
                };
                let update = async |first: usize| {
                    unnest(&world.pool, UPDATE_MANY, &world.users[first..first + BATCH]).await?;
                    let mut del = redis::cmd("DEL");
                    del.arg(&world.hand_keys[first..first + BATCH]);
                    Ok(del.query_async::<()>(&mut world.redis()).await?)
                };
                batches(lasts, BATCH, prepare, update).await
            })
        }),
    ]
}

/// The place of the first row of the `n`th batch.
fn first(n: usize) -> usize {
    n * BATCH % ROWS
}

/// Rows that the table does not have: those of the batch before are deleted.
async fn new_users(world: &World) -> Result<Vec<User>, Failure> {
    let users: Vec<_> = (ROWS as u64..(ROWS + BATCH) as u64).map(User::new).collect();
    let ids: Vec<_> = users.iter().map(|user| user.id).collect();
    sqlx::query("DELETE FROM storehaus_bench_users WHERE id = ANY($1)").bind(ids).execute(&world.pool).await?;
    world.vacuum().await?;
    Ok(users)
}
