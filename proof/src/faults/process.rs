//! The application's own processes: killed, paused, starved: X1, X2, X5.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use storehaus::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::item::Item;
use super::{Failure, Findings, PREFIX, Rig, patience, until};
use crate::proxy::{Delay, Proxy};
use crate::rng::Rng;
use crate::server::{Server, signal, url_of};

const KEYS: i64 = 32;
/// How long rows may stay in process on an instance that keeps some.
const BOUND: Duration = Duration::from_millis(300);

/// The name under which this program runs one instance.
pub const WORKER: &str = "faults-worker";

const REDIS: &str = "STOREHAUS_FAULTS_REDIS";
const SEED: &str = "STOREHAUS_FAULTS_SEED";
const WORK: &str = "STOREHAUS_FAULTS_WORK";

/// What the process of an instance does besides answering.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Reads rows over and over.
    Reads,
    /// Reads rows over and over, and keeps them in process.
    ReadsInProcess,
    /// Writes rows over and over.
    Writes,
}

impl Work {
    const ALL: [(Self, &str); 3] =
        [(Self::Reads, "reads"), (Self::ReadsInProcess, "reads in process"), (Self::Writes, "writes")];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(work, _)| *work == self).map_or("", |(_, name)| name)
    }
}

/// Runs one instance until its standard input ends: answers each id on a line with the version it reads.
///
/// # Errors
/// When the environment does not say where its servers are, or they cannot be reached.
pub async fn worker() -> Result<(), Failure> {
    let (redis, seed) = (std::env::var(REDIS)?, std::env::var(SEED)?.parse()?);
    let name = std::env::var(WORK)?;
    let work = Work::ALL.iter().find(|(_, known)| *known == name).ok_or("there is no such work")?.0;
    let l1 = if work == Work::ReadsInProcess { L1::Bounded(BOUND) } else { L1::Off };
    let haus = StoreHaus::<Postgres>::builder()
        .url(std::env::var("DATABASE_URL")?)
        .cache(patience(CacheConfig::new(redis, 600u64, PREFIX)).with_l1(l1))
        .build()
        .await?;
    let store = haus.store::<Item>();
    for task in 0..8 {
        let (store, mut rng) = (store.clone(), Rng::new(seed, task));
        tokio::spawn(async move {
            loop {
                let id = 1 + rng.below(KEYS as u64) as i64;
                // Whoever asks is told; here errors of an end that nobody sees are as good as success.
                if work == Work::Writes {
                    store.update(&id, Item::new(id)).await.ok();
                } else {
                    store.get_by_id(&id).await.ok();
                }
                tokio::time::sleep(Duration::from_millis(rng.below(4))).await;
            }
        });
    }
    let mut asked = BufReader::new(tokio::io::stdin()).lines();
    let mut answers = tokio::io::stdout();
    while let Some(line) = asked.next_line().await? {
        let version = store.get_by_id(&line.parse::<i64>()?).await?.map_or(-1, |row| row.version);
        answers.write_all(format!("{version}\n").as_bytes()).await?;
        answers.flush().await?;
    }
    Ok(())
}

