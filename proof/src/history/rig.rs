//! The processes of a run, the servers they use, and the proxies between them.

use std::fs;
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use storehaus::prelude::*;
use storehaus::sqlx::ConnectOptions as _;
use storehaus::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::check::{History, Process};
use super::clock::Clock;
use super::event;
use super::nemesis::{Place, everyday};
use super::plan::{KEYS, Plan, Variant};
use super::table;
use crate::proxy::Proxy;
use crate::server::{Server, temp_dir, url_of};

type Failure = Box<dyn std::error::Error>;

/// A run under way.
pub struct Rig {
    /// The clock of the run.
    pub clock: Clock,
    /// The database, without a proxy.
    pub pool: PgPool,
    /// The cache server.
    pub server: Server,
    /// The way of each place to the database and to the cache server.
    pub links: Vec<(Proxy, Proxy)>,
    variant: Variant,
    bug: Option<String>,
    seed: u64,
    database: PgConnectOptions,
    dir: PathBuf,
    /// The process at each place.
    running: Vec<Worker>,
    /// Those that were killed.
    dead: Vec<(u16, u64)>,
    started: u16,
}

struct Worker {
    number: u16,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Rig {
    /// Starts servers, proxies and one process per place; everything is at work when this returns. With
    /// a bug in the processes, if it is named.
    ///
    /// # Errors
    /// When something cannot be started.
    pub async fn start(variant: Variant, seed: u64, places: usize, bug: Option<&str>) -> Result<Self, Failure> {
        let database: PgConnectOptions = std::env::var("DATABASE_URL")?.parse()?;
        let pool = PgPoolOptions::new().max_connections(4).connect_with(database.clone()).await?;
        table::create(&pool, KEYS).await?;
        let server = Server::start().await?;
        let upstream = (database.get_host(), database.get_port()).to_socket_addrs()?.next();
        let upstream = upstream.ok_or("the host of DATABASE_URL has no address")?;
        let mut links = Vec::new();
        for place in 0..places {
            let (database, cache) = (Proxy::start(upstream).await?, Proxy::start(server.addr()).await?);
            everyday(&database, Place::Database(place), seed ^ (place as u64) << 32);
            everyday(&cache, Place::Cache(place), seed ^ (place as u64) << 33);
            links.push((database, cache));
        }
        let dir = temp_dir("history")?;
        let mut rig = Self {
            clock: Clock::new(),
            pool,
            server,
            links,
            variant,
            bug: bug.map(str::to_owned),
            seed,
            database,
            dir,
            running: Vec::new(),
            dead: Vec::new(),
            started: 0,
        };
        for place in 0..places {
            let worker = rig.spawn(place).await?;
            rig.running.push(worker);
        }
        for place in 0..places {
            rig.running[place].hear("ready").await?;
        }
        Ok(rig)
    }

    /// Kills the process at a place, as a crash does, and starts another one there.
    ///
    /// # Errors
    /// When that cannot be done.
    pub async fn kill(&mut self, place: usize) -> Result<(), Failure> {
        let fresh = self.spawn(place).await?;
        let mut dead = std::mem::replace(&mut self.running[place], fresh);
        if let Some(status) = dead.child.try_wait()? {
            return Err(format!("process {} ended by itself: {status}", dead.number).into());
        }
        dead.child.start_kill()?;
        dead.child.wait().await?;
        // Not before the process is gone: what it wrote down last may be later than the order to die.
        self.dead.push((dead.number, self.clock.now()));
        self.running[place].hear("ready").await
    }

    /// Ends the load and waits until nothing is under way any more.
    ///
    /// # Errors
    /// When a process failed or does not answer.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        self.tell("stop", "quiet").await
    }

    /// Has every process read every row.
    ///
    /// # Errors
    /// When a process failed or does not answer.
    pub async fn sweep(&mut self) -> Result<(), Failure> {
        self.tell("sweep", "done").await
    }

    /// What all processes wrote down.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn history(&self) -> Result<History, Failure> {
        let mut processes = Vec::new();
        for worker in &self.running {
            let events = event::read(&self.log(worker.number), false)?;
            processes.push(Process { number: worker.number, killed: None, events });
        }
        for (number, killed) in &self.dead {
            let path = self.log(*number);
            // Killed before it had begun, it left none.
            let events = if path.exists() { event::read(&path, true)? } else { Vec::new() };
            processes.push(Process { number: *number, killed: Some(*killed), events });
        }
        Ok(History::collect(processes))
    }

    async fn tell(&mut self, order: &str, answer: &str) -> Result<(), Failure> {
        for worker in &mut self.running {
            worker.input.write_all(format!("{order}\n").as_bytes()).await?;
        }
        for worker in &mut self.running {
            worker.hear(answer).await?;
        }
        Ok(())
    }

    async fn spawn(&mut self, place: usize) -> Result<Worker, Failure> {
        self.started += 1;
        let number = self.started;
        let (database, cache) = &self.links[place];
        let plan = Plan {
            number,
            variant: self.variant,
            database: self.database.clone().host("127.0.0.1").port(database.addr().port()).to_url_lossy().into(),
            redis: url_of(cache.addr()),
            prefix: format!("history-{}", self.seed),
            seed: self.seed,
            log: self.log(number),
            writers: 4,
            readers: 4,
        };
        let mut child = Command::new(std::env::current_exe()?)
            .arg(super::worker::NAME)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .envs(self.bug.as_ref().map(|bug| ("STOREHAUS_BROKEN", bug)))
            .kill_on_drop(true)
            .spawn()?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a process has no pipes".into());
        };
        input.write_all((serde_json::to_string(&plan)? + "\n").as_bytes()).await?;
        Ok(Worker { number, child, input, output: BufReader::new(output).lines() })
    }

    fn log(&self, number: u16) -> PathBuf {
        self.dir.join(format!("{number}.jsonl"))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Left behind when it cannot be removed, and then it hurts nobody.
        fs::remove_dir_all(&self.dir).ok();
    }
}

impl Worker {
    /// Waits for a word of the process.
    async fn hear(&mut self, word: &str) -> Result<(), Failure> {
        let heard = timeout(PATIENCE, self.output.next_line()).await;
        match heard.map_err(|_| format!("process {} did not say `{word}` within {PATIENCE:?}", self.number))?? {
            Some(line) if line == word => Ok(()),
            Some(line) => Err(format!("process {} said `{line}`, not `{word}`", self.number).into()),
            None => Err(format!("process {} ended before it said `{word}`", self.number).into()),
        }
    }
}

/// How long a process may take to do what it is told.
const PATIENCE: Duration = Duration::from_secs(30);
