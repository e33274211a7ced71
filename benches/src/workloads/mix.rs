//! Reads and writes together: 95/5, 80/20 and the YCSB workloads, keys Zipf 0.99. A read is stale when the row is
//! older than the last version whose update had returned before the read began. Each key is written by one task, so
//! that versions only grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use storehaus::prelude::*;
use storehaus::sqlx;

use super::batch::read_many_aside;
use super::{noting_loads, wrong_row};
use crate::harness::{Contestant, Failure, Group, Plan, Sample, Slice, compete, load};
use crate::user::{INSERT_MANY, User, mix, read_aside, unnest, write_aside};
use crate::world::{ROWS, World};

/// Shares of a hundred operations; the rest are reads of one row.
struct Mix {
    name: &'static str,
    tasks: &'static [usize],
    updates: u64,
    /// Updates of a row read just before, by the same task.
    read_updates: u64,
    creates: u64,
    /// Reads of up to 100 rows. There is no scan by key: they are reads of many rows by their keys.
    scans: u64,
    /// Whether reads prefer the newest rows.
    latest: bool,
}

const NONE: Mix = Mix { name: "", tasks: &[64], updates: 0, read_updates: 0, creates: 0, scans: 0, latest: false };

const MIXES: [Mix; 8] = [
    Mix { name: "95/5 mix", tasks: &[16, 64], updates: 5, ..NONE },
    Mix { name: "80/20 mix", tasks: &[16, 64], updates: 20, ..NONE },
    Mix { name: "YCSB A, 50 % updates", updates: 50, ..NONE },
    Mix { name: "YCSB B, 5 % updates", updates: 5, ..NONE },
    Mix { name: "YCSB C, reads", ..NONE },
    Mix { name: "YCSB D, latest, 5 % creates", creates: 5, latest: true, ..NONE },
    Mix { name: "YCSB E, 95 % reads of many, 5 % creates", scans: 95, creates: 5, ..NONE },
    Mix { name: "YCSB F, 50 % read and update", read_updates: 50, ..NONE },
];

struct Course {
    world: Arc<World>,
    mix: &'static Mix,
    tasks: usize,
    /// The last version of each row whose update returned; written by the task that owns the row.
    acknowledged: Vec<AtomicI64>,
    /// The same for versions handed out. Kept apart, so that no version is used twice after a failed update.
    next: Vec<AtomicI64>,
    /// How many rows each task created in this slice.
    created: Vec<AtomicUsize>,
    stale: AtomicU64,
    updates: AtomicU64,
}

/// The two ways to do it.
#[derive(Clone, Copy)]
enum Way {
    Store,
    Hand,
}

pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let mut groups = Vec::new();
    for mix in &MIXES {
        for &tasks in mix.tasks.iter().filter(|tasks| plan.full || **tasks == 64) {
            let zeros = || (0..ROWS).map(|_| AtomicI64::new(0)).collect();
            let course = Arc::new(Course {
                world: Arc::clone(&world),
                mix,
                tasks,
                acknowledged: zeros(),
                next: zeros(),
                created: (0..tasks).map(|_| AtomicUsize::new(0)).collect(),
                stale: AtomicU64::new(0),
                updates: AtomicU64::new(0),
            });
            course.reset_versions().await?;
            let contestants = vec![
                Contestant::ours(
                    "store",
                    noting_loads(world.cached.cache_manager()?, course.clone().slice(Way::Store)),
                ),
                Contestant::other("by hand, aside", course.clone().slice(Way::Hand)),
            ];
            groups.push(compete(&plan, mix.name, tasks, contestants).await?);
            course.remove_created().await?;
        }
    }
    Ok(groups)
}

impl Course {
    fn slice(self: Arc<Self>, way: Way) -> impl Fn(Duration) -> Slice {
        move |lasts| {
            let course = Arc::clone(&self);
            Box::pin(async move {
                course.prepare(way).await?;
                let shared = Arc::clone(&course);
                let run = load(course.tasks, lasts, move |task, number| {
                    let course = Arc::clone(&shared);
                    async move { course.operation(way, task, number).await }
                });
                course.noted(run.await?)
            })
        }
    }

    /// The caches hold what the table has: the other contestant wrote past this one's.
    async fn prepare(&self, way: Way) -> Result<(), Failure> {
        self.remove_created().await?;
        self.world.vacuum().await?;
        match way {
            Way::Store => self.world.fill_cached().await,
            Way::Hand => {
                self.world.clear_hand().await?;
                self.world.fill_hand().await
            }
        }
    }

    async fn remove_created(&self) -> Result<(), Failure> {
        let numbers = self
            .created
            .iter()
            .enumerate()
            .flat_map(|(task, created)| (0..created.swap(0, Ordering::SeqCst)).map(move |n| (task, n)));
        let ids: Vec<_> = numbers.map(|(task, n)| self.new_user(task, n).id).collect();
        // Through the store: it may hold them.
        for ids in ids.chunks(1_000) {
            self.world.cached.delete_many(ids).await?;
            let keys: Vec<_> = ids.iter().map(|id| self.hand_key(*id)).collect();
            self.world.delete(&keys).await?;
        }
        Ok(())
    }