/// The process of an instance; killed when dropped.
struct Instance {
    child: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Instance {
    fn start(rig: &Rig, redis: &str, work: Work, seed: u64) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(WORKER)
            .env("DATABASE_URL", &rig.database)
            .env(REDIS, redis)
            .env(SEED, seed.to_string())
            .env(WORK, work.name())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let ask = child.stdin.take().ok_or("the worker has no standard input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("the worker has no standard output")?).lines();
        Ok(Self { child, ask, answers })
    }

    async fn version(&mut self, id: i64) -> Result<i64, Failure> {
        self.ask.write_all(format!("{id}\n").as_bytes()).await?;
        Ok(self.answers.next_line().await?.ok_or("the worker ended")?.parse()?)
    }

    fn signal(&self, name: &str) -> Result<(), Failure> {
        Ok(signal(self.child.id().ok_or("the worker ended")?, name)?)
    }

    async fn kill(mut self) -> Result<ExitStatus, Failure> {
        self.signal("-KILL")?;
        Ok(self.child.wait().await?)
    }
}

/// An instance is killed in the middle of its writes; its link to Redis is slow, so that most kills come between a
/// commit and the removal of the row.
pub(super) async fn killed(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let proxy = Proxy::start(redis.addr()).await?;
    proxy.delay_requests(Some(Delay { probability: 1.0, millis: 2..=8, seed: rig.seed }));
    let one = rig.patient(&redis.url()).await?;
    rig.reset(KEYS).await?;
    let (store, alone) = (one.store::<Item>(), rig.alone.store::<Item>());
    let mut rng = Rng::new(rig.seed, 1);
    let (mut differ, mut written, mut slowest) = (0, 0, Duration::ZERO);
    for round in 0..KILLS {
        let mut worker = Instance::start(rig, &url_of(proxy.addr()), Work::Writes, rig.seed + round)?;
        worker.version(1).await?;
        let over = Instant::now() + Duration::from_millis(50 + rng.below(200));
        while Instant::now() < over {
            // What it removes is soon filled again.
            store.get_by_id(&(1 + rng.below(KEYS as u64) as i64)).await?;
        }
        let status = worker.kill().await?;
        written += u64::from(!status.success());
        let started = Instant::now();
        let same = async || {
            for id in 1..=KEYS {
                let (cached, row) = (store.get_by_id(&id).await, alone.get_by_id(&id).await);
                if cached.is_err() || cached.ok() != row.ok() {
                    return false;
                }
            }
            true
        };
        if until(COHERENT_WITHIN, same).await {
            slowest = slowest.max(started.elapsed());
        } else {
            for id in 1..=KEYS {
                differ += u64::from(store.get_by_id(&id).await? != alone.get_by_id(&id).await?);
            }
            for id in 1..=KEYS {
                // So that the next round says something of its own.
                store.update(&id, Item::new(id)).await?;
            }
        }
    }
    findings.add("killed: processes", format_args!("{written} of {KILLS}"), "all", written == KILLS);
    let figure = format!("{differ} of {} (the last was right after {slowest:.0?})", KILLS as i64 * KEYS);
    let target = format!("0 after {COHERENT_WITHIN:?}");
    findings.add("killed: rows the cache has wrong", figure, target, differ == 0);
    Ok(())
}

/// An instance stands still while another writes, and goes on in the middle of whatever it did.
pub(super) async fn paused(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    let one = rig.patient(&redis.url()).await?;
    rig.reset(KEYS).await?;
    let store = one.store::<Item>();
    let mut workers = Vec::new();
    for work in [Work::Reads, Work::ReadsInProcess] {
        let mut worker = Instance::start(rig, &redis.url(), work, rig.seed)?;
        worker.version(1).await?;
        workers.push((work, worker, 0));
    }
    let pause = (rig.load_for / PAUSES).max(BOUND * 2);
    for _ in 0..PAUSES {
        for (_, worker, _) in &workers {
            worker.signal("-STOP")?;
        }
        let mut acknowledged = Vec::new();
        for id in 1..=KEYS {
            acknowledged.push((id, store.update(&id, Item::new(id)).await?.version));
        }
        tokio::time::sleep(pause).await;
        for (_, worker, _) in &workers {
            worker.signal("-CONT")?;
        }
        for &(id, version) in &acknowledged {
            for (_, worker, stale) in &mut workers {
                *stale += u64::from(worker.version(id).await? < version);
            }
        }
    }
    for (work, worker, stale) in workers {
        let figure = format!("{stale} of {}", i64::from(PAUSES) * KEYS);
        findings.add(format_args!("paused {pause:?}, {}: stale reads", work.name()), figure, "0", stale == 0);
        worker.kill().await?;
    }
    Ok(())
}

/// One thread for everything, cores that are busy with something else, and now and then a call that blocks the thread.
pub(super) async fn starved(rig: &Rig, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let redis = Server::start().await?;
    rig.reset(KEYS).await?;
    let over = Arc::new(AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let spinning: Vec<_> = (0..cores * 2)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let (database, url, lasts) = (rig.database.clone(), redis.url(), rig.load_for);
    let starving = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let starved = async { tokio::spawn(starve(database, url, lasts)).await.map_err(|error| error.to_string())? };
        runtime.map_err(|error| error.to_string())?.block_on(starved)
    });
    let starved = starving.await;
    over.store(true, Ordering::Relaxed);
    for thread in spinning {
        thread.join().map_err(|_| "a busy thread panicked")?;
    }
    let (hits, failed, opened, longest) = starved??;
    findings.add(
        "starved: reads served from redis",
        format_args!("{hits}, {failed} failed"),
        "some, 0",
        hits > 10 && failed == 0,
    );
    let limit = Duration::from_secs(1) + STALL;
    let figure = format!("{longest:.0?} (breaker opened {opened} times)");
    findings.add("starved: longest time without a hit", figure, format_args!("{limit:?}"), longest <= limit);
    Ok(())
}

/// Hits, failed reads, how often the breaker opened, and the longest time without a hit.
async fn starve(database: String, redis: String, lasts: Duration) -> Result<(u64, u64, u64, Duration), String> {
    let config = CacheConfig::new(redis, 600u64, PREFIX);
    let haus = StoreHaus::<Postgres>::builder().url(database).cache(config).build().await;
    let haus = haus.map_err(|error| error.to_string())?;
    let (store, manager) = (haus.store::<Item>(), haus.cache().map_err(|error| error.to_string())?);
    let mut failed = 0;
    for id in 1..=KEYS {
        failed += u64::from(store.get_by_id(&id).await.is_err());
    }
    manager.settle().await;
    let stats = async || manager.get_stats().await.unwrap_or_default();
    let (over, mut rng) = (Instant::now() + lasts, Rng::new(1, 1));
    let (mut hits, mut last, mut longest) = (stats().await.total.l2_hits, Instant::now(), Duration::ZERO);
    let (first, mut stall) = (hits, Instant::now() + STALL * 4);
    while Instant::now() < over {
        failed += u64::from(store.get_by_id(&(1 + rng.below(KEYS as u64) as i64)).await.is_err());
        let now = stats().await.total.l2_hits;
        if now > hits {
            (hits, last) = (now, Instant::now());
        } else {
            longest = longest.max(last.elapsed());
        }
        if Instant::now() > stall {
            let until = Instant::now() + STALL;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            stall = Instant::now() + STALL * 4;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((hits - first, failed, stats().await.breaker_opened, longest.max(last.elapsed())))
}

const KILLS: u64 = 12;
const PAUSES: u32 = 5;
/// How soon the cache must be right after a writer died.
const COHERENT_WITHIN: Duration = Duration::from_secs(3);
/// How long a call blocks the thread.
const STALL: Duration = Duration::from_millis(100);
