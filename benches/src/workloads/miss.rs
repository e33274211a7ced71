//! Misses that fill: no key is there when a slice begins, and each is read once. The fills behind the callers' backs
//! are part of the time.

use std::sync::Arc;
use std::time::Instant;

use super::{noting_loads, wrong_row};
use crate::harness::{Contestant, Failure, Group, Plan, compete, count};
use crate::user::read_aside;
use crate::world::World;

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let mut groups = Vec::new();
    let keys = plan.cold_keys;
    for &tasks in plan.tasks {
        let (ours, hand) = (Arc::clone(&world), Arc::clone(&world));
        let contestants = vec![
            Contestant::ours(
                "store, get_by_id",
                noting_loads(world.cached.cache_manager()?, move |_| {
                    let world = Arc::clone(&ours);
                    Box::pin(async move {
                        world.clear_cached().await?;
                        let shared = Arc::clone(&world);
                        let read = move |at: usize| {
                            let world = Arc::clone(&shared);
                            async move {
                                let user = world.cached.get_by_id(&world.ids[at]).await?;
                                user.filter(|user| user.id == world.ids[at]).map(drop).ok_or_else(wrong_row)
                            }
                        };
                        let start = Instant::now();
                        let mut sample = count(tasks, keys, read).await?;
                        world.settle().await?;
                        sample.elapsed = start.elapsed();
                        Ok(sample)
                    })
                }),
            ),
            Contestant::other("by hand, aside", move |_| {
                let world = Arc::clone(&hand);
                Box::pin(async move {
                    world.clear_hand().await?;
                    count(tasks, keys, move |at: usize| {
                        let world = Arc::clone(&world);
                        async move {
                            let mut redis = world.redis();
                            let id = world.ids[at];
                            let user = read_aside(&mut redis, &world.pool, &world.hand_keys[at], id).await?;
                            if user.id == id { Ok(()) } else { Err(wrong_row()) }
                        }
                    })
                    .await
                })
            }),
        ];
        groups.push(compete(&plan, "miss and fill", tasks, contestants).await?);
    }
    Ok(groups)
}