    async fn reset_versions(&self) -> Result<(), Failure> {
        sqlx::query("UPDATE storehaus_bench_users SET version = 0 WHERE version <> 0")
            .execute(&self.world.pool)
            .await?;
        Ok(())
    }

    async fn operation(&self, way: Way, task: usize, number: usize) -> Result<(), Failure> {
        let mut dice = mix((task as u64) << 40 | number as u64) % 100;
        let mut falls = |share: u64| {
            let falls = dice < share;
            dice = dice.wrapping_sub(share);
            falls
        };
        let at = self.world.next(task, number);
        if falls(self.mix.updates) {
            self.update(way, task, at).await
        } else if falls(self.mix.read_updates) {
            self.read(way, owned(self.tasks, task, at)).await?;
            self.update(way, task, at).await
        } else if falls(self.mix.creates) {
            self.create(way, task).await
        } else if falls(self.mix.scans) {
            self.scan(way, at, number).await
        } else {
            let of = mix(number as u64) as usize % self.tasks;
            let created = self.created[of].load(Ordering::SeqCst);
            // The distance from the newest is what follows Zipf.
            match created.checked_sub(at / self.tasks + 1).filter(|_| self.mix.latest) {
                Some(n) => self.read_created(way, self.new_user(of, n).id).await,
                None => self.read(way, at).await,
            }
        }
    }

    async fn update(&self, way: Way, task: usize, at: usize) -> Result<(), Failure> {
        let at = owned(self.tasks, task, at);
        let version = self.next[at].fetch_add(1, Ordering::SeqCst) + 1;
        let (world, user) = (&self.world, User { version, ..self.world.users[at].clone() });
        match way {
            Way::Store => drop(world.cached.update(&world.ids[at], user).await?),
            Way::Hand => write_aside(&mut world.redis(), &world.pool, &world.hand_keys[at], &user).await?,
        }
        self.acknowledged[at].store(version, Ordering::SeqCst);
        self.updates.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn read(&self, way: Way, at: usize) -> Result<(), Failure> {
        let least = self.acknowledged[at].load(Ordering::SeqCst);
        let (world, id) = (&self.world, self.world.ids[at]);
        let user = match way {
            Way::Store => world.cached.get_by_id(&id).await?.ok_or_else(wrong_row)?,
            Way::Hand => read_aside(&mut world.redis(), &world.pool, &world.hand_keys[at], id).await?,
        };
        if user.id != id {
            return Err(wrong_row());
        }
        if user.version < least {
            self.stale.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn create(&self, way: Way, task: usize) -> Result<(), Failure> {
        let user = self.new_user(task, self.created[task].load(Ordering::SeqCst));
        match way {
            Way::Store => drop(self.world.cached.create(user).await?),
            Way::Hand => drop(unnest(&self.world.pool, INSERT_MANY, &[user]).await?),
        }
        self.created[task].fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn read_created(&self, way: Way, id: Uuid) -> Result<(), Failure> {
        let user = match way {
            Way::Store => self.world.cached.get_by_id(&id).await?.ok_or_else(wrong_row)?,
            Way::Hand => read_aside(&mut self.world.redis(), &self.world.pool, &self.hand_key(id), id).await?,
        };
        if user.id == id { Ok(()) } else { Err(wrong_row()) }
    }

    async fn scan(&self, way: Way, at: usize, number: usize) -> Result<(), Failure> {
        let places = at..(at + 1 + mix(number as u64) as usize % 100).min(ROWS);
        let ids = &self.world.ids[places.clone()];
        let users = match way {
            Way::Store => self.world.cached.get_many(ids).await?,
            Way::Hand => read_many_aside(&self.world, places).await?,
        };
        let right = users.iter().zip(ids).all(|(user, id)| user.as_ref().is_some_and(|user| user.id == *id));
        if right { Ok(()) } else { Err(wrong_row()) }
    }

    /// The `n`th row that a task creates.
    fn new_user(&self, task: usize, n: usize) -> User {
        User::new((1_000_000 + n * self.tasks + task) as u64)
    }

    fn hand_key(&self, id: Uuid) -> String {
        format!("{}:hand:{id}", self.world.prefix)
    }

    /// Moves what the slice counted into its sample.
    fn noted(&self, mut sample: Sample) -> Result<Sample, Failure> {
        sample.notes.insert("stale", self.stale.swap(0, Ordering::Relaxed));
        sample.notes.insert("updates", self.updates.swap(0, Ordering::Relaxed));
        Ok(sample)
    }
}

fn owned(tasks: usize, task: usize, at: usize) -> usize {
    let first = at - at % tasks;
    // The last, shorter stretch has no row for every task.
    if first + task < ROWS { first + task } else { task }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_one_writer() {
        for tasks in [16, 64] {
            for (at, task) in (0..ROWS).flat_map(|at| (0..tasks).map(move |task| (at, task))) {
                assert!(owned(tasks, task, at) < ROWS && owned(tasks, task, at) % tasks == task, "{task} {at}");
            }
        }
    }

    #[test]
    fn no_mix_has_more_than_a_hundred_parts() {
        for mix in &MIXES {
            assert!(mix.updates + mix.read_updates + mix.creates + mix.scans <= 100, "{}", mix.name);
        }
    }
}
