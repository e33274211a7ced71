//! Hits in Redis.

use std::sync::Arc;

use storehaus_cache::codec::from_bytes;

use super::{TASKS, wrong_row};
use crate::harness::{Contestant, Failure, Group, Plan, compete, load};
use crate::user::User;
use crate::world::World;

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    world.fill_cached().await?;
    world.fill_hand().await?;
    let mut groups = Vec::new();
    for tasks in TASKS {
        let (ours, multiplexed, pooled) = (Arc::clone(&world), Arc::clone(&world), Arc::clone(&world));
        let contestants = vec![
            Contestant::ours("store, get_by_id", move |lasts| {
                let world = Arc::clone(&ours);
                Box::pin(async move {
                    let shared = Arc::clone(&world);
                    let read = move |task, number| {
                        let world = Arc::clone(&shared);
                        async move {
                            let id = world.ids[world.next(task, number)];
                            let user = world.cached.get_by_id(&id).await?;
                            user.filter(|user| user.id == id).map(drop).ok_or_else(wrong_row)
                        }
                    };
                    world.noting_loads(load(tasks, lasts, read)).await
                })
            }),
            Contestant::other("redis-rs, GET", move |lasts| {
                let world = Arc::clone(&multiplexed);
                Box::pin(load(tasks, lasts, move |task, number| {
                    let world = Arc::clone(&world);
                    async move {
                        let at = world.next(task, number);
                        let mut get = redis::cmd("GET");
                        get.arg(&world.hand_keys[at]);
                        decode(&get.query_async::<Vec<u8>>(&mut world.redis.clone()).await?, &world, at)
                    }
                }))
            }),
            Contestant::other("bb8-redis, GET", move |lasts| {
                let world = Arc::clone(&pooled);
                Box::pin(load(tasks, lasts, move |task, number| {
                    let world = Arc::clone(&world);
                    async move {
                        let at = world.next(task, number);
                        let mut connection = world.bb8.get().await?;
                        let mut get = redis::cmd("GET");
                        get.arg(&world.hand_keys[at]);
                        decode(&get.query_async::<Vec<u8>>(&mut *connection).await?, &world, at)
                    }
                }))
            }),
        ];
        groups.push(compete(&plan, "hit in Redis", tasks, contestants).await?);
    }
    Ok(groups)
}

fn decode(bytes: &[u8], world: &World, at: usize) -> Result<(), Failure> {
    let user: User = from_bytes(bytes)?;
    if user.id == world.ids[at] { Ok(()) } else { Err(wrong_row()) }
}
