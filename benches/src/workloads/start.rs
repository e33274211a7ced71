//! From nothing to the first row: connect, configure, read one row by its key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use storehaus::prelude::*;

use super::wrong_row;
use crate::harness::{Contestant, Failure, Group, Plan, Sample, Slice, compete};
use crate::user::{TTL, User, read_aside};
use crate::world::{World, client, pool};

/// Nothing listens there.
const CLOSED: &str = "redis://127.0.0.1:1";

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let store = |server: &str| {
        let server: Arc<str> = server.into();
        starting(&world, move |world: Arc<World>| {
            let server = Arc::clone(&server);
            async move {
                let start = Instant::now();
                let cache = CacheConfig::new(&*server, TTL, &world.prefix);
                let haus = StoreHaus::<Postgres>::builder().url(&world.database).cache(cache).build().await?;
                let user = haus.store::<User>().get_by_id(&world.ids[0]).await?;
                let took = start.elapsed();
                haus.shutdown(Duration::from_secs(30)).await?;
                user.map(|_| took).ok_or_else(wrong_row)
            }
        })
    };
    let hand = starting(&world, |world: Arc<World>| async move {
        let start = Instant::now();
        let pool = pool(&world.database).await?;
        let mut redis = client(&world.server)?.get_multiplexed_async_connection().await?;
        read_aside(&mut redis, &pool, &world.hand_keys[0], world.ids[0]).await?;
        let took = start.elapsed();
        pool.close().await;
        Ok(took)
    });
    let up = vec![Contestant::ours("store", store(&world.server)), Contestant::other("sqlx and redis-rs", hand)];
    let down = vec![Contestant::ours("store", store(CLOSED))];
    Ok(vec![compete(&plan, "start, Redis up", 1, up).await?, compete(&plan, "start, Redis down", 1, down).await?])
}

/// A slice of starts, one after another; each tells how long it took without its end.
fn starting<F, Fut>(world: &Arc<World>, start: F) -> impl Fn(Duration) -> Slice + use<F, Fut>
where
    F: Fn(Arc<World>) -> Fut + Clone + 'static,
    Fut: Future<Output = Result<Duration, Failure>> + 'static,
{
    let world = Arc::clone(world);
    move |lasts| {
        let (world, start) = (Arc::clone(&world), start.clone());
        Box::pin(async move {
            let mut sample = Sample::default();
            while sample.elapsed < lasts {
                let took = start(Arc::clone(&world)).await?;
                sample.latencies.add(took);
                sample.elapsed += took;
                sample.items += 1;
            }
            Ok(sample)
        })
    }
}
