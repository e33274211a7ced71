//! Hits in process.

use std::sync::Arc;
use std::time::Duration;

use foyer::{CacheBuilder, S3FifoConfig};
use multi_tier_cache::{Bytes, CacheStrategy, CacheSystemBuilder, L2Cache, MokaCacheConfig};
use storehaus::prelude::*;

use super::hitbox;
use crate::harness::{Contestant, Failure};
use crate::user::{TTL, User};
use crate::workloads::local::on_threads;
use crate::world::{ROWS, World};

/// The room of each: nothing is evicted.
const CAPACITY: usize = 2 * ROWS;

pub(crate) async fn local(world: &Arc<World>, threads: &[usize]) -> Result<Vec<Vec<Contestant>>, Failure> {
    let moka = moka::sync::Cache::new(CAPACITY as u64);
    let moka_future = moka::future::Cache::new(CAPACITY as u64);
    let foyer: foyer::Cache<Uuid, Arc<User>> =
        CacheBuilder::new(CAPACITY).with_eviction_config(S3FifoConfig::default()).build();
    let hitbox = hitbox::moka();
    let room = MokaCacheConfig {
        max_capacity: CAPACITY as u64,
        time_to_live: Duration::from_secs(TTL),
        time_to_idle: Duration::from_secs(TTL),
    };
    let second = Arc::new(L2Cache::with_url(&world.server).await?);
    let tiers = CacheSystemBuilder::new().with_moka_config(room).with_l2(second).build().await?;
    let tiers = Arc::clone(tiers.cache_manager());
    for user in &world.users {
        let shared = Arc::new(user.clone());
        moka.insert(user.id, Arc::clone(&shared));
        moka_future.insert(user.id, Arc::clone(&shared)).await;
        foyer.insert(user.id, shared);
        hitbox::user(Arc::clone(world), user.id.as_u128()).cache(&hitbox).await?;
        let bytes = Bytes::from(serde_json::to_vec(user)?);
        tiers.set_with_strategy(&key(world, &user.id), bytes, CacheStrategy::Custom(Duration::from_secs(TTL))).await?;
    }
    let (hitbox, world) = (Arc::new(hitbox), Arc::clone(world));
    let of = |&threads| {
        let (moka, moka_future, foyer) = (moka.clone(), moka_future.clone(), foyer.clone());
        let (hitbox, tiers, shared) = (Arc::clone(&hitbox), Arc::clone(&tiers), Arc::clone(&world));
        vec![
            Contestant::other(
                "moka",
                on_threads(&world, threads, async move |_: &World, id: &Uuid| {
                    Ok(moka.get(id).is_some_and(|user| user.id == *id))
                }),
            ),
            Contestant::other(
                "moka, future",
                on_threads(&world, threads, async move |_: &World, id: &Uuid| {
                    Ok(moka_future.get(id).await.is_some_and(|user| user.id == *id))
                }),
            ),
            Contestant::other(
                "foyer",
                on_threads(&world, threads, async move |_: &World, id: &Uuid| {
                    Ok(foyer.get(id).is_some_and(|user| user.value().id == *id))
                }),
            ),
            Contestant::other(
                "hitbox, moka",
                on_threads(&world, threads, async move |_: &World, id: &Uuid| {
                    let user = hitbox::user(Arc::clone(&shared), id.as_u128()).cache(&*hitbox).await?;
                    Ok(user.id == *id)
                }),
            ),
            Contestant::other(
                "multi-tier-cache",
                on_threads(&world, threads, async move |world: &World, id: &Uuid| {
                    let user: Option<User> = tiers.get_typed(&key(world, id)).await?;
                    Ok(user.is_some_and(|user| user.id == *id))
                }),
            ),
        ]
    };
    Ok(threads.iter().map(of).collect())
}

fn key(world: &World, id: &Uuid) -> String {
    format!("{}:tiers:{id}", world.prefix)
}
