//! Hits in Redis on rows of several sizes.

use std::sync::Arc;

use storehaus_cache::codec::from_bytes;

use super::{noting_loads, wrong_row};
use crate::blobs::{Blob, Blobs};
use crate::harness::{Contestant, Failure, Group, Plan, compete, looped};
use crate::user::mix;
use crate::world::World;

const TASKS: usize = 16;
const ROWS: usize = 500;
const SIZES: [(usize, &str); 4] = [
    (100, "hit in Redis, rows of 0.1 KB"),
    (1_000, "hit in Redis, rows of 1 KB"),
    (16_000, "hit in Redis, rows of 16 KB"),
    (64_000, "hit in Redis, rows of 64 KB"),
];

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let mut groups = Vec::new();
    for (bytes, name) in SIZES {
        let mut blobs = Blobs::open(&world).await?;
        blobs.grow(ROWS, bytes).await?;
        let mut blobs = Arc::new(blobs);
        blobs.warm(0).await?;
        blobs.fill_hand(&(1..=ROWS as i64).collect::<Vec<_>>()).await?;
        let get = looped(&blobs, TASKS, |blobs, task, number| async move {
            let id = id(task, number);
            blobs.store.get_by_id(&id).await?.filter(|blob| blob.id == id).map(drop).ok_or_else(wrong_row)
        });
        let contestants = vec![
            Contestant::ours("store, get_by_id", noting_loads(blobs.store.cache_manager()?, get)),
            Contestant::other(
                "redis-rs, GET",
                looped(&blobs, TASKS, |blobs, task, number| async move {
                    let id = id(task, number);
                    let key = blobs.hand_key(id);
                    let bytes: Vec<u8> = redis::cmd("GET").arg(key).query_async(&mut blobs.redis.clone()).await?;
                    if from_bytes::<Blob>(&bytes)?.id == id { Ok(()) } else { Err(wrong_row()) }
                }),
            ),
        ];
        groups.push(compete(&plan, name, TASKS, contestants).await?);
        if let Some(blobs) = Arc::get_mut(&mut blobs) {
            blobs.close().await?;
        }
    }
    Ok(groups)
}

fn id(task: usize, number: usize) -> i64 {
    (mix((task as u64) << 40 | number as u64) % ROWS as u64) as i64 + 1
}
