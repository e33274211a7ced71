//! A private Redis.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{connect, docker, launch, packages};
use crate::run::{Failure, find, output};
use crate::supervisor::Supervisor;

/// Starts a server of a local binary, of a package, or in a container, whichever can be had first; its URL.
pub(super) fn start(supervisor: &mut Supervisor, dir: &Path) -> Result<String, Failure> {
    let reason = match found() {
        Ok(path) => return start_local(supervisor, &path, dir),
        Err(reason) => reason,
    };
    let args = ["redis-server", "--save", "", "--appendonly", "no", "--enable-debug-command", "yes"];
    match docker::start(supervisor, "redis:7", 6379, &[], &args, is_ready) {
        Ok(port) => Ok(url(port)),
        Err(docker) => Err(Failure::new(format!(
            "there is no Redis:\n  REDIS_URL is not set\n  {reason}\n  {docker}\n\
             set REDIS_URL, or install Redis (package redis-server) or Valkey, or start docker"
        ))),
    }
}

/// A server binary on this machine.
pub(super) fn binary() -> Option<PathBuf> {
    let dirs: Vec<_> = ["/usr/local/bin", "/opt/homebrew/bin", "/usr/bin"].iter().map(PathBuf::from).collect();
    find("redis-server", &dirs).or_else(|| find("valkey-server", &dirs))
}

/// A server binary, installed if there was none.
pub(super) fn binary_or_package() -> Result<PathBuf, Failure> {
    found().map_err(|reason| {
        Failure::new(format!(
            "a redis-server binary is needed, to be killed and restarted: {reason}; install Redis or Valkey"
        ))
    })
}

fn found() -> Result<PathBuf, String> {
    if let Some(path) = binary() {
        return Ok(path);
    }
    packages::install("redis-server")?;
    binary().ok_or_else(|| "the package redis-server brought no redis-server".to_owned())
}

fn start_local(supervisor: &mut Supervisor, server: &Path, dir: &Path) -> Result<String, Failure> {
    let home = dir.join("redis");
    fs::create_dir(&home).map_err(|error| Failure::new(format!("cannot create {}: {error}", home.display())))?;
    let version = output(Command::new(server).arg("--version")).unwrap_or_default();
    let command = |port: u16| {
        let mut command = Command::new(server);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(&home).current_dir(&home);
        // Older servers know no such setting and allow DEBUG anyway.
        if major(&version) >= 7 {
            command.args(["--enable-debug-command", "local"]);
        }
        command
    };
    launch(supervisor, "redis-server", &dir.join("redis.log"), command, is_ready).map(url)
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

/// The major version in `Redis server v=7.0.15 sha=…`; 7 when the text is unknown.
fn major(version: &str) -> u32 {
    let number = version.split_once("v=").map(|(_, rest)| rest.split('.').next().unwrap_or_default());
    number.and_then(|digits| digits.parse().ok()).unwrap_or(7)
}

fn is_ready(port: u16) -> bool {
    let ask = || {
        let mut stream = connect(port)?;
        stream.write_all(b"PING\r\n")?;
        let mut reply = [0; 5];
        stream.read_exact(&mut reply).map(|()| reply)
    };
    ask().is_ok_and(|reply| &reply == b"+PONG")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read() {
        assert_eq!(major("Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc-5.1.0 bits=64"), 6);
        assert_eq!(major("Valkey server v=8.0.1 sha=0"), 8);
        assert_eq!(major(""), 7);
    }

    #[test]
    fn a_closed_port_is_not_ready() {
        assert!(!is_ready(1));
    }
}
