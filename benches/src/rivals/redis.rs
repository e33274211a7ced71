//! Hits in Redis.

use std::sync::Arc;
use std::time::Duration;

use cached::{AsyncRedisCache, ConcurrentCachedAsync};

use super::hitbox;
use crate::harness::{Contestant, Failure, looped};
use crate::user::{TTL, User};
use crate::workloads::wrong_row;
use crate::world::World;

pub(crate) async fn redis(world: &Arc<World>, tasks: &[usize]) -> Result<Vec<Vec<Contestant>>, Failure> {
    let all = Arc::new(Rivals::open(world).await?);
    let of = |&tasks| {
        vec![
            Contestant::other(
                "cached",
                looped(&all, tasks, |all, task, number| async move {
                    let at = all.world.next(task, number);
                    let user = all.cached.async_cache_get(&all.world.ids[at].to_string()).await?;
                    check(&all.world, at, user)
                }),
            ),
            Contestant::other(
                "hitbox, Redis",
                looped(&all, tasks, |all, task, number| async move {
                    let at = all.world.next(task, number);
                    let id = all.world.ids[at].as_u128();
                    check(&all.world, at, Some(hitbox::user(Arc::clone(&all.world), id).cache(&all.hitbox).await?))
                }),
            ),
        ]
    };
    Ok(tasks.iter().map(of).collect())
}

struct Rivals {
    world: Arc<World>,
    cached: AsyncRedisCache<String, User>,
    hitbox: hitbox::Redis,
}

impl Rivals {
    /// Connects and fills.
    async fn open(world: &Arc<World>) -> Result<Self, Failure> {
        let cached = AsyncRedisCache::builder(format!("{}:cached:", world.prefix))
            .ttl(Duration::from_secs(TTL))
            .connection_string(&world.server)
            .build()
            .await?;
        let hitbox = hitbox::redis(&world.server)?;
        for user in &world.users {
            cached.async_cache_set(user.id.to_string(), user.clone()).await?;
            hitbox::user(Arc::clone(world), user.id.as_u128()).cache(&hitbox).await?;
        }
        Ok(Self { world: Arc::clone(world), cached, hitbox })
    }
}

fn check(world: &World, at: usize, user: Option<User>) -> Result<(), Failure> {
    user.filter(|user| user.id == world.ids[at]).map(drop).ok_or_else(wrong_row)
}
