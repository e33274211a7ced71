//! What an interval costs in processor time: this process, the Redis server, the PostgreSQL server and its children.
//! From `/proc`; where that does not tell, and for servers of another machine, the figures are zero.

use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use storehaus::sqlx;

use crate::harness::Failure;
use crate::world::World;

/// Processor time, user and system together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) client: Duration,
    pub(crate) redis: Duration,
    pub(crate) postgres: Duration,
}

impl Cpu {
    pub(crate) fn add(&mut self, other: Self) {
        self.client += other.client;
        self.redis += other.redis;
        self.postgres += other.postgres;
    }
}

/// The servers to watch; nothing is watched before they are known.
static SERVERS: OnceLock<Servers> = OnceLock::new();

#[derive(Debug, Default)]
struct Servers {
    redis: Option<u32>,
    /// The process whose children serve the connections.
    postgres: Option<u32>,
}

/// Finds the servers' processes, when they run on this machine.
pub(crate) async fn watch(world: &World) -> Result<(), Failure> {
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut world.redis()).await?;
    let redis = info.lines().find_map(|line| line.strip_prefix("process_id:")?.trim().parse().ok());
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&world.pool).await?;
    let postgres = u32::try_from(backend).ok().filter(|pid| named(*pid, "postgres")).and_then(parent);
    let redis = redis.filter(|pid| named(*pid, "redis") || named(*pid, "valkey"));
    // A second call finds the same servers.
    SERVERS.set(Servers { redis, postgres }).ok();
    Ok(())
}

/// Begins an interval.
pub(crate) struct Meter {
    before: Threads,
    start: Instant,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { before: Threads::now(), start: Instant::now() }
    }

    /// When the interval began.
    pub(crate) fn started(&self) -> Instant {
        self.start
    }

    /// Ends it.
    pub(crate) fn stop(self) -> (Duration, Cpu) {
        let elapsed = self.start.elapsed();
        let after = Threads::now();
        let spent = |of: fn(&Threads) -> &HashMap<u32, u64>| {
            let before = of(&self.before);
            let threads = of(&after).iter();
            let nanos = threads.map(|(thread, nanos)| nanos.saturating_sub(before.get(thread).copied().unwrap_or(0)));
            Duration::from_nanos(nanos.sum())
        };
        let cpu =
            Cpu { client: spent(|of| &of.client), redis: spent(|of| &of.redis), postgres: spent(|of| &of.postgres) };
        (elapsed, cpu)
    }
}

/// The nanoseconds each thread has run. Those of threads that ended are lost.
#[derive(Default)]
struct Threads {
    client: HashMap<u32, u64>,
    redis: HashMap<u32, u64>,
    postgres: HashMap<u32, u64>,
}

impl Threads {
    fn now() -> Self {
        let Some(servers) = SERVERS.get() else { return Self::default() };
        let mut now = Self { client: threads(std::process::id()), ..Self::default() };
        now.redis = servers.redis.map(threads).unwrap_or_default();
        if let Some(postmaster) = servers.postgres {
            let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
            let children = children.unwrap_or_default();
            let processes = children.split_whitespace().filter_map(|pid| pid.parse().ok()).chain([postmaster]);
            now.postgres = processes.filter_map(|pid| Some((pid, ran(&format!("/proc/{pid}/schedstat"))?))).collect();
        }
        now
    }
}

fn threads(process: u32) -> HashMap<u32, u64> {
    let Ok(dir) = fs::read_dir(format!("/proc/{process}/task")) else { return HashMap::new() };
    let of = |entry: fs::DirEntry| {
        Some((entry.file_name().to_str()?.parse().ok()?, ran(entry.path().join("schedstat").to_str()?)?))
    };
    dir.filter_map(|entry| of(entry.ok()?)).collect()
}

fn ran(schedstat: &str) -> Option<u64> {
    fs::read_to_string(schedstat).ok()?.split_whitespace().next()?.parse().ok()
}

fn named(process: u32, name: &str) -> bool {
    fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|comm| comm.starts_with(name))
}

/// The parent: the second field behind the name, which is in parentheses.
fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_seen_to() {
        let busy = Instant::now();
        let own = std::process::id();
        let before: u64 = threads(own).values().sum();
        while busy.elapsed() < Duration::from_millis(200) {
            std::hint::black_box(before);
        }
        let spent = threads(own).values().sum::<u64>() - before;
        assert!(spent > 0, "{spent}");
    }

    #[test]
    fn the_parent_of_this_process_exists() {
        let parent = parent(std::process::id()).unwrap();
        assert!(fs::exists(format!("/proc/{parent}")).unwrap());
    }
}
