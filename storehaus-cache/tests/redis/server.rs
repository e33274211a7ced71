//! Private servers, and what is needed to look at them.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use storehaus_cache::codec::header::Token;
use storehaus_cache::l2::{Claim, Fill, L2Error};
use storehaus_cache::redis::{RedisSettings, RedisTier};
use storehaus_cache::remote::{Remote, RemoteSettings};
use tokio::time::Instant;

pub(super) const TTL: Duration = Duration::from_secs(60);

/// A private server; ends with the test.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    directory: PathBuf,
}

impl Server {
    pub(super) fn start(options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("storehaus-redis-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = spawn(port, &directory, options);
        Self { child, port, directory }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(super) fn kill(&mut self) {
        self.signal("-KILL");
        self.child.wait().unwrap();
    }

    pub(super) fn restart(&mut self, options: &[&str]) {
        self.child = spawn(self.port, &self.directory, options);
    }

    pub(super) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    pub(super) fn tier(&self) -> RedisTier {
        tier(&self.url(), 1)
    }

    pub(super) fn remote(&self) -> Remote<RedisTier> {
        Remote::new(tier(&self.url(), 4), RemoteSettings::new("app:*"))
    }

    /// A connection to look at the server from outside.
    pub(super) async fn admin(&self) -> MultiplexedConnection {
        redis::Client::open(self.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Returns when the server says that it accepts connections, or loads its file.
pub(super) fn spawn(port: u16, directory: &PathBuf, options: &[&str]) -> Child {
    let mut child = Command::new(std::env::var("STOREHAUS_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned()))
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--appendonly", "no", "--save", ""])
        .arg("--dir")
        .arg(directory)
        .args(options)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("these tests need redis-server, version 7.0 or later, on the PATH");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Ready to accept connections")), "redis-server ended at once");
    std::thread::spawn(move || lines.for_each(drop));
    child
}

pub(super) fn tier(url: &str, pool_size: usize) -> RedisTier {
    let pool_size = NonZeroUsize::new(pool_size).unwrap();
    // More than the default, as the tests share few cores.
    RedisTier::new(RedisSettings { pool_size, connect_timeout: Duration::from_secs(1), ..RedisSettings::new(url) })
        .unwrap()
}

/// The deadline of a read whose duration is not what the test is about.
pub(super) fn patient() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

pub(super) fn token() -> Token {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    Token { instance: 7, serial: SERIAL.fetch_add(1, Ordering::Relaxed) }
}

pub(super) fn fill(key: &str, token: Token, value: &[u8]) -> Fill {
    Fill { key: key.to_owned(), token, value: value.to_vec(), ttl: TTL }
}

pub(super) fn claims(names: &[&str], token: Option<Token>) -> Vec<Claim> {
    names.iter().map(|name| ((*name).to_owned(), token)).collect()
}

pub(super) fn keys(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) async fn run(admin: &mut MultiplexedConnection, command: &str) -> redis::Value {
    let mut parts = command.split(' ');
    let mut sent = redis::cmd(parts.next().unwrap());
    for part in parts {
        sent.arg(part);
    }
    sent.query_async(admin).await.unwrap()
}

/// How often each command was called, those that look at the server apart.
pub(super) async fn calls(admin: &mut MultiplexedConnection) -> Vec<(String, u64)> {
    let text: String = redis::cmd("INFO").arg("commandstats").query_async(admin).await.unwrap();
    let counts = text.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
    counts
        .map(|(name, rest)| (name.to_owned(), rest.split(',').next().unwrap().parse().unwrap()))
        .filter(|(name, _)| !name.starts_with("config") && name != "info")
        .collect()
}

/// The commands one operation sends.
pub(super) async fn cost(admin: &mut MultiplexedConnection, operation: impl Future) -> Vec<(String, u64)> {
    run(admin, "CONFIG RESETSTAT").await;
    operation.await;
    let mut calls = calls(admin).await;
    calls.sort();
    calls
}

pub(super) fn sent(counts: &[(&str, u64)]) -> Vec<(String, u64)> {
    counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

pub(super) fn code(error: &L2Error) -> &str {
    match error {
        L2Error::Refused { code, .. } => code,
        other => panic!("not a refusal: {other}"),
    }
}
