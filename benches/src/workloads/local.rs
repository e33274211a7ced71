//! Hits in process. On threads rather than tasks: nothing waits here, and each thread has a core to itself.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use storehaus::prelude::*;
use tokio::runtime::Handle;

use super::wrong_row;
use crate::harness::{Contestant, Failure, Group, Plan, Sample, compete};
use crate::user::User;
use crate::world::{ROWS, World};

/// Reads between two looks at the clock.
const STRIDE: usize = 1_000;

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let bare = Arc::new(Cache::new(2 * ROWS));
    for user in &world.users {
        bare.insert(user.id, Arc::new(user.clone()));
        world.local.require(&user.id).await?;
    }
    let mut groups = Vec::new();
    for threads in [1, 2] {
        let (arc, owned, hand) = (Arc::clone(&world), Arc::clone(&world), Arc::clone(&world));
        let bare = Arc::clone(&bare);
        let contestants = vec![
            Contestant::ours("store, get_arc", move |lasts| {
                let world = Arc::clone(&arc);
                Box::pin(async move {
                    let loads = loads(&world).await?;
                    let store = &world.local;
                    let read = async |id: &Uuid| Ok(store.get_arc(id).await?.is_some_and(|user| user.id == *id));
                    let sample = on_threads(&world, threads, lasts, read)?;
                    noted(&world, sample, loads).await
                })
            }),
            Contestant::ours("store, get_by_id", move |lasts| {
                let world = Arc::clone(&owned);
                Box::pin(async move {
                    let loads = loads(&world).await?;
                    let store = &world.local;
                    let read = async |id: &Uuid| {
                        let user: Option<User> = black_box(store.get_by_id(id).await?);
                        Ok(user.is_some_and(|user| user.id == *id))
                    };
                    let sample = on_threads(&world, threads, lasts, read)?;
                    noted(&world, sample, loads).await
                })
            }),
            Contestant::other("quick_cache, Arc", move |lasts| {
                let (world, bare) = (Arc::clone(&hand), Arc::clone(&bare));
                Box::pin(async move {
                    let read = async |id: &Uuid| Ok(bare.get(id).is_some_and(|user: Arc<User>| user.id == *id));
                    on_threads(&world, threads, lasts, read)
                })
            }),
        ];
        groups.push(compete(&plan, "hit in process, tasks as threads", threads, contestants).await?);
    }
    Ok(groups)
}

async fn loads(world: &World) -> Result<u64, Failure> {
    Ok(world.local.cache_manager()?.get_stats().await?.total.loads)
}

async fn noted(world: &World, mut sample: Sample, before: u64) -> Result<Sample, Failure> {
    sample.notes.insert("loads", loads(world).await? - before);
    Ok(sample)
}

fn on_threads(
    world: &World,
    threads: usize,
    lasts: Duration,
    read: impl AsyncFn(&Uuid) -> Result<bool, Failure> + Sync,
) -> Result<Sample, Failure> {
    let (runtime, start) = (Handle::current(), Barrier::new(threads));
    let one = &|thread: usize| {
        start.wait();
        let began = Instant::now();
        let mut number = 0;
        let reads = async {
            while began.elapsed() < lasts {
                for _ in 0..STRIDE {
                    if !read(&world.ids[world.next(thread, number)]).await? {
                        return Err(wrong_row());
                    }
                    number += 1;
                }
            }
            Ok(())
        };
        runtime.block_on(reads)?;
        Ok::<_, Failure>((number as u64, began.elapsed()))
    };
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || one(thread))).collect();
            let mut sample = Sample::default();
            for thread in running {
                let (reads, elapsed) = thread.join().map_err(|_| "a thread panicked")??;
                sample.items += reads;
                sample.elapsed = sample.elapsed.max(elapsed);
            }
            Ok(sample)
        })
    })
}
