//! What the figures were taken on.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use storehaus::sqlx;

use crate::harness::Failure;
use crate::world::World;

/// Cores, processor, servers with the settings that matter, and the versions of what is compared.
pub(crate) async fn describe(world: &World) -> Result<Value, Failure> {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map_or_else(|_| UNKNOWN.to_owned(), |out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    let mut postgres = serde_json::Map::new();
    for name in ["server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers"] {
        let value = sqlx::query_scalar::<_, String>("SELECT current_setting($1)").bind(name);
        postgres.insert(name.to_owned(), value.fetch_one(&world.pool).await?.into());
    }
    let text: String = redis::cmd("INFO").arg("server").query_async(&mut world.redis()).await?;
    let redis = text.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or(UNKNOWN);
    let libraries: serde_json::Map<_, _> = ["bb8-redis", "quick_cache", "redis", "sqlx", "storehaus", "tokio"]
        .into_iter()
        .map(|name| (name.to_owned(), locked(LOCK, name).unwrap_or(UNKNOWN).into()))
        .collect();
    let tcp = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_else(|_| UNKNOWN.to_owned());
    Ok(json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": cpu(&info),
        "rustc": rustc,
        "postgres": postgres,
        "redis": redis,
        "libraries": libraries,
        // The kernel's way of pacing decides how large replies arrive, over loopback too.
        "tcp": tcp.trim(),
        "load_before": load_average(),
    }))
}

/// How busy the machine was during the last minute, as `/proc/loadavg` has it.
pub(crate) fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

fn cpu(info: &str) -> &str {
    let named = info.lines().find(|line| line.starts_with("model name"));
    named.and_then(|line| line.split_once(':')).map_or(UNKNOWN, |(_, name)| name.trim())
}

/// The version of a package in the lock file this was built from.
fn locked<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{name}\""));
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

const LOCK: &str = include_str!("../../Cargo.lock");
const UNKNOWN: &str = "unknown";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named() {
        assert_eq!(cpu("processor\t: 0\nmodel name\t: A Processor 3000\nflags\t: x\n"), "A Processor 3000");
        assert_eq!(cpu(""), UNKNOWN);
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        assert_eq!(locked(LOCK, "storehaus"), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(locked(LOCK, "no-such-package"), None);
    }
}
