//! A Redis of the program's own, to be killed, stopped and locked.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, io};

/// A Redis server on a free loopback port, with a directory of its own; both gone when this is dropped.
pub struct Server {
    port: u16,
    options: Vec<String>,
    dir: PathBuf,
    child: Child,
}

impl Server {
    /// Starts `redis-server`: the one `STOREHAUS_REDIS_SERVER` names, or the one on the path.
    ///
    /// # Errors
    /// When there is none, or it does not answer within five seconds.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(&[]).await
    }

    /// As [`start`](Self::start), with further options on its command line: `--maxmemory`, `1mb`, ….
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(options: &[&str]) -> io::Result<Self> {
        let port = free_port()?;
        let dir = temp_dir("redis")?;
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let child = spawn(port, &dir, &options)?;
        let server = Self { port, options, dir, child };
        server.answers().await?;
        Ok(server)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        url_of(self.addr())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends it at once, as a crash does.
    ///
    /// # Errors
    /// When the process cannot be reached.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts it again on the same port, with what it saved, if it did.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart(&mut self) -> io::Result<()> {
        self.relaunch()?;
        self.answers().await
    }

    /// Starts it again without waiting until it answers.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn relaunch(&mut self) -> io::Result<()> {
        self.child = spawn(self.port, &self.dir, &self.options)?;
        Ok(())
    }

    /// Stops it without ending it: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// When the process cannot be reached.
    pub fn freeze(&self) -> io::Result<()> {
        signal(self.child.id(), "-STOP")
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When the process cannot be reached.
    pub fn thaw(&self) -> io::Result<()> {
        signal(self.child.id(), "-CONT")
    }

    /// A connection for the program's own commands.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn connect(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        redis::Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    /// Waits until it lets somebody in.
    ///
    /// # Errors
    /// When it does not within five seconds.
    pub async fn answers(&self) -> io::Result<()> {
        let mut last = String::new();
        for _ in 0..500 {
            match self.connect().await {
                Ok(_) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::other(format!("redis-server on port {} does not answer: {last}", self.port)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            std::panic::resume_unwind(Box::new(format!("redis-server was not stopped: {error}")));
        }
        // A directory that is gone already is what is wanted.
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// The URL of a Redis server, or of a proxy in front of one.
pub fn url_of(addr: SocketAddr) -> String {
    format!("redis://{addr}")
}

/// A port nobody listens on.
///
/// # Errors
/// When none is left.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A new directory.
///
/// # Errors
/// When it cannot be created.
pub fn temp_dir(what: &str) -> io::Result<PathBuf> {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let dir = env::temp_dir().join(format!("storehaus-proof-{what}-{}-{serial}", std::process::id()));
    fs::create_dir(&dir)?;
    Ok(dir)
}

/// Sends a signal, such as `-STOP`, to one process.
///
/// # Errors
/// When there is no such process or it belongs to somebody else.
pub fn signal(process: u32, signal: &str) -> io::Result<()> {
    let status = Command::new("kill").arg(signal).arg(process.to_string()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill {signal} failed: {status}"))) }
}

fn spawn(port: u16, dir: &Path, options: &[String]) -> io::Result<Child> {
    let binary = env::var("STOREHAUS_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    Command::new(binary)
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()])
        .arg("--dir")
        .arg(dir)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
