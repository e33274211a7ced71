//! A Redis of the program's own, to be killed, stopped and locked.

use std::env;
use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A Redis server on a free loopback port; gone when this is dropped.
pub struct Server {
    port: u16,
    child: Child,
}

impl Server {
    /// Starts `redis-server`: the one `STOREHAUS_REDIS_SERVER` names, or the one on the path.
    ///
    /// # Errors
    /// When there is none, or it does not answer within five seconds.
    pub async fn start() -> io::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Self { port, child: spawn(port)? };
        server.answers().await?;
        Ok(server)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it at once, as a crash does.
    ///
    /// # Errors
    /// When the process cannot be reached.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts it again, empty, on the same port.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart(&mut self) -> io::Result<()> {
        self.child = spawn(self.port)?;
        self.answers().await
    }

    /// Stops it without ending it: connections stay open and nothing is answered.
    ///
    /// # Errors
    /// When the process cannot be reached.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When the process cannot be reached.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    /// A connection for the program's own commands.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn connect(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        redis::Client::open(self.url())?.get_multiplexed_async_connection().await
    }

    async fn answers(&self) -> io::Result<()> {
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

    fn signal(&self, signal: &str) -> io::Result<()> {
        let status = Command::new("kill").arg(signal).arg(self.child.id().to_string()).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill {signal} failed: {status}"))) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            std::panic::resume_unwind(Box::new(format!("redis-server was not stopped: {error}")));
        }
    }
}

fn spawn(port: u16) -> io::Result<Child> {
    let binary = env::var("STOREHAUS_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    Command::new(binary)
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string()])
        .args(["--dir", &env::temp_dir().to_string_lossy()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
