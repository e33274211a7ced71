//! PostgreSQL and Redis for a command: from the environment, from local binaries, from packages, from docker.

pub(crate) mod docker;
pub(crate) mod packages;
pub(crate) mod postgres;
pub(crate) mod redis;

use std::env;
use std::fs::{self, DirBuilder};
use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::run::{Failure, Outcome};
use crate::supervisor::{Supervisor, pause};

/// How long a server may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How often a server that did not come up is tried on another port.
const PORTS_TRIED: usize = 3;

/// Servers that live as long as this value.
#[derive(Debug)]
pub(crate) struct Servers {
    supervisor: Supervisor,
    env: Vec<(&'static str, String)>,
}

impl Servers {
    /// Both servers, and the path of a Redis binary when there is one.
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut servers = Self::both(postgres::FAST)?;
        // Tests that kill a server start their own; they have no use for a container or somebody else's server.
        servers.env.extend(redis::binary().map(|path| ("STOREHAUS_REDIS_SERVER", path.display().to_string())));
        Ok(servers)
    }

    /// Both servers, a PostgreSQL of ours with its commits on disk and room for the pools of many rivals.
    pub(crate) fn for_benchmarks() -> Result<Self, Failure> {
        Self::both(postgres::DURABLE)
    }

    /// PostgreSQL, and the path of a Redis binary: the program starts and kills Redis by itself.
    pub(crate) fn for_outages() -> Result<Self, Failure> {
        let mut servers = Self::none()?;
        let path = redis::binary_or_package()?;
        servers.env.push(("STOREHAUS_REDIS_SERVER", path.display().to_string()));
        let dir = servers.dir()?;
        servers.add_postgres(&dir, postgres::FAST)?;
        Ok(servers)
    }

    fn both(postgres: &[&str]) -> Result<Self, Failure> {
        let mut servers = Self::none()?;
        let dir = servers.dir()?;
        servers.add_postgres(&dir, postgres)?;
        let url = given("REDIS_URL").map_or_else(|| redis::start(&mut servers.supervisor, &dir), Ok)?;
        servers.env.push(("REDIS_URL", url));
        Ok(servers)
    }

    fn add_postgres(&mut self, dir: &Path, settings: &[&str]) -> Result<(), Failure> {
        let url = given("DATABASE_URL").map_or_else(|| postgres::start(&mut self.supervisor, dir, settings), Ok)?;
        self.env.push(("DATABASE_URL", url));
        Ok(())
    }

    /// Runs a command against the servers. What it leaves running is stopped with it.
    pub(crate) fn run(&mut self, command: &mut Command) -> Outcome {
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let name = command.get_program().to_string_lossy().into_owned();
        let failed = |error: io::Error| Failure::new(format!("cannot run {name}: {error}"));
        // At a terminal the command stays in the foreground, so that it may read keys and Ctrl-C reaches it.
        let status = if io::stdin().is_terminal() {
            command.status().map_err(failed)?
        } else {
            let mut child = command.process_group(0).spawn().map_err(failed)?;
            self.supervisor.owns_group(child.id())?;
            let status = child.wait().map_err(failed)?;
            self.supervisor.group_ended(child.id())?;
            status
        };
        match status.code() {
            Some(0) => Ok(()),
            Some(code) => Err(Failure::Status(u8::try_from(code).unwrap_or(1))),
            None => Err(Failure::new(format!("{name} ended by a signal ({status})"))),
        }
    }

    fn none() -> Result<Self, Failure> {
        Ok(Self { supervisor: Supervisor::start()?, env: Vec::new() })
    }

    fn dir(&mut self) -> Result<PathBuf, Failure> {
        let dir = temp_dir()?;
        self.supervisor.owns_dir(dir.display())?;
        Ok(dir)
    }
}

fn given(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A new directory that everybody may enter and nobody else may list. Short, because a socket lives in it.
pub(crate) fn temp_dir() -> Result<PathBuf, Failure> {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let name = format!("storehaus-{}-{nanos}-{}", process::id(), SERIAL.fetch_add(1, Ordering::Relaxed));
    let parent = Some(env::temp_dir()).filter(|dir| dir.as_os_str().len() < 40).unwrap_or_else(|| "/tmp".into());
    let dir = parent.join(name);
    DirBuilder::new()
        .mode(0o711)
        .create(&dir)
        .map_err(|error| Failure::new(format!("cannot create {}: {error}", dir.display())))?;
    Ok(dir)
}

/// Starts a server on a free loopback port and waits until it answers; its port. `command` gets port and log file.
fn launch(
    supervisor: &mut Supervisor,
    name: &str,
    log: &Path,
    command: impl Fn(u16) -> Command,
    is_ready: impl Fn(u16) -> bool,
) -> Result<u16, Failure> {
    let failed = |error: io::Error| Failure::new(format!("cannot start {name}: {error}"));
    for _ in 0..PORTS_TRIED {
        // Between this look and the server's own bind somebody may take the port; hence the tries.
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).map_err(failed)?.port();
        let out = fs::File::create(log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let server = supervisor.spawn(command(port).stdout(out).stderr(err))?;
        let deadline = Instant::now() + READY_WITHIN;
        while supervisor.is_running(server) {
            if is_ready(port) {
                return Ok(port);
            }
            if Instant::now() > deadline {
                let text = fs::read_to_string(log).unwrap_or_default();
                return Err(Failure::new(format!("{name} did not answer within {READY_WITHIN:?}; its log:\n{text}")));
            }
            pause();
        }
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    Err(Failure::new(format!("{name} ended instead of starting, {PORTS_TRIED} times; its log:\n{text}")))
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_dies_is_reported_with_its_log() {
        let dir = temp_dir().unwrap();
        let mut supervisor = Supervisor::start().unwrap();
        supervisor.owns_dir(dir.display()).unwrap();
        let command = |_: u16| {
            let mut command = Command::new("sh");
            command.args(["-c", "echo no licence to run >&2; exit 3"]);
            command
        };
        let failure = launch(&mut supervisor, "server", &dir.join("log"), command, |_| false).unwrap_err();
        let Failure::Failed(text) = failure else { panic!("{failure:?}") };
        assert!(text.contains("no licence to run"), "{text}");
    }

    #[test]
    fn temp_dirs_differ() {
        let (one, two) = (temp_dir().unwrap(), temp_dir().unwrap());
        assert_ne!(one, two);
        fs::remove_dir(one).unwrap();
        fs::remove_dir(two).unwrap();
    }
}
