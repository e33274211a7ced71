//! Hits in process. On threads rather than tasks: nothing waits here, and each thread has a core to itself.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use storehaus::prelude::*;
use tokio::runtime::Handle;

use super::{noting_loads, wrong_row};
use crate::harness::{Contestant, Failure, Group, Plan, Sample, Slice, compete};
use crate::rivals;
use crate::user::User;
use crate::world::{ROWS, World};

const THREADS: [usize; 2] = [1, 2];

/// Reads between two looks at the clock.
const STRIDE: usize = 1_000;

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let bare = Arc::new(Cache::new(2 * ROWS));
    for user in &world.users {
        bare.insert(user.id, Arc::new(user.clone()));
        world.local.require(&user.id).await?;
    }
    let mut groups = Vec::new();
    let rivals = rivals::local(&world, &THREADS).await?;
    for (threads, rivals) in THREADS.into_iter().zip(rivals) {
        let mut contestants = vec![
            Contestant::ours(
                "store, get_arc",
                noting_loads(
                    world.local.cache_manager()?,
                    on_threads(&world, threads, async |world: &World, id| {
                        Ok(world.local.get_arc(id).await?.is_some_and(|user| user.id == *id))
                    }),
                ),
            ),
            Contestant::ours(
                "store, get_by_id",
                noting_loads(
                    world.local.cache_manager()?,
                    on_threads(&world, threads, async |world: &World, id| {
                        let user: Option<User> = black_box(world.local.get_by_id(id).await?);
                        Ok(user.is_some_and(|user| user.id == *id))
                    }),
                ),
            ),
        ];
        contestants.push(Contestant::other(
            "store, get_arc and clone",
            on_threads(&world, threads, async |world: &World, id| {
                let user: Option<User> = black_box(world.local.get_arc(id).await?.map(|user| User::clone(&user)));
                Ok(user.is_some_and(|user| user.id == *id))
            }),
        ));
        let bare = Arc::clone(&bare);
        contestants.push(Contestant::other(
            "quick_cache",
            on_threads(&world, threads, async move |_: &World, id| {
                Ok(bare.get(id).is_some_and(|user: Arc<User>| user.id == *id))
            }),
        ));
        contestants.extend(rivals);
        groups.push(compete(&plan, "hit in process", threads, contestants).await?);
    }
    Ok(groups)
}

/// A slice in which each thread reads one row after another.
pub(crate) fn on_threads<R>(world: &Arc<World>, threads: usize, read: R) -> impl Fn(Duration) -> Slice + use<R>
where
    R: AsyncFn(&World, &Uuid) -> Result<bool, Failure> + Sync + 'static,
{
    let (world, read) = (Arc::clone(world), Arc::new(read));
    move |lasts| {
        let (world, read) = (Arc::clone(&world), Arc::clone(&read));
        Box::pin(async move { measure(&world, threads, lasts, &*read) })
    }
}

fn measure(
    world: &World,
    threads: usize,
    lasts: Duration,
    read: &(impl AsyncFn(&World, &Uuid) -> Result<bool, Failure> + Sync),
) -> Result<Sample, Failure> {
    let (runtime, start) = (Handle::current(), Barrier::new(threads));
    let one = &|thread: usize| {
        start.wait();
        let began = Instant::now();
        let mut number = 0;
        let reads = async {
            while began.elapsed() < lasts {
                for _ in 0..STRIDE {
                    if !read(world, &world.ids[world.next(thread, number)]).await? {
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
