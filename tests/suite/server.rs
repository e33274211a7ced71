//! A Redis server of a test's own: one whose commands are counted, or that is stopped and started again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use redis::aio::MultiplexedConnection;

/// Ends with the test.
pub(crate) struct Server {
    child: Child,
    port: u16,
    directory: PathBuf,
}

impl Server {
    pub(crate) fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("storehaus-suite-redis-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        // Between this look and the server's own bind somebody may take the port.
        let started = (0..5).find_map(|_| {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            spawn(port, &directory).map(|child| (child, port))
        });
        let (child, port) = started.expect("redis-server ends at once");
        Self { child, port, directory }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.directory).expect("redis-server ends at once");
    }

    /// Stops (`-STOP`) or continues (`-CONT`) the process.
    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// A connection beside those of the cache.
    pub(crate) async fn admin(&self) -> Admin {
        Admin::connect(&self.url()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Looks at a server from outside.
pub(crate) struct Admin(MultiplexedConnection);

impl Admin {
    pub(crate) async fn connect(url: &str) -> Self {
        Self(redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap())
    }

    pub(crate) async fn run<T: redis::FromRedisValue>(&mut self, command: &[&str]) -> T {
        redis::cmd(command[0]).arg(&command[1..]).query_async(&mut self.0).await.unwrap()
    }

    /// Forgets what was counted.
    pub(crate) async fn reset(&mut self) {
        self.run::<()>(&["CONFIG", "RESETSTAT"]).await;
    }

    /// How often each command was called since, those of scripts included; neither those of this connection, nor what
    /// processes tell each other at intervals.
    pub(crate) async fn calls(&mut self) -> BTreeMap<String, u64> {
        let text: String = self.run(&["INFO", "commandstats"]).await;
        let counts = text.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
        counts
            .map(|(name, rest)| (name.to_owned(), rest.split(',').next().unwrap().parse().unwrap()))
            .filter(|(name, _)| {
                !name.starts_with("config") && !["info", "publish", "subscribe"].contains(&name.as_str())
            })
            .collect()
    }
}

/// What [`Admin::calls`] is compared with.
pub(crate) fn calls<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn spawn(port: u16, directory: &PathBuf) -> Option<Child> {
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
    if lines.any(|line| line.unwrap().contains("Ready to accept connections")) {
        std::thread::spawn(move || lines.for_each(drop));
        return Some(child);
    }
    let _ = child.wait();
    None
}
