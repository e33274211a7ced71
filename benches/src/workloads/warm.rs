//! Filling a cold cache with a table, in parts of 1,000 rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{BATCH, noting_loads};
use crate::blobs::Blobs;
use crate::harness::{Contestant, Failure, Group, Plan, Slice, compete, count};
use crate::world::World;

const TASKS: usize = 8;

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let (rows, name) = if plan.full { (100_000, "warm-up of 100,000") } else { (10_000, "warm-up of 10,000") };
    let mut blobs = Blobs::open(&world).await?;
    blobs.grow(rows, 300).await?;
    let mut blobs = Arc::new(blobs);
    let store = filling(&blobs, |blobs, ids| async move { Ok(blobs.store.get_many(&ids).await.map(drop)?) });
    let contestants = vec![
        Contestant::ours("store, get_many", noting_loads(blobs.store.cache_manager()?, store)),
        Contestant::other("by hand, ANY SET", filling(&blobs, |blobs, ids| async move { blobs.fill_hand(&ids).await })),
    ];
    let group = compete(&plan, name, TASKS, contestants).await?;
    if let Some(blobs) = Arc::get_mut(&mut blobs) {
        blobs.close().await?;
    }
    Ok(vec![group])
}

/// A slice that empties the caches and fills one with every row; until Redis has them all.
fn filling<F, Fut>(blobs: &Arc<Blobs>, fill: F) -> impl Fn(Duration) -> Slice + use<F, Fut>
where
    F: Fn(Arc<Blobs>, Vec<i64>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let blobs = Arc::clone(blobs);
    move |_| {
        let (blobs, fill) = (Arc::clone(&blobs), fill.clone());
        Box::pin(async move {
            let parts = blobs.rows / BATCH;
            let part = |n: usize| ((n * BATCH) as i64 + 1..=((n + 1) * BATCH) as i64).collect::<Vec<_>>();
            for n in 0..parts {
                blobs.forget(&part(n)).await?;
            }
            let shared = Arc::clone(&blobs);
            let start = Instant::now();
            let mut sample = count(TASKS, parts, move |n| fill(Arc::clone(&shared), part(n))).await?;
            blobs.store.cache_manager()?.settle().await;
            sample.elapsed = start.elapsed();
            sample.items *= BATCH as u64;
            Ok(sample)
        })
    }
}
