//! Hits in Redis.

use std::sync::Arc;

use redis::aio::ConnectionLike;
use storehaus_cache::codec::from_bytes;

use super::{noting_loads, wrong_row};
use crate::harness::{Contestant, Failure, Group, Plan, compete, looped};
use crate::rivals;
use crate::user::User;
use crate::world::World;

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    world.fill_cached().await?;
    world.fill_hand().await?;
    let mut groups = Vec::new();
    let rivals = rivals::redis(&world, plan.tasks).await?;
    for (&tasks, rivals) in plan.tasks.iter().zip(rivals) {
        let ours = looped(&world, tasks, |world, task, number| async move {
            let id = world.ids[world.next(task, number)];
            world.cached.get_by_id(&id).await?.filter(|user| user.id == id).map(drop).ok_or_else(wrong_row)
        });
        let mut contestants = vec![
            Contestant::ours("store, get_by_id", noting_loads(world.cached.cache_manager()?, ours)),
            multiplexed::<1>("redis-rs, GET", &world, tasks),
        ];
        if tasks > 1 {
            contestants.push(multiplexed::<2>("redis-rs x 2, GET", &world, tasks));
            contestants.push(multiplexed::<4>("redis-rs x 4, GET", &world, tasks));
        }
        contestants.push(Contestant::other(
            "bb8-redis, GET",
            looped(&world, tasks, |world, task, number| async move {
                let at = world.next(task, number);
                get(&mut *world.bb8.get().await?, &world, at).await
            }),
        ));
        contestants.extend(rivals);
        groups.push(compete(&plan, "hit in Redis", tasks, contestants).await?);
    }
    Ok(groups)
}

fn multiplexed<const N: usize>(name: &'static str, world: &Arc<World>, tasks: usize) -> Contestant {
    Contestant::other(
        name,
        looped(world, tasks, |world, task, number| async move {
            let at = world.next(task, number);
            get(&mut world.redis_of(N, task), &world, at).await
        }),
    )
}

async fn get(connection: &mut impl ConnectionLike, world: &World, at: usize) -> Result<(), Failure> {
    let mut get = redis::cmd("GET");
    get.arg(&world.hand_keys[at]);
    let user: User = from_bytes(&get.query_async::<Vec<u8>>(connection).await?)?;
    if user.id == world.ids[at] { Ok(()) } else { Err(wrong_row()) }
}
