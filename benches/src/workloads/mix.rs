//! 95 % reads and 5 % updates in 16 tasks. A read is stale when the row is older than the last version whose update
//! had returned before the read began. Each key is written by one task, so that versions only grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::wrong_row;
use crate::harness::{Contestant, Failure, Group, Plan, Sample, compete, load};
use crate::user::{User, mix, read_aside, write_aside};
use crate::world::{ROWS, World};

const TASKS: usize = 16;

/// One operation in so many is an update.
const UPDATES: u64 = 20;

struct Course {
    world: Arc<World>,
    /// The last version of each row whose update returned; written by the task that owns the row.
    acknowledged: Vec<AtomicI64>,
    /// The same for versions handed out. Kept apart, so that no version is used twice after a failed update.
    next: Vec<AtomicI64>,
    stale: AtomicU64,
    updates: AtomicU64,
}

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let zeros = || (0..ROWS).map(|_| AtomicI64::new(0)).collect();
    let course = Arc::new(Course {
        acknowledged: zeros(),
        next: zeros(),
        stale: AtomicU64::new(0),
        updates: AtomicU64::new(0),
        world,
    });
    let (ours, hand) = (Arc::clone(&course), Arc::clone(&course));
    let contestants = vec![
        Contestant::ours("store, Redis tier", move |lasts| {
            let course = Arc::clone(&ours);
            Box::pin(async move {
                course.world.vacuum().await?;
                // The other contestant wrote past this cache.
                course.world.fill_cached().await?;
                let shared = Arc::clone(&course);
                let operation = move |task, number| {
                    let course = Arc::clone(&shared);
                    async move { course.store(task, number).await }
                };
                course.noted(course.world.noting_loads(load(TASKS, lasts, operation)).await?)
            })
        }),
        Contestant::other("cache-aside by hand", move |lasts| {
            let course = Arc::clone(&hand);
            Box::pin(async move {
                course.world.vacuum().await?;
                course.world.clear_hand().await?;
                course.world.fill_hand().await?;
                let shared = Arc::clone(&course);
                let operation = move |task, number| {
                    let course = Arc::clone(&shared);
                    async move { course.hand(task, number).await }
                };
                course.noted(load(TASKS, lasts, operation).await?)
            })
        }),
    ];
    Ok(vec![compete(&plan, "95/5 mix", TASKS, contestants).await?])
}

impl Course {
    async fn store(&self, task: usize, number: usize) -> Result<(), Failure> {
        let at = self.world.next(task, number);
        if is_update(task, number) {
            let (at, user) = self.newer(task, at);
            let (id, version) = (user.id, user.version);
            self.world.cached.update(&id, user).await?;
            self.acknowledge(at, version);
            return Ok(());
        }
        let least = self.acknowledged[at].load(Ordering::SeqCst);
        let user = self.world.cached.get_by_id(&self.world.ids[at]).await?;
        self.judge(at, least, &user.ok_or_else(wrong_row)?)
    }

    async fn hand(&self, task: usize, number: usize) -> Result<(), Failure> {
        let world = &self.world;
        let at = world.next(task, number);
        let mut redis = world.redis.clone();
        if is_update(task, number) {
            let (at, user) = self.newer(task, at);
            write_aside(&mut redis, &world.pool, &world.hand_keys[at], &user).await?;
            self.acknowledge(at, user.version);
            return Ok(());
        }
        let least = self.acknowledged[at].load(Ordering::SeqCst);
        self.judge(at, least, &read_aside(&mut redis, &world.pool, &world.hand_keys[at], world.ids[at]).await?)
    }

    /// The next version of a row that this task owns, near the place drawn.
    fn newer(&self, task: usize, at: usize) -> (usize, User) {
        let at = owned(task, at);
        let version = self.next[at].fetch_add(1, Ordering::SeqCst) + 1;
        (at, User { version, ..self.world.users[at].clone() })
    }

    fn acknowledge(&self, at: usize, version: i64) {
        self.acknowledged[at].store(version, Ordering::SeqCst);
        self.updates.fetch_add(1, Ordering::Relaxed);
    }

    fn judge(&self, at: usize, least: i64, user: &User) -> Result<(), Failure> {
        if user.id != self.world.ids[at] {
            return Err(wrong_row());
        }
        if user.version < least {
            self.stale.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Moves what the slice counted into its sample.
    fn noted(&self, mut sample: Sample) -> Result<Sample, Failure> {
        sample.notes.insert("stale", self.stale.swap(0, Ordering::Relaxed));
        sample.notes.insert("updates", self.updates.swap(0, Ordering::Relaxed));
        Ok(sample)
    }
}

fn owned(task: usize, at: usize) -> usize {
    at - at % TASKS + task
}

fn is_update(task: usize, number: usize) -> bool {
    mix((task as u64) << 40 | number as u64).is_multiple_of(UPDATES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_one_writer() {
        for at in 0..ROWS {
            for task in 0..TASKS {
                assert!(owned(task, at) < ROWS && owned(task, at) % TASKS == task, "{task} {at}");
            }
        }
    }

    #[test]
    fn one_operation_in_twenty_is_an_update() {
        let updates = (0..TASKS).flat_map(|task| (0..10_000).map(move |number| is_update(task, number)));
        let share = updates.filter(|update| *update).count() as f64 / (TASKS * 10_000) as f64;
        assert!((share - 0.05).abs() < 0.003, "{share}");
    }
}
