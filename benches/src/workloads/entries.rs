//! How the cost of an operation grows with the number of entries in Redis.

use std::sync::Arc;

use super::{noting_loads, wrong_row};
use crate::blobs::{Blob, Blobs};
use crate::harness::{Contestant, Failure, Group, Plan, compete, looped};
use crate::user::mix;
use crate::world::World;

const TASKS: usize = 64;
const BYTES: usize = 300;

/// The first rows are updated and not read, so that updates cost the reads nothing.
const UPDATED: usize = 1_000;

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let mut blobs = Arc::new(Blobs::open(&world).await?);
    let mut groups = Vec::new();
    for &entries in plan.entries {
        own(&mut blobs)?.grow(entries + UPDATED, BYTES).await?;
        blobs.warm(UPDATED).await?;
        let get = looped(&blobs, TASKS, |blobs, task, number| async move {
            let id = read(&blobs, task, number);
            blobs.store.get_by_id(&id).await?.filter(|blob| blob.id == id).map(drop).ok_or_else(wrong_row)
        });
        let contestants = vec![
            Contestant::ours("store, get_by_id", noting_loads(blobs.store.cache_manager()?, get)),
            Contestant::ours(
                "store, update",
                looped(&blobs, TASKS, |blobs, task, number| async move {
                    let id = (random(task, number) % UPDATED) as i64 + 1;
                    let row = Blob { id, body: "y".repeat(BYTES) };
                    Ok(blobs.store.update(&id, row).await.map(drop)?)
                }),
            ),
            Contestant::other(
                "redis-rs, GET",
                looped(&blobs, TASKS, |blobs, task, number| async move {
                    let keys = blobs.store_keys(&[read(&blobs, task, number)])?;
                    let bytes: Vec<u8> = redis::cmd("GET").arg(keys).query_async(&mut blobs.redis.clone()).await?;
                    if bytes.len() > BYTES { Ok(()) } else { Err(wrong_row()) }
                }),
            ),
        ];
        groups.push(compete(&plan, format!("{} entries in Redis", grouped(entries)), TASKS, contestants).await?);
    }
    own(&mut blobs)?.close().await?;
    Ok(groups)
}

/// Between two groups nobody else holds it.
fn own(blobs: &mut Arc<Blobs>) -> Result<&mut Blobs, Failure> {
    Arc::get_mut(blobs).ok_or_else(|| "a contestant outlived its group".into())
}

fn random(task: usize, number: usize) -> usize {
    mix((task as u64) << 40 | number as u64) as usize
}

fn read(blobs: &Blobs, task: usize, number: usize) -> i64 {
    (UPDATED + random(task, number) % (blobs.rows - UPDATED)) as i64 + 1
}

/// A number with commas.
fn grouped(n: usize) -> String {
    if n < 1_000 { n.to_string() } else { format!("{},{:03}", grouped(n / 1_000), n % 1_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_as_the_targets_have_them() {
        assert_eq!(
            (grouped(999), grouped(10_000), grouped(1_000_000)),
            ("999".into(), "10,000".into(), "1,000,000".into())
        );
    }
}
