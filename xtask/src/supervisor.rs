//! Leaves nothing behind, however this process ends.
//!
//! A small shell in a process group of its own reads from a pipe what there is to clean up. When the pipe closes,
//! because the supervisor is dropped or because this process is gone (Ctrl-C, SIGTERM, even SIGKILL), it stops the
//! servers, removes the containers and deletes the directories. There is one way of cleaning up and every run takes it.

use std::fmt::Display;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::run::Failure;

/// Reads lines `KIND VALUE` until the pipe closes:
/// `server PID` and `group PGID` are stopped at the end, `ended PGID` at once, `container` and `dir` are removed.
///
/// A server that exits stays visible to `kill -0` until its parent has collected it, which `Supervisor::drop` does
/// meanwhile; without a parent, init does.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
servers= groups= containers= dirs=
while read -r kind value; do
  case $kind in
    server) servers="$servers $value" ;;
    group) groups="$groups $value" ;;
    ended)
      left=
      for g in $groups; do [ "$g" = "$value" ] || left="$left $g"; done
      groups=$left
      kill -TERM "-$value" ;;
    container) containers="$containers $value" ;;
    dir) dirs="$dirs $value" ;;
  esac
done
for g in $groups; do kill -TERM "-$g"; done
# PostgreSQL reads INT as "disconnect everybody and stop"; Redis stops on it too.
for s in $servers; do kill -INT "$s"; done
tries=0
for s in $servers; do
  while kill -0 "$s" && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
  kill -KILL "$s"
done
for c in $containers; do docker rm -f "$c"; done
for g in $groups; do kill -KILL "-$g"; done
for d in $dirs; do rm -rf -- "$d"; done
exit 0
"#;

/// How long `drop` waits for the cleaning; more than the script ever needs to stop servers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Cleans up when dropped or when this process dies.
#[derive(Debug)]
pub(crate) struct Supervisor {
    shell: Child,
    /// `None` once closed, which is the signal to clean up.
    pipe: Option<ChildStdin>,
    /// Collected at the end, so that none remains a zombie.
    servers: Vec<Child>,
}

impl Supervisor {
    /// Starts the shell.
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::new(format!("cannot start sh: {error}")))?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe, servers: Vec::new() })
    }

    /// Spawns a server apart from our process group, so that a Ctrl-C reaches it only through the cleaning.
    pub(crate) fn spawn(&mut self, command: &mut Command) -> Result<usize, Failure> {
        let name = command.get_program().to_string_lossy().into_owned();
        let server = command
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| Failure::new(format!("cannot start {name}: {error}")))?;
        let pid = server.id();
        self.servers.push(server);
        self.tell("server", pid)?;
        Ok(self.servers.len() - 1)
    }

    /// Whether a spawned server still runs.
    pub(crate) fn is_running(&mut self, server: usize) -> bool {
        self.servers.get_mut(server).is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Removes `dir` at the end.
    pub(crate) fn owns_dir(&mut self, dir: impl Display) -> Result<(), Failure> {
        self.tell("dir", dir)
    }

    /// Removes the container at the end.
    pub(crate) fn owns_container(&mut self, id: impl Display) -> Result<(), Failure> {
        self.tell("container", id)
    }

    /// Stops the process group at the end.
    pub(crate) fn owns_group(&mut self, leader: u32) -> Result<(), Failure> {
        self.tell("group", leader)
    }

    /// Stops what is left of a process group whose leader has ended, now.
    pub(crate) fn group_ended(&mut self, leader: u32) -> Result<(), Failure> {
        self.tell("ended", leader)
    }

    fn tell(&mut self, kind: &str, value: impl Display) -> Result<(), Failure> {
        let told = self.pipe.as_mut().map(|pipe| writeln!(pipe, "{kind} {value}").and_then(|()| pipe.flush()));
        match told {
            Some(Ok(())) => Ok(()),
            _ => Err(Failure::new("the shell that cleans up is gone")),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let children = self.servers.iter_mut().chain([&mut self.shell]);
            let running = children.filter_map(|child| child.try_wait().ok()).filter(Option::is_none).count();
            if running == 0 || Instant::now() > deadline {
                break;
            }
            pause();
        }
        // Only when the shell was killed: what it did not stop is stopped here.
        for server in &mut self.servers {
            if matches!(server.try_wait(), Ok(None)) {
                drop(server.kill());
                drop(server.wait());
            }
        }
    }
}

/// Between two looks at something another process does.
#[expect(clippy::disallowed_methods, reason = "no event of another process can be awaited with std alone")]
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(20));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::servers::temp_dir;

    fn exists(pid: u32) -> bool {
        Command::new("kill").args(["-0", &pid.to_string()]).stderr(Stdio::null()).status().unwrap().success()
    }

    fn until(mut done: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done() {
            if Instant::now() > deadline {
                return false;
            }
            pause();
        }
        true
    }

    fn dir_with_file() -> PathBuf {
        let dir = temp_dir().unwrap();
        fs::write(dir.join("file"), "x").unwrap();
        dir
    }

    #[test]
    fn dropping_stops_servers_and_removes_directories() {
        let dir = dir_with_file();
        let mut supervisor = Supervisor::start().unwrap();
        supervisor.owns_dir(dir.display()).unwrap();
        let server = supervisor.spawn(Command::new("sleep").arg("600")).unwrap();
        let pid = supervisor.servers[server].id();
        assert!(supervisor.is_running(server) && exists(pid));
        drop(supervisor);
        assert!(!exists(pid));
        assert!(!dir.exists());
    }

    #[test]
    fn the_rest_of_an_ended_group_is_stopped() {
        let mut supervisor = Supervisor::start().unwrap();
        let mut leader = Command::new("sh")
            .args(["-c", "sleep 600 & echo $!"])
            .process_group(0)
            .stdout(Stdio::piped())
            // Should the orphan outlive a failure, it holds nobody's pipe open.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        supervisor.owns_group(leader.id()).unwrap();
        let mut first = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(leader.stdout.take().unwrap()), &mut first).unwrap();
        leader.wait().unwrap();
        let orphan: u32 = first.trim().parse().unwrap();
        assert!(exists(orphan));
        supervisor.group_ended(leader.id()).unwrap();
        assert!(until(|| !exists(orphan)));
    }
}
