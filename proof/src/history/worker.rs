//! One process of a run: it does operations of every kind and writes down what it saw.
//!
//! It is spoken to on its standard input: the plan, then `stop` (it answers `quiet` when nothing is under way any
//! more), then `sweep` (it reads every row and answers `done`). When the input ends, so does it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use storehaus::prelude::*;
use storehaus::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};
use tokio::task::JoinSet;

use super::clock::{Clock, nanos};
use super::event::{Call, Event, Log, Op, Outcome, Seen, op};
use super::plan::{GROUP, GROUPS, KEYS, Plan, TURN};
use super::table::{Entry, application};
use crate::rng::Rng;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The name under which the program runs as a worker.
pub const NAME: &str = "history-worker";

/// Runs the process to its end.
///
/// # Errors
/// When it was told nothing it understands, the database cannot be reached at the start, or a log cannot be written.
pub async fn run() -> Result<(), Failure> {
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let plan: Plan = serde_json::from_str(&input.next_line().await?.unwrap_or_default())?;
    let desk = Arc::new(Desk::open(&plan).await?);
    let mut tasks = JoinSet::new();
    for task in 0..plan.writers + plan.readers {
        let rng = Rng::new(plan.seed, u64::from(plan.number) << 16 | u64::from(task));
        let hand = Hand { desk: Arc::clone(&desk), task, rng };
        if task < plan.writers {
            tasks.spawn(hand.work())
        } else {
            tasks.spawn(hand.read())
        };
    }
    tasks.spawn(Arc::clone(&desk).count_hits());
    say("ready")?;
    while let Some(line) = next_line(&mut input, &mut tasks).await? {
        match line.as_str() {
            "stop" => {
                desk.over.store(true, Ordering::SeqCst);
                while let Some(ended) = tasks.join_next().await {
                    ended??;
                }
                desk.manager.settle().await;
                say("quiet")?;
            }
            "sweep" => {
                desk.sweep().await?;
                desk.log.write(&Event::Drift { nanos: nanos(desk.clock.drift()) })?;
                say("done")?;
            }
            other => return Err(format!("cannot read `{other}`").into()),
        }
    }
    Ok(())
}

/// The next line, unless a task fails first.
async fn next_line(
    input: &mut Lines<BufReader<Stdin>>,
    tasks: &mut JoinSet<Result<(), Failure>>,
) -> Result<Option<String>, Failure> {
    loop {
        tokio::select! {
            line = input.next_line() => return Ok(line?),
            Some(ended) = tasks.join_next() => ended??,
        }
    }
}

fn say(word: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{word}")?;
    out.flush()
}

/// What the tasks of the process share.
pub(super) struct Desk {
    number: u16,
    pub(super) haus: StoreHaus,
    pub(super) store: GenericStore<Entry>,
    manager: CacheManager,
    log: Log,
    clock: Clock,
    serial: AtomicU32,
    over: AtomicBool,
}

