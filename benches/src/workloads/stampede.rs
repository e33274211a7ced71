//! 1,000 tasks at once want one row that no cache has; the database takes 20 ms to find it. In one process, and in
//! three of them, each with a third of the tasks. The database counts the SELECTs.

use std::env;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use storehaus::sqlx;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::herd::{Herd, Way};
use super::wrong_row;
use crate::blobs::Blobs;
use crate::harness::{Contestant, Failure, Group, Plan, Sample, Slice, compete};
use crate::world::World;

/// The argument by which this program knows that it is one of several processes; the prefix of the keys follows.
pub(crate) const CHILD: &str = "--stampede";

pub(super) const TASKS: usize = 1_000;
pub(super) const PROCESSES: usize = 3;

/// Rows to stampede on; each is cold once.
pub(super) const ROWS: usize = 20_000;

const VIEW: &str = "CREATE VIEW storehaus_bench_slow AS SELECT b.id, b.body FROM storehaus_bench_blobs AS b, \
     LATERAL (SELECT pg_sleep(0.02 + 0 * b.id), nextval('storehaus_bench_selects')) AS slow";
pub(super) async fn run(world: Arc<World>, plan: Plan) -> Result<Vec<Group>, Failure> {
    let mut blobs = Blobs::open(&world).await?;
    blobs.grow(ROWS, 300).await?;
    for statement in
        ["DROP SEQUENCE IF EXISTS storehaus_bench_selects", "CREATE SEQUENCE storehaus_bench_selects", VIEW]
    {
        sqlx::query(statement).execute(&blobs.pool).await?;
    }
    let prefix = format!("{}-slow", world.prefix);
    let course = Arc::new(Course { herd: Arc::new(Herd::open(&prefix).await?), next: AtomicI64::new(1) });
    let contestants = vec![
        Contestant::ours("store", course.within(Way::Store)),
        Contestant::other("by hand, aside", course.within(Way::Hand)),
        Contestant::other("one query, one round trip", course.single()),
    ];
    let one = compete(&plan, "stampede of 1,000, 1 process", 1, contestants).await?;

    let mut children = Vec::new();
    for _ in 0..PROCESSES {
        children.push(Member::start(&prefix).await?);
    }
    let children = Arc::new(tokio::sync::Mutex::new(children));
    let contestants = vec![
        Contestant::ours("store", course.across(Way::Store, &children)),
        Contestant::other("by hand, aside", course.across(Way::Hand, &children)),
        Contestant::other("one query, one round trip", course.single()),
    ];
    let three = compete(&plan, "stampede of 1,000, 3 processes", 1, contestants).await?;
    for child in children.lock().await.drain(..) {
        child.end().await?;
    }
    course.herd.forget().await?;
    blobs.close().await?;
    sqlx::query("DROP SEQUENCE storehaus_bench_selects").execute(&world.pool).await?;
    Ok(vec![one, three])
}

struct Course {
    herd: Arc<Herd>,
    /// The first row that belongs to nobody yet.
    next: AtomicI64,
}

impl Course {
    fn within(&self, way: Way) -> impl Fn(Duration) -> Slice + use<> {
        let herd = Arc::clone(&self.herd);
        self.repeat(move |id| {
            let herd = Arc::clone(&herd);
            async move { herd.storm(way, id, TASKS).await }
        })
    }

    fn across(&self, way: Way, children: &Arc<tokio::sync::Mutex<Vec<Member>>>) -> impl Fn(Duration) -> Slice + use<> {
        let children = Arc::clone(children);
        self.repeat(move |id| {
            let children = Arc::clone(&children);
            async move {
                let mut children = children.lock().await;
                for child in children.iter_mut() {
                    child.ask(&format!("{} {id}", way.name())).await?;
                }
                for child in children.iter_mut() {
                    child.expect("done").await?;
                }
                Ok(())
            }
        })
    }

    fn single(&self) -> impl Fn(Duration) -> Slice + use<> {
        let herd = Arc::clone(&self.herd);
        self.repeat(move |id| {
            let herd = Arc::clone(&herd);
            async move {
                let bytes: Option<Vec<u8>> =
                    redis::cmd("GET").arg(herd.key(id)).query_async(&mut herd.redis.clone()).await?;
                if bytes.is_some() { Err(wrong_row()) } else { herd.select(id).await.map(drop) }
            }
        })
    }

    /// A slice of stampedes one after another, each on a row of its own.
    fn repeat<F, Fut>(&self, storm: F) -> impl Fn(Duration) -> Slice + use<F, Fut>
    where
        F: Fn(i64) -> Fut + Clone + 'static,
        Fut: Future<Output = Result<(), Failure>> + 'static,
    {
        let herd = Arc::clone(&self.herd);
        let next = Arc::new(AtomicI64::new(self.next.fetch_add(ROWS as i64 / 8, Ordering::Relaxed)));
        move |lasts| {
            let (herd, next, storm) = (Arc::clone(&herd), Arc::clone(&next), storm.clone());
            Box::pin(async move {
                let mut sample = Sample::default();
                let before = herd.selects().await?;
                while sample.elapsed < lasts {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    let start = Instant::now();
                    storm(id).await?;
                    let took = start.elapsed();
                    sample.latencies.add(took);
                    sample.elapsed += took;
                    sample.items += 1;
                }
                sample.notes.insert("SELECTs", herd.selects().await? - before);
                Ok(sample)
            })
        }
    }
}

/// One of several processes.
struct Member {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Member {
    async fn start(prefix: &str) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe()?);
        command.args([CHILD, prefix]).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let input = process.stdin.take().ok_or("a child has no input")?;
        let output = BufReader::new(process.stdout.take().ok_or("a child has no output")?).lines();
        let mut member = Self { process, input, output };
        member.expect("ready").await?;
        Ok(member)
    }

    async fn ask(&mut self, line: &str) -> Result<(), Failure> {
        Ok(self.input.write_all(format!("{line}\n").as_bytes()).await?)
    }

    async fn expect(&mut self, wanted: &str) -> Result<(), Failure> {
        match self.output.next_line().await? {
            Some(line) if line == wanted => Ok(()),
            line => Err(format!("a process of the stampede said {line:?}, not {wanted:?}").into()),
        }
    }

    /// A process ends when its input does.
    async fn end(self) -> Result<(), Failure> {
        let Self { mut process, input, .. } = self;
        drop(input);
        process.wait().await?;
        Ok(())
    }
}
