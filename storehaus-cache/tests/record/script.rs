//! A loader whose every load waits for the test, and a Redis server of the test's own.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use storehaus_cache::loader::{Aborted, Loader};
use storehaus_cache::record::{RecordCache, StoreInfo, Tiers};
use storehaus_cache::{CacheConfig, CacheManager, CacheParams, L1};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long a test waits for something that is bound to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    Refused,
    Aborted(Aborted),
}

pub(crate) type Rows = Vec<(i64, String)>;

/// A load under way: which keys, and where its rows go.
pub(crate) struct Call {
    pub(crate) keys: Vec<i64>,
    answer: oneshot::Sender<Result<Rows, Failed>>,
}

impl Call {
    pub(crate) fn answer(self, row: &str) {
        let rows = self.keys.iter().map(|key| (*key, row.to_owned())).collect();
        self.answer.send(Ok(rows)).unwrap_or_else(|_| panic!("the load was given up"));
    }

    pub(crate) fn find_nothing(self) {
        let _ = self.answer.send(Ok(Vec::new()));
    }

    pub(crate) fn fail(self) {
        let _ = self.answer.send(Err(Failed::Refused));
    }

    /// Makes the load panic.
    pub(crate) fn vanish(self) {
        drop(self.answer);
    }
}

pub(crate) struct Script(mpsc::UnboundedSender<Call>);

impl Script {
    async fn ask(&self, keys: Vec<i64>) -> Result<Rows, Failed> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Call { keys, answer }).unwrap_or_else(|_| panic!("the test is over"));
        answered.await.expect("the test lets this load panic")
    }
}

impl Loader for Script {
    type Key = i64;
    type Value = String;
    type Error = Failed;

    async fn load(&self, key: &i64) -> Result<Option<String>, Failed> {
        Ok(self.ask(vec![*key]).await?.pop().map(|(_, row)| row))
    }

    async fn load_many(&self, keys: &[i64]) -> Result<Rows, Failed> {
        self.ask(keys.to_vec()).await
    }

    fn aborted(&self, why: Aborted) -> Failed {
        Failed::Aborted(why)
    }
}

/// A cache and the loads it asks for.
pub(crate) struct Scene {
    pub(crate) cache: RecordCache<Script>,
    calls: mpsc::UnboundedReceiver<Call>,
}

pub(crate) const INFO: StoreInfo<'static> = StoreInfo { table: "rows", prefix: "rows", ttl: None, tiers: Tiers::All };

impl Scene {
    pub(crate) fn new(config: CacheConfig) -> Self {
        Self::with(CacheParams::new(CacheManager::new(config).unwrap()))
    }

    pub(crate) fn with(params: CacheParams) -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        Self { cache: RecordCache::new(Script(sender), params, &INFO).unwrap(), calls }
    }

    pub(crate) fn manager(&self) -> &CacheManager {
        self.cache.manager()
    }

    /// Waits until it hears of the writes of others, where it keeps rows in process that others change: until then it
    /// reads from Redis.
    pub(crate) async fn ready(self, kind: Kind) -> Self {
        if kind == Kind::Both {
            assert!(self.manager().listen().await);
        }
        self
    }

    /// Starts a read of one row.
    pub(crate) fn get(&self, key: i64) -> tokio::task::JoinHandle<Result<Option<String>, Failed>> {
        let cache = self.cache.clone();
        tokio::spawn(async move { cache.get(&key).await.map(|row| row.map(|row| row.to_string())) })
    }

    /// Starts a read of many rows.
    pub(crate) fn get_many(&self, keys: &[i64]) -> tokio::task::JoinHandle<Result<Vec<Option<String>>, Failed>> {
        let (cache, keys) = (self.cache.clone(), keys.to_vec());
        tokio::spawn(async move {
            let rows = cache.get_many(&keys).await?;
            Ok(rows.into_iter().map(|row| row.map(|row| row.to_string())).collect())
        })
    }

    /// The next load.
    pub(crate) async fn call(&mut self) -> Call {
        timeout(PATIENCE, self.calls.recv()).await.expect("no load was asked for").unwrap()
    }

    /// Reads a row that has to be loaded, and settles.
    pub(crate) async fn load(&mut self, key: i64, row: &str) {
        let read = self.get(key);
        self.call().await.answer(row);
        assert_eq!(read.await.unwrap(), Ok(Some(row.to_owned())));
        self.manager().settle().await;
    }

    /// Reads a row that must not be loaded.
    pub(crate) async fn hit(&mut self, key: i64, row: &str) {
        let mut read = self.get(key);
        tokio::select! {
            row_read = &mut read => assert_eq!(row_read.unwrap(), Ok(Some(row.to_owned()))),
            call = self.calls.recv() => panic!("{:?} loaded again", call.map(|call| call.keys)),
        }
    }

    pub(crate) async fn stats(&self) -> storehaus_cache::StoreStats {
        self.manager().get_stats().await.unwrap().total
    }
}

/// Which tiers a scene has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    InProcess,
    Redis,
    Both,
}

pub(crate) const KINDS: [Kind; 3] = [Kind::InProcess, Kind::Redis, Kind::Both];

impl Kind {
    pub(crate) fn config(self, server: &Server) -> CacheConfig {
        match self {
            Self::InProcess => CacheConfig::in_process(60, "app"),
            Self::Redis => server.config(),
            Self::Both => server.config().with_l1(L1::Bounded(PATIENCE)),
        }
    }
}

/// A private server; ends with the test.
pub(crate) struct Server {
    child: Child,
    port: u16,
    directory: PathBuf,
}

impl Server {
    pub(crate) fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("storehaus-record-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { child: spawn(port, &directory), port, directory }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Redis, and no read that gives up because the machine has too much to do.
    pub(crate) fn config(&self) -> CacheConfig {
        CacheConfig::new(self.url(), 60, "app").with_pool_size(1).with_read_budget(PATIENCE).with_timeout(PATIENCE)
    }

    /// Stops the server and starts it again with what it had saved.
    pub(crate) fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(self.port, &self.directory);
    }

    pub(crate) async fn run<T: redis::FromRedisValue>(&self, command: &[&[u8]]) -> T {
        let mut conn = redis::Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let mut sent = redis::Cmd::new();
        command.iter().for_each(|part| {
            sent.arg(*part);
        });
        sent.query_async(&mut conn).await.unwrap()
    }

    pub(crate) async fn content(&self, key: &str) -> Option<Vec<u8>> {
        self.run(&[b"GET", key.as_bytes()]).await
    }

    pub(crate) async fn put(&self, key: &str, content: &[u8]) {
        self.run::<()>(&[b"SET", key.as_bytes(), content, b"PX", b"60000"]).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn spawn(port: u16, directory: &PathBuf) -> Child {
    let program = std::env::var_os("STOREHAUS_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    let mut child = Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--appendonly", "no", "--save", ""])
        .arg("--dir")
        .arg(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this test starts a redis-server 7.0 or later: run it by `cargo xtask test`");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Ready to accept connections")), "redis-server ended at once");
    std::thread::spawn(move || lines.for_each(drop));
    child
}