impl Desk {
    async fn open(plan: &Plan) -> Result<Self, Failure> {
        let clock = Clock::new();
        // As `StoreHaus::open` has it: no statement of a client that is gone is committed after its intents have ended.
        let watched = [("client_connection_check_interval", "1000")];
        let database = plan.database.parse::<PgConnectOptions>()?.options(watched);
        let pool = PgPoolOptions::new()
            .max_connections(12)
            .acquire_timeout(Duration::from_secs(2))
            .connect_lazy_with(database.application_name(&application(plan.number)));
        let haus = StoreHaus::<Postgres>::builder()
            .database(pool)
            .cache(plan.variant.cache(&plan.redis, &plan.prefix))
            .build()
            .await?;
        let manager = haus.cache()?.clone();
        let store = haus.store_with::<Entry>(|params| params.with_negative_ttl(60u64));
        let log = Log::create(&plan.log)?;
        let (serial, over) = (AtomicU32::new(1), AtomicBool::new(false));
        Ok(Self { number: plan.number, haus, store, manager, log, clock, serial, over })
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub(super) fn new_op(&self, task: u16) -> Op {
        op(self.number, task, self.serial.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn begin(&self, op: Op, call: Call, writes: Vec<i64>, deletes: Vec<i64>) -> Result<(), Failure> {
        Ok(self.log.write(&Event::Begin { op, at: self.clock.now(), call, writes, deletes })?)
    }

    pub(super) fn end(&self, op: Op, outcome: Outcome, wrote: Vec<(i64, i64)>, deleted: u64) -> Result<(), Failure> {
        Ok(self.log.write(&Event::End { op, at: self.clock.now(), outcome, wrote, deleted })?)
    }

    /// Writes down how a write ended.
    pub(super) fn ended(&self, op: Op, ended: Option<storehaus::Result<Wrote>>) -> Result<(), Failure> {
        match ended {
            Some(Ok(Wrote { versions, deleted })) => self.end(op, Outcome::Done, versions, deleted),
            Some(Err(StorehausError::NotInvalidated(_))) => self.end(op, Outcome::Committed, Vec::new(), 0),
            Some(Err(error)) if error.is_unchanged() => self.end(op, Outcome::Failed, Vec::new(), 0),
            Some(Err(_)) | None => self.end(op, Outcome::Unknown, Vec::new(), 0),
        }
    }

    /// Reads one row.
    pub(super) async fn get(&self, task: u16, call: Call, key: i64) -> Result<bool, Failure> {
        let at = self.clock.now();
        let read = self.store.get_by_id(&key).await;
        let end = self.clock.now();
        self.saw(task, call, (at, end), &[key], read.map(|row| vec![row]))
    }

    /// Reads many rows.
    pub(super) async fn get_many(&self, task: u16, call: Call, keys: &[i64]) -> Result<bool, Failure> {
        let at = self.clock.now();
        let read = self.store.get_many(keys).await;
        let end = self.clock.now();
        self.saw(task, call, (at, end), keys, read)
    }

    fn saw(
        &self,
        task: u16,
        call: Call,
        (at, end): (u64, u64),
        keys: &[i64],
        read: storehaus::Result<Vec<Option<Entry>>>,
    ) -> Result<bool, Failure> {
        let Ok(rows) = read else {
            self.log.write(&Event::Failed { at, end })?;
            return Ok(false);
        };
        let seen = keys.iter().zip(rows).map(|(key, row)| match row {
            Some(row) => Seen { key: *key, ver: Some(row.ver), writer: row.writer, whole: row.is_whole(*key) },
            None => Seen { key: *key, ver: None, writer: 0, whole: true },
        });
        self.log.write(&Event::Read { task, call, at, end, seen: seen.collect() })?;
        Ok(true)
    }

    /// Reads every row, alone and in batches. Nothing fails any more, so no read may.
    async fn sweep(&self) -> Result<(), Failure> {
        let keys: Vec<i64> = (1..=KEYS).collect();
        for key in &keys {
            if !self.get(u16::MAX, Call::Sweep, *key).await? {
                return Err("a read failed after all faults had ended".into());
            }
        }
        for keys in keys.chunks(GROUP as usize) {
            if !self.get_many(u16::MAX, Call::Sweep, keys).await? {
                return Err("a read failed after all faults had ended".into());
            }
        }
        Ok(())
    }

    async fn count_hits(self: Arc<Self>) -> Result<(), Failure> {
        while !self.is_over() {
            let stats = self.manager.get_stats().await?;
            self.log.write(&Event::Hits { at: self.clock.now(), hits: stats.hits, misses: stats.misses })?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

/// What a write returned.
#[derive(Debug, Default)]
pub(super) struct Wrote {
    pub(super) versions: Vec<(i64, i64)>,
    pub(super) deleted: u64,
}

impl From<Entry> for Wrote {
    fn from(row: Entry) -> Self {
        Self { versions: vec![(row.id, row.ver)], deleted: 0 }
    }
}

impl From<Vec<Entry>> for Wrote {
    fn from(rows: Vec<Entry>) -> Self {
        Self { versions: rows.into_iter().map(|row| (row.id, row.ver)).collect(), deleted: 0 }
    }
}

/// One task.
pub(super) struct Hand {
    pub(super) desk: Arc<Desk>,
    pub(super) task: u16,
    pub(super) rng: Rng,
}

impl Hand {
    /// Writes and reads.
    async fn work(mut self) -> Result<(), Failure> {
        while !self.desk.is_over() {
            self.step().await?;
            self.pause(6).await;
        }
        Ok(())
    }

    /// Reads.
    async fn read(mut self) -> Result<(), Failure> {
        while !self.desk.is_over() {
            if self.rng.below(8) == 0 {
                let keys = self.keys(6, 2);
                self.desk.get_many(self.task, Call::GetMany, &keys).await?;
            } else {
                let key = self.key(2);
                self.desk.get(self.task, Call::Get, key).await?;
            }
            self.pause(3).await;
        }
        Ok(())
    }

    async fn pause(&mut self, most: u64) {
        tokio::time::sleep(Duration::from_micros(self.rng.below(most * 1_000))).await;
    }

    /// A key of the group whose turn it is; one time in `any` of all keys. Always of the group when `any` is 0.
    pub(super) fn key(&mut self, any: u64) -> i64 {
        if any > 0 && self.rng.below(any) == 0 {
            return 1 + self.rng.below(GROUPS * GROUP) as i64;
        }
        let group = self.desk.clock.now() / nanos(TURN) % GROUPS;
        1 + (group * GROUP + self.rng.below(GROUP)) as i64
    }

    /// Up to `most` distinct keys. Mostly in order, so that writers seldom wait for each other in a circle.
    pub(super) fn keys(&mut self, most: u64, any: u64) -> Vec<i64> {
        let mut keys = Vec::new();
        for _ in 0..2 + self.rng.below(most - 1) {
            let key = self.key(any);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if self.rng.below(8) > 0 {
            keys.sort_unstable();
        }
        keys
    }
}
